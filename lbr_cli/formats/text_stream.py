"""The text of an input file as bytes: decompressed, without byte-order marks at the start of lines."""

from __future__ import annotations

import bz2
import codecs
import io
import lzma
import re
import select
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import zstandard

from lbr_cli.errors import InputError
from lbr_cli.formats.binary import refuse_binary

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK = 1 << 18  # bytes
COMPRESSED_CHUNK = 1 << 14  # a few bytes may decompress to a thousand times as many
HEAD = 6  # bytes that show the kind of a file
KIND_BYTES = 512  # bytes of text that may show that it is none
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)  # bz2 raises OSError without errno
LINE_MARK = b"\n" + codecs.BOM_UTF8
LINE_MARKS = re.compile(b"\n(?:" + codecs.BOM_UTF8 + b")+")


class Source:
    """The bytes of an unbuffered file, of which `head` holds the first few. Updates `digest` with every byte read."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file = file
        self._digest = digest
        self.close = file.close
        self.head = b""
        while len(self.head) < HEAD and (more := self._read(HEAD - len(self.head))):
            self.head += more
        self._rest = self.head

    def read1(self, size: int) -> bytes:
        """Return about `size` bytes or fewer, as soon as there are any; b"" at the end."""
        rest, self._rest = self._rest, b""
        return rest or self._read(size)

    def _read(self, size: int) -> bytes:
        while (data := self._file.read(size)) is None:  # a non-blocking file
            select.select([self._file], [], [])
        if self._digest:
            self._digest.update(data)
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


def _decompressed(source: Source, start: Callable[[], Any], padding: bytes) -> Iterator[bytes]:
    """Yield the data of all members of a file, each read as soon as its bytes are available.

    The readers of bz2, lzma and zstandard wait for more than one line of a pipe. They also ignore a truncated last
    member and data of another kind after it; this function raises one of DAMAGE.
    """
    member: Any = None
    while chunk := source.read1(COMPRESSED_CHUNK):
        while chunk:
            if member is None:
                chunk = chunk.lstrip(padding) if padding else chunk
                if not chunk:
                    break
                member = start()
            yield member.decompress(chunk)
            chunk = b""
            if member.eof:
                chunk, member = member.unused_data, None
    if member is not None:
        raise EOFError


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


def _text(name: str, source: Source, *, exact: bool) -> Iterator[bytes]:
    """Yield the text of `source` in chunks, some of them empty. Counts lines, to locate damaged data."""
    chunks, compression = iter(lambda: source.read1(CHUNK), b""), ""
    for kind, magic, start, padding in COMPRESSIONS:
        if magic.match(source.head):
            chunks, compression = _decompressed(source, start, padding), kind
    marks = ByteOrderMarks()
    line = 1
    first = b""
    try:
        for data in chunks:
            if len(first) < KIND_BYTES:
                first += data[:KIND_BYTES]
                refuse_binary(first, name)
            line += data.count(b"\n")
            yield data if exact or not data else marks.remove(data)
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(f"cannot be read: {error.strerror or error}", name) from error
        if isinstance(error, zstandard.ZstdError) and "dictionary" in str(error).lower():
            hint = "decompress it before: zstd -dc -D DICTIONARY"
            raise InputError("the zstd data needs a dictionary", name, line, hint=hint) from error
        message = f"the {compression} data is cut off or damaged here"
        raise InputError(message, name, line, hint="make the file again or copy it again") from error
    yield marks.remove(b"")


class TextStream(io.RawIOBase):
    """The decompressed bytes of `source`, without byte-order marks unless `exact`."""

    def __init__(self, name: str, source: Source, *, exact: bool) -> None:
        self.name = name
        self._source = source
        self._chunks = filter(None, _text(name, source, exact=exact))
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._source.close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._rest = self._rest or memoryview(next(self._chunks, b""))
        size = min(len(self._rest), len(view))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
