"""What all outputs share: compression by file name, a digest of the bytes, and the errors of a failed write."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import IO, Any

import zstandard

from lbr_cli.errors import PASSING, LbrError, RunError, UsageError

Warn = Callable[[str], None]  # prints one warning


def compressed(path: str, file: Any) -> Any:
    """Return `file`, or a writer that compresses into it if `path` ends in .gz or .zst."""
    if path.endswith(".gz"):  # no name and no time in the header: equal results are equal bytes
        return gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
    if path.endswith(".zst"):
        return zstandard.ZstdCompressor().stream_writer(file, closefd=False)
    return file


class Digested:
    """A file that also updates a hashlib digest with the bytes written to it."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file = file
        self._digest = digest
        self.flush = file.flush

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._file.write(data)


def open_error(name: str, error: OSError, hint: str = "") -> LbrError:
    """Return the error for a file that cannot be opened: RunError if a retry can succeed, else UsageError."""
    message = f"{name}: cannot be written: {error.strerror or error}"
    return RunError(message) if error.errno in PASSING else UsageError(message, hint=hint)


def write_error(name: str, error: OSError) -> RunError:
    """Return the error for a write that failed after the file was opened."""
    return RunError(f"{name}: cannot be written: {error.strerror or error}")
