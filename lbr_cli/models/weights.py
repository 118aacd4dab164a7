"""Checks for Git LFS pointers, empty files and truncated files in a model folder.

Only sizes and headers are read, so the check takes almost no time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from lbr_cli.errors import MissingError, read_error

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_HINT = "run git lfs pull in the repository, or download the file again"
TRUNCATED_HINT = "download or copy the file again"
LENGTH_BYTES = 8  # at the start of a safetensors file: the length of its header
MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors library


def check_files(paths: Iterable[Path]) -> None:
    """Raise MissingError for a Git LFS pointer, and for weights that are empty or truncated."""
    for path in paths:
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                head = file.read(len(LFS_POINTER))
                if head == LFS_POINTER:
                    raise MissingError(f"{path}: a Git LFS pointer, not the file itself", hint=LFS_HINT)
                if path.suffix in (".safetensors", ".bin", ".gguf") and not size:
                    raise MissingError(f"{path}: an empty file", hint=TRUNCATED_HINT)
                if path.suffix == ".safetensors":
                    file.seek(0)
                    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
                    _check_size(path, size, length, file.read(min(length, size, MAX_HEADER)))
        except OSError as error:
            raise read_error(path, error, MissingError) from error


def _check_size(path: Path, size: int, length: int, header: bytes) -> None:
    """Compare the size of a safetensors file with the offsets in its header (format: length, JSON header, tensors)."""
    needed = LENGTH_BYTES + length
    if length > MAX_HEADER:
        raise MissingError(f"{path}: not a safetensors file", hint=TRUNCATED_HINT)
    if needed <= size:
        try:
            tensors = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
            needed += max((entry["data_offsets"][1] for entry in tensors), default=0)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise MissingError(f"{path}: not a safetensors file", hint=TRUNCATED_HINT) from error
    if needed > size:
        message = f"{path}: a truncated file: it has {size} bytes of at least {needed}"
        raise MissingError(message, hint=TRUNCATED_HINT)
