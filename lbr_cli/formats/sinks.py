"""Functions of all outputs: compression by file name, a digest of the bytes, and the errors of a failed write."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable, Iterator
from typing import Any

import zstandard

from lbr_cli.errors import PASSING, LbrError, RunError, UsageError

Warn = Callable[[str], None]  # prints one warning


def compressed(path: str, file: Any, digest: Any) -> Any:
    """Return a writer to `file` that compresses if `path` ends in .gz or .zst. Closing it leaves `file` open.

    `digest`, of hashlib, is updated with every byte that is written to `file`, unless it is None.
    """
    writer: Any = _Writer(file, digest)
    if path.endswith(".gz"):  # no name and no time in the header: equal results are equal bytes
        return gzip.GzipFile(filename="", mode="wb", fileobj=writer, mtime=0)
    return zstandard.ZstdCompressor().stream_writer(writer, closefd=False) if path.endswith(".zst") else writer


class _Writer:
    """Writes to a file, which stays open, and updates a digest."""

    def __init__(self, file: Any, digest: Any) -> None:
        self._file = file
        self._digest = digest
        self.flush = file.flush

    def write(self, data: Any) -> int:
        written: int = self._file.write(data)
        if self._digest is not None:
            self._digest.update(data)
        return written

    def close(self) -> None:
        self.flush()


def open_error(name: str, error: OSError, hint: str = "") -> LbrError:
    """Return the error for a file that cannot be opened: RunError if a retry can succeed, else UsageError."""
    message = f"{name}: cannot be written: {error.strerror or error}"
    return RunError(message) if error.errno in PASSING else UsageError(message, hint=hint)


@contextlib.contextmanager
def write_errors(name: str) -> Iterator[None]:
    """Raise RunError if a write in this block fails."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{name}: cannot be written: {error.strerror or error}") from error
