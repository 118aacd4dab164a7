"""The JSON of `--manifest`: a record of everything that determines a ranking, to compare and to reproduce it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from lbr_cli import __version__
from lbr_cli.engines import ENGINES, UNLIMITED
from lbr_cli.engines.environment import LIBRARIES, version_of
from lbr_cli.models import LocalModel, ServedModel
from lbr_cli.models.digests import fingerprint, is_weights
from lbr_cli.setup import Setup


def manifest(
    setup: Setup, options: Mapping[str, Any], inputs: list[dict[str, str]], output: tuple[str, str], started: datetime
) -> bytes:
    """Return the manifest as an indented JSON object.

    `options` are those of the command line, `inputs` the result of `manifest_inputs`; `output` is (path, sha256).
    """
    model, identity, counts = setup.model, setup.identity, setup.scorer.counts
    files = identity.files if identity else {}
    tokenizer = model.tokenizer if isinstance(model, ServedModel) else None
    local = next((source for source in (model, tokenizer) if isinstance(source, LocalModel)), None)
    engine = ENGINES.get(options.get("engine", ""))
    packages = [*LIBRARIES, *([engine.package] if engine and engine.package else [])]
    packages += ["peft"] if local and local.base else []
    record: dict[str, Any] = {
        "lbr": __version__,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        "model": None,
        "options": options,
        "inputs": inputs,
        "output": {"file": output[0], "sha256": output[1]},
        "counts": {
            "queries": counts.queries,
            "candidates": counts.candidates,
            "pairs": counts.pairs,
            "computed": counts.pairs - counts.cached,
            "cached": counts.cached,
            "cached_share": round(counts.cached / counts.pairs, 6) if counts.pairs else 0.0,
            "truncated": counts.truncated,
            "written": counts.written,
            "empty": counts.empty,
            "tokens": counts.tokens,
        },
    }
    if model is not None:
        record["model"] = {
            "name": model.label,
            "revision": local.commit if local else None,
            "folder": str(local.folder.resolve()) if local else None,
            "base": _base(local.base) if local and local.base else None,
            "weights": {name: digest for name, digest in files.items() if is_weights(name)},
            "fingerprint": fingerprint(files) if files else None,
            "family": repr(model.family),
        }
    if identity:
        spec = identity.spec
        record["terms"] = {
            "device": spec.device,
            "dtype": spec.dtype,
            "max_length": spec.max_length if spec.max_length < UNLIMITED else None,
            "prompt": spec.prompt,
            "weights": spec.weights or None,
        }
    return orjson.dumps(_as_json(record), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def manifest_inputs(digests: list[tuple[str, str]], dataset: str | None) -> list[dict[str, str]]:
    """Return the files with their sha256, and the data set with the version of ir_datasets, which defines it."""
    files = [{"file": path, "sha256": digest} for path, digest in digests]
    return [*files, {"dataset": dataset, "ir_datasets": version_of("ir_datasets")}] if dataset else files


def _base(model: LocalModel) -> dict[str, str | None]:
    """Return the base model of an adapter; the names of its weights begin with "base"."""
    return {"name": model.label, "revision": model.commit, "folder": str(model.folder.resolve())}


def _as_json(value: Any) -> Any:
    """Return the value with file names in valid UTF-8, and with integers of more than 63 bits as strings."""
    if isinstance(value, dict):
        return {_as_json(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return str(value)
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value
