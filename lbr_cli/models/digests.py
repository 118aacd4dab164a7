"""The files of a model that decide its scores, and their digests: models are identified by contents, not by names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lbr_cli.errors import MissingError, read_error
from lbr_cli.models.model import LocalModel, ServedModel

BESIDE_WEIGHTS = ("*.json", "*.txt", "*.model", "*.jinja", "*.metadata", "additional_chat_templates/*.jinja")
WEIGHTS = ("*.safetensors", "*.bin")

Digest = Callable[[Path], str]  # file -> its sha256 in hexadecimal digits


def sha256(path: Path) -> str:
    """Return the sha256 of a file. MissingError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise read_error(path, error, MissingError) from error


def file_digests(model: LocalModel | ServedModel, digest: Digest = sha256) -> dict[str, str]:
    """Return the sha256 of each file that loading a model may read, by its name in the folder.

    For a served model, these are the files of its tokenizer, if the tokenizer is on this machine.
    """
    local = model.tokenizer if isinstance(model, ServedModel) else model
    if not isinstance(local, LocalModel):
        return {}
    tokenizer_only = model is not local and not local.gguf
    paths = sorted(_matching(local.folder, *BESIDE_WEIGHTS)) if tokenizer_only else _own_files(local)
    digests = {os.path.relpath(path, local.folder): digest(path) for path in paths}
    if local.base is None:
        return digests
    # a folder name that does not depend on where the base model is
    return digests | {os.path.join("base", name): value for name, value in file_digests(local.base, digest).items()}


def model_files(model: LocalModel) -> list[Path]:
    """Return the path of each file that loading a model and its base model may read."""
    return _own_files(model) + (model_files(model.base) if model.base else [])


def fingerprint(files: Mapping[str, str]) -> str:
    """Return one sha256 for the result of `file_digests`."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()  # a name may hold any bytes


def is_weights(name: str) -> bool:
    """Return whether a file of this name holds weights."""
    return name.endswith((".safetensors", ".bin", ".gguf"))


def has_code_elsewhere(model: LocalModel) -> bool:
    """Return whether the model runs code of another repository, which may change while its own files do not."""
    if not model.trusted or model.gguf:
        return False
    if model.base is not None:
        return has_code_elsewhere(model.base)
    maps = [auto_map for folder in [model.folder, *_module_folders(model.folder)] for auto_map in auto_maps(folder)]
    return any("--" in str(auto_map) for auto_map in maps)


def auto_maps(folder: Path) -> list[Any]:
    """Return the values of `auto_map`, which names the classes of a model's own code, in the files of a folder."""
    configs = [read_leniently(folder / name) for name in ("config.json", "tokenizer_config.json")]
    return [config.get("auto_map") for config in configs if isinstance(config, dict)]


def _own_files(model: LocalModel) -> list[Path]:
    """Return the files of a model without those of its base model."""
    return [model.path] if model.gguf else sorted(set(_files(model.folder, code=model.trusted)))


def _files(folder: Path, *, code: bool) -> Iterator[Path]:
    """Yield the files of a folder that loading may read: all weights of any name, and the Python files if `code`."""
    if code:
        yield from _matching(folder, "**/*.py")
    for module in dict.fromkeys([folder, *_module_folders(folder)]):
        yield from _matching(module, *BESIDE_WEIGHTS, *WEIGHTS)
        for index in module.glob("*.index.json"):
            yield from (path for path in shards_of(index) if path.is_file())


def _matching(folder: Path, *patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]


def _module_folders(folder: Path) -> list[Path]:
    """Return the folders that `modules.json` lists."""
    try:
        return [folder / module["path"] for module in read_leniently(folder / "modules.json") if module["path"]]
    except (TypeError, LookupError):
        return []


def shards_of(index: Path) -> list[Path]:
    """Return the files that an index of weights lists."""
    try:
        return [index.parent / name for name in read_leniently(index)["weight_map"].values()]
    except (TypeError, LookupError, AttributeError):
        return []


def read_leniently(path: Path) -> Any:
    """Return the value in a JSON file, None if it cannot be read; the code that needs it reports the error."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
