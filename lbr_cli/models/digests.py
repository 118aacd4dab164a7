"""The files of a model that decide its scores, and their digests: models are told apart by contents, not by names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lbr_cli.errors import MissingError
from lbr_cli.models.model import HubModel, LocalModel, ServedModel

BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja")
WEIGHTS = ("*.safetensors", "*.bin")
CODE = "*.py"

Digest = Callable[[Path], str]  # file -> its sha256 in hexadecimal digits


def sha256(path: Path) -> str:
    """The sha256 of a file. MissingError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror}") from error


def file_digests(model: LocalModel | ServedModel, digest: Digest = sha256) -> dict[str, str]:
    """Return the sha256 of each file that loading a model may read, by its name in the folder.

    Of a served model, those of its tokenizer, if it is on this machine.
    """
    if isinstance(model, ServedModel):
        tokenizer = model.tokenizer
        if tokenizer is None or isinstance(tokenizer, HubModel):
            return {}
        model = tokenizer
        paths = [model.path] if model.gguf else sorted(_beside_weights(model.folder))
    else:
        paths = model_files(model)
    return {os.path.relpath(path, model.folder): digest(path) for path in paths}


def model_files(model: LocalModel) -> list[Path]:
    """Return the path of each file that loading a model may read."""
    return [model.path] if model.gguf else sorted(set(_files(model.folder, code=model.trusted)))


def fingerprint(files: Mapping[str, str]) -> str:
    """Return one sha256 for the result of `file_digests`."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()  # a name may hold any bytes


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights."""
    return name.endswith((".safetensors", ".bin", ".gguf"))


def has_code_elsewhere(model: LocalModel) -> bool:
    """Whether the model runs code of another repository, which may change while its own files do not."""
    if not model.trusted or model.gguf:
        return False
    folders = [model.folder, *module_folders(model.folder)]
    configs = [read_leniently(folder / name) for folder in folders for name in ("config.json", "tokenizer_config.json")]
    return any("--" in str(config.get("auto_map")) for config in configs if isinstance(config, dict))


def _files(folder: Path, *, code: bool) -> Iterator[Path]:
    """The files that loading a folder may read: its own, those of its modules, and shards that an index names.

    All weights count, whatever they are called: which of several is loaded is not decided here. `code` adds Python
    files.
    """
    if code:
        yield from (path for path in folder.rglob(CODE) if path.is_file())
    for place in dict.fromkeys([folder, *module_folders(folder)]):
        yield from _beside_weights(place)
        for pattern in WEIGHTS:
            yield from (path for path in place.glob(pattern) if path.is_file())
        for index in place.glob("*.index.json"):
            yield from (path for path in shards_of(index) if path.is_file())


def _beside_weights(folder: Path) -> Iterator[Path]:
    for pattern in BESIDE_WEIGHTS:
        yield from (path for path in folder.glob(pattern) if path.is_file())


def module_folders(folder: Path) -> list[Path]:
    """The folders that `modules.json` lists."""
    try:
        return [folder / module["path"] for module in read_leniently(folder / "modules.json") if module["path"]]
    except (TypeError, LookupError):
        return []


def shards_of(index: Path) -> list[Path]:
    """The files that an index of weights names."""
    try:
        return [index.parent / name for name in read_leniently(index)["weight_map"].values()]
    except (TypeError, LookupError, AttributeError):
        return []


def read_leniently(path: Path) -> Any:
    """The value in a JSON file; None if it cannot be read, which is an error of whoever needs it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
