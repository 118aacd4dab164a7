"""File descriptors: writes that wait for a slow reader, and the three standard descriptors.

A parent process or another program on the same terminal can set a shared pipe or terminal to non-blocking. A write
then fails whenever the reader is slow.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
from typing import Any


def write_all(number: int, data: Any) -> None:
    """Write all data to a descriptor, even if it accepts only a part at a time or is non-blocking."""
    rest = memoryview(data).cast("B")
    while rest:
        try:
            rest = rest[os.write(number, rest) :]
        except BlockingIOError:
            select.select([], [number], [])


class DescriptorFile(io.FileIO):
    """A binary file that writes with `write_all`. Closing it leaves the descriptor open.

    With `lossy`, data that cannot be written is lost without an error.
    """

    def __init__(self, number: int, *, lossy: bool = False) -> None:
        super().__init__(number, "wb", closefd=False)
        self._errors: tuple[type[OSError], ...] = (OSError,) if lossy else ()

    def write(self, data: Any) -> int:
        with contextlib.suppress(*self._errors):
            write_all(self.fileno(), data)
        return memoryview(data).nbytes


def patient(stream: Any, *, lossy: bool = False) -> Any:
    """Return a text stream that writes UTF-8, whatever the locale, to the descriptor of `stream` as `DescriptorFile`.

    Bytes of file names that are not UTF-8 are written unchanged. A stream without a descriptor is returned as it is.
    """
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(DescriptorFile(stream.fileno(), lossy=lossy)),
        encoding="utf-8",
        errors="surrogateescape",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def reserve_standard_descriptors() -> None:
    """Open those of the descriptors 0 to 2 that are closed, so that no other file gets their numbers.

    They are opened in the wrong mode: reading standard input and writing standard output still fail.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # gets the lowest number that is free
