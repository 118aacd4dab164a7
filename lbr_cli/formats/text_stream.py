"""The text of an input file as bytes: decompressed, without byte-order marks at the start of lines."""

from __future__ import annotations

import bz2
import codecs
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import zstandard

from lbr_cli.errors import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSED_CHUNK = 1 << 14  # bytes: a few may decompress to a thousand times as many
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)  # bz2 raises OSError without errno
LINE_MARK = b"\n" + codecs.BOM_UTF8
LINE_MARKS = re.compile(b"\n(?:" + codecs.BOM_UTF8 + b")+")


class ChunkReader(io.RawIOBase):
    """A raw file whose bytes come in chunks of any size from `next_chunk`. Closes `file` with itself."""

    def __init__(self, file: IO[bytes], first: bytes = b"") -> None:
        self._file = file
        self._rest = memoryview(first)

    def next_chunk(self, size: int) -> bytes:
        """Return some bytes, about `size`; b"" at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._file.close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._rest = self._rest or memoryview(self.next_chunk(len(view)))
        size = min(len(self._rest), len(view))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class _Members:
    """Decompresses the members of a file, one after the other.

    The readers of bz2, lzma and zstandard ignore a truncated last member and data of another kind after it; this one
    raises one of DAMAGE. They also wait for more than one line of a pipe.
    """

    def __init__(self, file: io.BufferedReader, start: Callable[[], Any], padding: bytes = b"") -> None:
        self._file = file
        self._start = start
        self._padding = padding
        self._member: Any = None
        self._rest = b""

    def read1(self, _size: int) -> bytes:
        """Return some bytes, without waiting for more than are available; b"" at the end."""
        while True:
            chunk = self._rest or self._file.read1(COMPRESSED_CHUNK)
            self._rest = b""
            if self._member is None:
                data_follows = chunk.lstrip(self._padding) if self._padding else chunk
                if chunk and not data_follows:  # a chunk of padding alone is not the end of the file
                    continue
                chunk = data_follows
                self._member = self._start() if chunk else None
            if not chunk:
                if self._member is not None:
                    raise EOFError
                return b""
            data: bytes = self._member.decompress(chunk)
            if self._member.eof:
                self._rest, self._member = self._member.unused_data, None
            if data:
                return data


def _zstd() -> Any:
    # as large as the tool's own --long=31: whoever compressed the file had that much memory
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


# name, first bytes, a decompressor of one member, padding between members
COMPRESSIONS: tuple[tuple[str, re.Pattern[bytes], Callable[[], Any], bytes], ...] = (
    ("gzip", re.compile(rb"\x1f\x8b"), lambda: zlib.decompressobj(31), b"\x00"),
    ("bzip2", re.compile(rb"BZh[1-9][1\x17]"), bz2.BZ2Decompressor, b""),
    ("xz", re.compile(rb"\xfd7zXZ\x00"), lzma.LZMADecompressor, b"\x00"),
    # a file of the parallel tool begins with a skippable frame
    ("zstd", re.compile(rb"(?s:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)"), _zstd, b""),
)


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


class TextStream(ChunkReader):
    """The decompressed bytes of `source`, which begins with `head`, without byte-order marks unless `exact`.

    Counts lines, to locate damaged data.
    """

    def __init__(self, name: str, source: io.BufferedReader, head: bytes, *, exact: bool) -> None:
        super().__init__(source)
        self.name = name
        self._source: Any = source
        self._compression = ""
        for compression, magic, start, padding in COMPRESSIONS:
            if magic.match(head):
                self._source, self._compression = _Members(source, start, padding), compression
        self._marks = None if exact else ByteOrderMarks()
        self._line = 1

    def next_chunk(self, size: int) -> bytes:
        while data := self._pull(size):
            if text := self._marks.remove(data) if self._marks else data:
                return text
        return self._marks.remove(b"") if self._marks else b""

    def _pull(self, size: int) -> bytes:
        try:
            data: bytes = self._source.read1(size)
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
