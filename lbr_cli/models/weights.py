"""Files of a model folder that are not what their names say: Git LFS pointers, empty and truncated files.

Only sizes and first bytes are read, so the check costs nothing beside loading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from lbr_cli.errors import MissingError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_HINT = "run git lfs pull in the repository, or download the file again"
TRUNCATED_HINT = "download or copy the file again"
LENGTH_BYTES = 8  # of a safetensors file, before its header
LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library


def check_files(paths: Iterable[Path]) -> None:
    """MissingError for a file that is a Git LFS pointer, or for weights that are empty or truncated."""
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
                    start = file.read(LENGTH_BYTES)
                    _check_size(path, size, start, file.read(min(_header_length(start), size, LONGEST_HEADER)))
        except OSError as error:
            raise MissingError(f"{path}: cannot be read: {error.strerror or error}") from error


def _header_length(start: bytes) -> int:
    return int.from_bytes(start, "little")


def _check_size(path: Path, size: int, start: bytes, header: bytes) -> None:
    """Compare a safetensors file with the offsets in its header (its format: length, JSON header, tensors)."""
    needed = LENGTH_BYTES + _header_length(start)
    if _header_length(start) > LONGEST_HEADER:
        raise MissingError(f"{path}: not a safetensors file", hint=TRUNCATED_HINT)
    if needed <= size:
        try:
            tensors = json.loads(header)
            needed += max(
                (entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"), default=0
            )
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise MissingError(f"{path}: not a safetensors file", hint=TRUNCATED_HINT) from error
    if needed > size:
        message = f"{path}: a truncated file: it has {size} bytes of at least {needed}"
        raise MissingError(message, hint=TRUNCATED_HINT)
