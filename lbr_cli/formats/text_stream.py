"""Chunks of bytes as a stream, and chunks of text without byte-order marks at the start of lines."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lbr_cli.formats.binary import refuse_binary
from lbr_cli.formats.compression import Contents

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KIND_BYTES = 512  # the first bytes, which show whether a file is binary
LINE_MARK = b"\n" + codecs.BOM_UTF8
LINE_MARKS = re.compile(b"\n(?:" + codecs.BOM_UTF8 + b")+")


class ByteOrderMarks:
    """Removes byte-order marks at the start of lines from a file that is read in chunks."""

    def __init__(self) -> None:
        self._at_start = True  # the next byte begins a line
        self._held = b""  # the first bytes of a possible mark

    def remove(self, chunk: bytes) -> bytes:
        """Return `chunk` without marks; an empty chunk ends the file."""
        data = self._held + chunk
        self._held = b""
        if not chunk:
            return data
        if self._at_start:
            while data.startswith(codecs.BOM_UTF8):
                data = data.removeprefix(codecs.BOM_UTF8)
        if b"\xef" in data:  # a search for one byte is nearly free
            data = LINE_MARKS.sub(b"\n", data) if LINE_MARK in data else data
            for part in (codecs.BOM_UTF8[:2], codecs.BOM_UTF8[:1]):
                if data.endswith(b"\n" + part) or (self._at_start and data == part):
                    self._held, data = part, data.removesuffix(part)
        self._at_start = data.endswith(b"\n") if data else self._at_start
        return data


def text_of(contents: Contents, *, exact: bool) -> Iterator[bytes]:
    """Yield the text of a file in chunks, without byte-order marks unless `exact`. InputError if it is not text."""
    marks = ByteOrderMarks()
    first = b""
    for data in contents:
        if len(first) < KIND_BYTES:
            first += data[:KIND_BYTES]
            refuse_binary(first, contents.name)
        yield data if exact or not data else marks.remove(data)
    yield marks.remove(b"")


class ChunkStream(io.RawIOBase):
    """A stream of `chunks`, some of which may be empty. `close_file` is called when it is closed."""

    def __init__(self, name: str, chunks: Iterator[bytes], close_file: Callable[[], None]) -> None:
        self.name = name
        self._chunks = filter(None, chunks)
        self._close_file = close_file
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._close_file()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._rest = self._rest or memoryview(next(self._chunks, b""))
        size = min(len(self._rest), len(view))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
