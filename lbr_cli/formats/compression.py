"""The bytes of an input file, decompressed: gzip, bzip2, xz and zstd, detected from the first bytes."""

from __future__ import annotations

import bz2
import lzma
import re
import select
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import zstandard

from lbr_cli.errors import InputError, LbrError, RunError, read_error
from lbr_cli.formats.binary import Kind, table_kind

CHUNK = 1 << 18  # bytes
COMPRESSED_CHUNK = 1 << 14  # bytes; small, because data may decompress to a thousand times its size
HEAD = 8  # bytes that show the kind of a file
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)  # bz2 raises OSError without errno


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
        """Return at most about `size` bytes, as soon as any are available; b"" at the end."""
        rest, self._rest = self._rest, b""
        return rest or self._read(size)

    def seekable(self) -> IO[bytes] | None:
        """Return the file, positioned at its start, after all its bytes have updated the digest; None for a pipe."""
        if not self._file.seekable() or self._file.tell() != len(self.head):
            return None
        while self._digest and self.read1(CHUNK):
            pass
        self._file.seek(0)
        return self._file

    def _read(self, size: int) -> bytes:
        while (data := self._file.read(size)) is None:  # a non-blocking file
            select.select([self._file], [], [])
        if self._digest:
            self._digest.update(data)
        return data


def _zstd() -> Any:
    # 2 GiB, the largest window of the zstd tool (--long=31)
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


# name, first bytes, constructor of a decompressor of one member, padding between members
COMPRESSIONS: tuple[tuple[str, re.Pattern[bytes], Callable[[], Any], bytes], ...] = (
    ("gzip", re.compile(rb"\x1f\x8b"), lambda: zlib.decompressobj(31), b"\x00"),
    ("bzip2", re.compile(rb"BZh[1-9][1\x17]"), bz2.BZ2Decompressor, b""),
    ("xz", re.compile(rb"\xfd7zXZ\x00"), lzma.LZMADecompressor, b"\x00"),
    # a file of pzstd, the parallel tool, begins with a skippable frame
    ("zstd", re.compile(rb"(?s:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)"), _zstd, b""),
)


def _decompressed(source: Source, start: Callable[[], Any], padding: bytes) -> Iterator[bytes]:
    """Yield the data of all members of a file, each read as soon as its bytes are available.

    The readers of bz2, lzma and zstandard wait for more than one line of a pipe. They also ignore a truncated last
    member and data of another kind after it, for which this function raises an error of DAMAGE.
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


class Contents:
    """The decompressed bytes of a file. `head` holds the first few; `table` is None unless the file is a table."""

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.close = source.close
        self._source = source
        self._line = 1
        self._compression = ""
        self._chunks = iter(lambda: source.read1(CHUNK), b"")
        for kind, magic, start, padding in COMPRESSIONS:
            if magic.match(source.head):
                self._compression, self._chunks = kind, _decompressed(source, start, padding)
        self.table: Kind | None = None
        self.head = b""
        while len(self.head) < HEAD and (chunk := self._read()) is not None:
            self.head += chunk
        self.table = table_kind(self.head)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes in chunks, some of them empty. InputError for damaged data, with the line of a text."""
        yield self.head
        while (chunk := self._read()) is not None:
            yield chunk

    def seekable(self) -> IO[bytes]:
        """Return the bytes as a file for reading in any order: the file itself, or a temporary copy."""
        if not self._compression and (file := self._source.seekable()):
            return file
        try:
            copy = tempfile.TemporaryFile()
            for chunk in self:
                copy.write(chunk)
            copy.seek(0)
        except OSError as error:  # no folder, and `tempdir` is None, if Python finds none that can be written
            folder = tempfile.tempdir or "a temporary folder"
            message = f"{self.name}: cannot be copied to {folder}: {error.strerror or error}"
            raise RunError(message, hint="set TMPDIR to a folder with enough space") from error
        return copy

    def _read(self) -> bytes | None:
        """Return the next chunk, None at the end."""
        try:
            data = next(self._chunks, None)
        except (*DAMAGE, OSError) as error:
            raise self._damage(error) from error
        self._line += data.count(b"\n") if data else 0
        return data

    def _damage(self, error: Exception) -> LbrError:
        if isinstance(error, OSError) and error.errno is not None:
            return read_error(self.name, error, InputError)
        line = None if self.table else self._line
        if isinstance(error, zstandard.ZstdError):
            problem = str(error).lower()
            if "dictionary" in problem:
                hint = "decompress the file first: zstd -dc -D DICTIONARY"
                return InputError("the zstd data needs a dictionary", self.name, line, hint=hint)
            if "not enough memory" in problem:
                return RunError(f"{self.name}: out of memory: the window of the zstd data does not fit")
            if "too much memory" in problem:
                return InputError("the zstd data has a window of more than 2 GiB", self.name, line)
        message = f"the {self._compression} data is cut off or damaged" + ("" if self.table else " here")
        return InputError(message, self.name, line, hint="create or copy the file again")
