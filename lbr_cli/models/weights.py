"""Which files of a model decide its scores, and what is in them: contents tell models apart, and not their names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from lbr_cli.errors import MissingError
from lbr_cli.models.model import Model

SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
CODE = "*.py"
WEIGHTS = ("*.safetensors", "*.bin")  # a model that has the first is not loaded from the second

Digest = Callable[[Path], str]  # file -> its sha256 in hexadecimal digits


def sha256(path: Path) -> str:
    """The sha256 of a file. MissingError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror}") from error


def contents(model: Model, digest: Digest = sha256) -> dict[str, str]:
    """The sha256 of each file that loading a fetched model reads, by its name in the folder."""
    if model.gguf:
        return {model.gguf: digest(model.place / model.gguf)}
    folder = model.place
    return {str(path.relative_to(folder)): digest(path) for path in sorted(set(_files(model, folder)))}


def fingerprint(files: dict[str, str]) -> str:
    """One sha256 for all of `contents`."""
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items())).encode()).hexdigest()


def is_weights(name: str) -> bool:
    """Whether a file of `contents` holds weights."""
    return name.endswith((".safetensors", ".bin", ".gguf"))


def _files(model: Model, folder: Path) -> Iterator[Path]:
    """Those in the folder itself, and in those of its modules where it is one of sentence-transformers."""
    for place in dict.fromkeys([folder, *_modules(folder)]):
        for pattern in (*SMALL, CODE) if model.trusted else SMALL:
            yield from (path for path in place.glob(pattern) if path.is_file())
        for pattern in WEIGHTS:
            found = [path for path in place.glob(pattern) if path.is_file()]
            yield from found
            if found:
                break


def _modules(folder: Path) -> list[Path]:
    """The folders that `modules.json` lists; what is wrong with it is told by whoever loads the model."""
    try:
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        return [folder / module["path"] for module in listed if module["path"]]
    except (OSError, ValueError, TypeError, LookupError):
        return []
