"""What setup a ranking: the JSON of `--manifest`, by which a run can be record from another and setup again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from lbr_cli import __version__
from lbr_cli.engines import UNLIMITED
from lbr_cli.engines.environment import version_of
from lbr_cli.models import LocalModel, ServedModel
from lbr_cli.models.digests import fingerprint, is_weights
from lbr_cli.setup import Setup

ENGINE_PACKAGES = ("openai", "ray", "vllm")  # called as their engines are
PACKAGES = ("torch", "transformers", "tokenizers")


def manifest(
    setup: Setup,
    options: Mapping[str, Any],
    inputs: list[tuple[str, str]],
    output: tuple[str, str],
    started: datetime,
) -> bytes:
    """A JSON object, indented. `inputs` and `output` are (path, sha256); `options` those of the command line."""
    model, identity, counts = setup.model, setup.identity, setup.scorer.counts
    files = identity.files if identity else {}
    spec = identity.spec if identity else None
    tokenizer = model.tokenizer if isinstance(model, ServedModel) else None
    local = next((place for place in (model, tokenizer) if isinstance(place, LocalModel)), None)
    engine = options.get("engine")
    packages = [*PACKAGES, engine] if engine in ENGINE_PACKAGES else PACKAGES
    record: dict[str, Any] = {
        "lbr": __version__,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        "model": None,
        "options": options,
        "inputs": [{"file": path, "sha256": digest} for path, digest in inputs],
        "output": {"file": output[0], "sha256": output[1]},
        "counts": {
            "queries": counts.queries,
            "candidates": counts.candidates,
            "pairs": counts.pairs,
            "computed": counts.pairs - counts.cached,
            "cached": counts.cached,
            "cached_share": round(counts.cached / counts.pairs, 6) if counts.pairs else 0.0,
            "truncated": counts.truncated,
            "tokens": counts.tokens,
        },
    }
    if model is not None:
        record["model"] = {
            "name": model.label,
            "revision": local.commit if local else None,
            "folder": str(local.folder.resolve()) if local else None,
            "weights": {name: digest for name, digest in files.items() if is_weights(name)},
            "fingerprint": fingerprint(files) if files else None,
            "family": repr(model.family),
        }
    if spec is not None:
        record["terms"] = {
            "device": spec.device,
            "dtype": spec.dtype,
            "max_length": spec.max_length if spec.max_length < UNLIMITED else None,
            "prompt": spec.prompt,
            "weights": spec.weights or None,
        }
    return orjson.dumps(_in_utf8(record), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _in_utf8(record: Any) -> Any:
    """The same with names of files that are no UTF-8 setup readable, and numbers that JSON has no room for as text."""
    if isinstance(record, dict):
        return {_in_utf8(key): _in_utf8(value) for key, value in record.items()}
    if isinstance(record, list):
        return [_in_utf8(value) for value in record]
    if isinstance(record, int) and abs(record) >= 1 << 63:
        return str(record)
    return record.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(record, str) else record
