"""Contenders of scoring.py and lockstep.py that need a separate environment: their pins conflict with those of lbr.

    uv venv peers && uv pip install -p peers torch 'sentence-transformers[onnx,openvino]'
    python benchmarks/lockstep.py MODEL COLLECTION --peers peers/bin/python

    ONNX O3        sentence-transformers with ONNX Runtime, the graph optimised at level O3
    ONNX int8      the same, quantised for the instructions of this processor
    OpenVINO       sentence-transformers with OpenVINO

All but `ONNX int8` compute in float32. A model is exported once, before the measurement.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PEERS = ("ONNX O3", "ONNX int8", "OpenVINO")
MARK = "scores: "


def instructions() -> str:
    """Return the name of the instruction set that the quantised model uses on this processor."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx512_vnni" if "avx512_vnni" in flags else "avx2"


def export(folder: str, exports: Path) -> None:
    """Write the model in each format below `exports`."""
    from sentence_transformers import (
        CrossEncoder,
        export_dynamic_quantized_onnx_model,
        export_optimized_onnx_model,
    )

    onnx = CrossEncoder(folder, device="cpu", backend="onnx", model_kwargs={"export": True})
    onnx.save_pretrained(str(exports / "onnx"))
    export_optimized_onnx_model(onnx, "O3", str(exports / "onnx"))
    export_dynamic_quantized_onnx_model(onnx, instructions(), str(exports / "onnx"))
    openvino = CrossEncoder(folder, device="cpu", backend="openvino", model_kwargs={"export": True})
    openvino.save_pretrained(str(exports / "openvino"))


def load(contender: str, exports: Path) -> Any:
    """Return the model of a contender, with raw scores."""
    import torch
    from sentence_transformers import CrossEncoder

    # otherwise OpenVINO computes in bfloat16 where a processor can
    kwargs: dict[str, Any] = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
    if contender != "OpenVINO":
        name = "model_O3.onnx" if contender == "ONNX O3" else f"model_qint8_{instructions()}.onnx"
        kwargs = {"file_name": f"onnx/{name}", "provider": "CPUExecutionProvider"}
    backend: Any = "openvino" if contender == "OpenVINO" else "onnx"
    folder = str(exports / backend)
    return CrossEncoder(folder, device="cpu", backend=backend, model_kwargs=kwargs, activation_fn=torch.nn.Identity())


def take_turns(model: Any, pairs: list[Any], size: int) -> None:
    """Compute a batch for each line of standard input, longest texts first, and print how many pairs it has.

    After the last batch come 0 and the first batch again.
    """
    ordered = sorted(pairs, key=lambda pair: -sum(map(len, pair)))
    model.predict(ordered[:size], batch_size=size, show_progress_bar=False)  # the first call prepares
    print("ready", flush=True)
    start = 0
    for _ in sys.stdin:
        batch = ordered[start : start + size]
        if batch:
            model.predict(batch, batch_size=size, show_progress_bar=False)
        print(len(batch), flush=True)
        start = start + size if batch else 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--exports", type=Path, required=True)
    parser.add_argument("--contender", help="without it, the model is exported")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--documents", type=int)
    parser.add_argument("--size", type=int)
    parser.add_argument("--turns", action="store_true", help="a batch for each line of standard input")
    options, _ = parser.parse_known_args()
    if options.contender is None:
        export(options.model, options.exports)
        return
    pairs = [tuple(pair) for pair in json.loads(options.file.read_text(encoding="utf-8"))[: options.documents]]
    model = load(options.contender, options.exports)
    if options.turns:
        take_turns(model, pairs, options.size)
        return
    scores = model.predict(pairs, batch_size=options.size, show_progress_bar=False)
    print(MARK + json.dumps([float(score) for score in scores]), flush=True)


if __name__ == "__main__":
    main()
