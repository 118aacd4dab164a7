"""Decompression of gzip, bzip2, xz and zstd, detected by the first bytes of a file."""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import zstandard

CHUNK = 1 << 14  # bytes: a few may decompress to a thousand times as many
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)  # and OSError without errno, from bz2


class Reads(Protocol):
    """A source of bytes."""

    def read1(self, size: int = -1, /) -> bytes:
        """Return the bytes that are available, without waiting for more; b"" at the end."""
        ...


class _Members:
    """Decompresses the members of a file, one after the other.

    The readers of bz2, lzma and zstandard ignore a truncated last member and data of another kind after it; this one
    raises one of DAMAGE. They also wait for more than one line of a pipe.
    """

    def __init__(self, file: io.BufferedReader[Any], start: Callable[[], Any], padding: bytes = b"") -> None:
        self._file = file
        self._start = start
        self._padding = padding
        self._member: Any = None
        self._rest = b""

    def read1(self, _size: int = -1, /) -> bytes:
        while True:
            chunk = self._rest or self._file.read1(CHUNK)
            self._rest = b""
            if self._member is None:
                chunk = chunk.lstrip(self._padding) if self._padding else chunk
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


def decompressed(file: io.BufferedReader[Any], head: bytes) -> tuple[Reads, str]:
    """Return a source of the decompressed bytes, and the name of the compression; "" and `file` itself without one.

    `head` holds the first bytes of `file`, which are still to be read from it.
    """
    for name, magic, start, padding in COMPRESSIONS:
        if magic.match(head):
            return _Members(file, start, padding), name
    return file, ""
