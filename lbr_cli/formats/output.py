"""Open an output: standard output, a regular file, a device or a pipe.

A regular file is a `Replacement`, published when complete; all others are written directly. Names that end in .gz or
.zst are compressed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import sys
from collections.abc import Iterator
from typing import Any, Protocol, Self

from lbr_cli.descriptors import DescriptorFile
from lbr_cli.errors import ReaderGone, RunError, UsageError
from lbr_cli.formats.replacement import Replacement
from lbr_cli.formats.sinks import Warn, compressed, open_error, write_errors

STDOUT = "-"
UNSUPPORTED = (".bz2", ".xz", ".lz4", ".lzma", ".Z", ".zip", ".7z")  # compressions that are not written
DESCRIPTOR = re.compile(r"/(?:dev/fd|proc/self/fd)/([0-9]{1,6})|/dev/(stdin|stdout|stderr)")
STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


class Output(Protocol):
    """The destination of results. A file is published when its `with` block ends without an exception."""

    def write(self, data: bytes) -> None:
        """Write the results of a query. A stream writes them at once."""
        ...

    def finish(self) -> None:
        """Write every remaining byte, which raises if the disk is full. A file is not published yet."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


def open_output(path: str, warn: Warn, *, clobber: bool = True, digest: Any = None) -> Output:
    """Open the output `path`; `-` is standard output.

    `warn` receives a message if a property of an old file cannot be kept. `digest`, of hashlib, is updated with every
    byte written. Raises UsageError if the output cannot be written, or if a file exists and `clobber` is False, and
    RunError if another process is writing the same file.
    """
    if not path:
        raise UsageError("--output: empty file name")
    if path.endswith(UNSUPPORTED):
        raise UsageError(f"{path}: cannot be written: unsupported compression", hint="use .gz or .zst")
    number = descriptor(path)
    if path == STDOUT or number == STANDARD["stdout"]:
        check_stdout()
    if path == STDOUT:
        return _Stream(sys.stdout.fileno(), "standard output", digest, close=False)
    try:
        if number is not None:  # opening the path again would reset the position
            if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise UsageError(f"{path}: cannot be written: open for reading only")
            return _Stream(number, path, digest, close=False)
        if path.endswith("/"):
            raise UsageError(f"{path}: cannot be written: Is a directory")
        if not stat.S_ISREG(os.stat(path).st_mode):
            return _Stream(os.open(path, os.O_WRONLY), path, digest, close=True)
    except FileNotFoundError:
        return Replacement(path, warn, digest)
    except OSError as error:
        raise open_error(path, error) from error
    if not clobber:
        raise UsageError(f"{path}: exists, and --no-clobber is set")
    return Replacement(path, warn, digest)


def check_stdout() -> None:
    """Raise RunError if standard output is closed."""
    if sys.stdout is None:
        raise RunError("standard output is closed")


def descriptor(path: str) -> int | None:
    """Return the number of the descriptor that `path` names, such as 3 for /dev/fd/3; None for other paths."""
    match = DESCRIPTOR.fullmatch(path)
    return match and (int(match[1]) if match[1] else STANDARD[match[2]])


class _Stream:
    """A device, a pipe or standard output, written directly."""

    def __init__(self, number: int, name: str, digest: Any, *, close: bool) -> None:
        self._number = number
        self._name = name
        self._digest = digest
        self._close = close
        self._sink: Any = None  # opened by the first write, so that an empty output has no compression header

    def write(self, data: bytes) -> None:
        with self._errors():
            self._sink = self._sink or compressed(self._name, DescriptorFile(self._number), self._digest)
            self._sink.write(data)
            self._sink.flush()

    def finish(self) -> None:
        sink, self._sink = self._sink, None
        if sink:
            with self._errors():
                sink.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        with write_errors(self._name):
            try:
                yield
            except BrokenPipeError:
                raise ReaderGone from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._errors():
            if kind is None:
                self.finish()
            if self._close:
                os.close(self._number)
