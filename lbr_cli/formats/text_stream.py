"""The text of an input file as bytes: decompressed, without byte-order marks at the start of lines."""

from __future__ import annotations

import codecs
import io
import re
from typing import IO, TYPE_CHECKING, Any

import zstandard

from lbr_cli.errors import InputError
from lbr_cli.formats.decompression import DAMAGE, decompressed

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

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


class TextStream(io.RawIOBase):
    """The decompressed bytes of `source`, which begins with `head`, without byte-order marks unless `exact`.

    Counts lines, to locate damaged data. Closing it closes `file`.
    """

    def __init__(self, name: str, source: io.BufferedReader[Any], head: bytes, file: IO[bytes], *, exact: bool) -> None:
        self.name = name
        self._source, self._compression = decompressed(source, head)
        self._file = file
        self._marks = None if exact else ByteOrderMarks()
        self._line = 1
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._file.close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._rest = self._rest or memoryview(self._next(len(view)))
        size = min(len(self._rest), len(view))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def _next(self, size: int) -> bytes:
        """Return some bytes of text; b"" at the end."""
        while data := self._pull(size):
            if text := self._marks.remove(data) if self._marks else data:
                return text
        return self._marks.remove(b"") if self._marks else b""

    def _pull(self, size: int) -> bytes:
        try:
            data = self._source.read1(size)
        except DAMAGE as error:
            raise self._damaged(error) from error
        except OSError as error:
            if error.errno is None:  # bz2 reports damaged data like this
                raise self._damaged(error) from error
            raise InputError(f"cannot be read: {error.strerror or error}", self.name) from error
        self._line += data.count(b"\n")
        return data

    def _damaged(self, error: Exception) -> InputError:
        if isinstance(error, zstandard.ZstdError) and "dictionary" in str(error).lower():
            hint = "decompress it before: zstd -dc -D DICTIONARY"
            return InputError("the zstd data needs a dictionary", self.name, self._line, hint=hint)
        message = f"the {self._compression} data is cut off or damaged here"
        return InputError(message, self.name, self._line, hint="make the file again or copy it again")
