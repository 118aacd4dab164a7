"""Bytes in: open what the user named, whatever it is, and hand out numbered lines.

A file, a FIFO or `-` for standard input; plain, gzip, bzip2, xz or zstd, told by its first bytes. Byte-order marks at
the start of a line and every `\\r` before `\\n` are dropped; a line ends at `\\n` and nowhere else. What the bytes mean
is the business of the other modules here; what is written is that of `output`.
"""

from __future__ import annotations

import bz2
import codecs
import hashlib
import io
import lzma
import re
import select
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import zstandard

from lbr_cli.errors import InputError
from lbr_cli.formats.line_ends import STDIN_NAME

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
BLANKS = b" \t\r\n"  # a line of these alone is blank; a form feed may be an id
CHUNK = 1 << 18
LINE_MARK = b"\n" + codecs.BOM_UTF8
LINE_MARKS = re.compile(b"\n(?:" + codecs.BOM_UTF8 + b")+")
COMPRESSED_CHUNK = 1 << 14  # a few bytes may stand for a thousand times as many


def display_name(path: str) -> str:
    """How messages call a path."""
    return STDIN_NAME if path == STDIN else path


class _Members:
    """Decompresses one member after the other to the end of the file.

    The readers of bz2, lzma and zstandard take a file for whole whose last member is cut off, or whose rest is of
    another kind; here that is an error. And they wait for more than a line of a pipe.
    """

    def __init__(self, file: io.BufferedReader, start: Callable[[], Any], padding: bytes = b"") -> None:
        self._file = file
        self._start = start
        self._padding = padding
        self._member: Any = None
        self._rest = b""

    def read(self, _size: int) -> bytes:
        """Some bytes; none at the end."""
        while True:
            # read1 hands over what a pipe holds without waiting for more
            chunk = self._rest or self._file.read1(COMPRESSED_CHUNK)
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
    # as large as the tool's own --long=31: whoever made the file had that much memory
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()


COMPRESSIONS: tuple[tuple[re.Pattern[bytes], str, Callable[[io.BufferedReader], Any]], ...] = (
    (re.compile(rb"\x1f\x8b"), "gzip", lambda file: _Members(file, lambda: zlib.decompressobj(31), padding=b"\x00")),
    (re.compile(rb"BZh[1-9][1\x17]"), "bzip2", lambda file: _Members(file, bz2.BZ2Decompressor)),
    (re.compile(rb"\xfd7zXZ\x00"), "xz", lambda file: _Members(file, lzma.LZMADecompressor, padding=b"\x00")),
    # a file of the parallel tool begins with a frame to be skipped
    (re.compile(rb"(?s:\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18)"), "zstd", lambda file: _Members(file, _zstd)),
)
NOT_TEXT = (
    (b"PK\x03\x04", "a zip archive"),
    (codecs.BOM_UTF16_LE, "UTF-16 text"),
    (codecs.BOM_UTF16_BE, "UTF-16 text"),
)
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def _read(file: IO[bytes], size: int) -> bytes:
    """Up to `size` bytes of an unbuffered file, as soon as there are any; waits where others would be told to."""
    while (data := file.read(size)) is None:
        select.select([file], [], [])
    return data


class _Rewound(io.RawIOBase):
    """A file whose first bytes have been looked at: gives them again, then the rest."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._head[: len(view)] or _read(self._file, len(view))
        self._head = self._head[len(data) :]
        view[: len(data)] = data
        return len(data)


class _Marks:
    """Removes byte-order marks at the start of lines from a file that comes in chunks."""

    def __init__(self) -> None:
        self._at_start = True  # the next byte begins a line
        self._held = b""  # the first bytes of what may be a mark

    def remove(self, chunk: bytes) -> bytes:
        """Return `chunk` without marks; an empty chunk is the end of the file."""
        data = self._held + chunk
        self._held = b""
        if not chunk:
            return data
        if self._at_start:
            while data.startswith(codecs.BOM_UTF8):
                data = data.removeprefix(codecs.BOM_UTF8)
        if b"\xef" in data:  # a search for one byte costs next to nothing
            data = LINE_MARKS.sub(b"\n", data) if LINE_MARK in data else data
            for part in (codecs.BOM_UTF8[:2], codecs.BOM_UTF8[:1]):
                if data.endswith(b"\n" + part) or (self._at_start and data == part):
                    self._held, data = part, data.removesuffix(part)
        self._at_start = data.endswith(b"\n") if data else self._at_start
        return data


class _Text(io.RawIOBase):
    """The decompressed bytes, without byte-order marks unless `exact`; counts lines so that damage can be placed."""

    def __init__(self, name: str, source: Any, compression: str, file: IO[bytes], exact: bool) -> None:
        self._name = name
        self._source = source
        self._file = file
        self._compression = compression
        self._line = 1
        self._marks = None if exact else _Marks()
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        super().close()
        self._file.close()

    def _pull(self, size: int) -> bytes:
        try:
            # read1 hands over what a pipe holds without waiting for more
            data: bytes = getattr(self._source, "read1", self._source.read)(size)
        except DAMAGE as error:
            raise self._damaged(error) from error
        except OSError as error:
            if error.errno is None:  # so bz2 reports damage
                raise InputError(f"the {self._compression} data is damaged here", self._name, self._line) from error
            raise InputError(f"cannot be read: {error.strerror or error}", self._name) from error
        self._line += data.count(b"\n")
        return data

    def _damaged(self, error: Exception) -> InputError:
        if isinstance(error, zstandard.ZstdError) and "dictionary" in str(error).lower():
            hint = "decompress it before: zstd -dc -D DICTIONARY"
            return InputError("the zstd data needs a dictionary", self._name, self._line, hint=hint)
        message = f"the {self._compression} data is cut off or damaged here"
        return InputError(message, self._name, self._line, hint="make the file again or copy it again")

    def _next(self, size: int) -> bytes:
        """Some bytes of text; none at the end."""
        while data := self._pull(size):
            if text := self._marks.remove(data) if self._marks else data:
                return text
        return self._marks.remove(b"") if self._marks else b""

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        self._rest = self._rest or memoryview(self._next(len(view)))
        size = min(len(self._rest), len(view))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class Sums:
    """The sha256 of what was read, byte for byte as it came, of each file in the order in which they were opened."""

    def __init__(self) -> None:
        self._of: list[tuple[str, Any]] = []

    def listen(self, path: str, file: IO[bytes]) -> Any:
        """`file`, the bytes of which count from here on."""
        digest = hashlib.sha256()
        self._of.append((path, digest))
        return _Overheard(file, digest)

    def told(self) -> list[tuple[str, str]]:
        """(path, sha256) of each."""
        return [(path, digest.hexdigest()) for path, digest in self._of]


class _Overheard:
    """An unbuffered file that tells a digest what it gives."""

    def __init__(self, file: IO[bytes], digest: Any) -> None:
        self._file = file
        self._digest = digest
        self.fileno = file.fileno
        self.close = file.close

    def read(self, size: int) -> bytes | None:
        data = self._file.read(size)
        if data:
            self._digest.update(data)
        return data


def open_input(path: str, sums: Sums | None = None, *, exact: bool = False) -> io.BufferedReader:
    """Open `path` (`-` is standard input) for reading its text as bytes, which `sums` hears of.

    Byte-order marks at the start of lines are left out, unless every byte is to be kept (`exact`).

    Raises InputError when it is not there, is a folder, or is not text.
    """
    name = display_name(path)
    try:
        raw: Any = open(0 if path == STDIN else path, "rb", buffering=0, closefd=path != STDIN)
        raw = sums.listen(path, raw) if sums else raw
        head = b""
        while len(head) < 6 and (more := _read(raw, 6 - len(head))):
            head += more
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", name) from error
    except ValueError as error:  # a path with a NUL character
        raise InputError(f"cannot be read: {error}", name) from error
    for first_bytes, what in NOT_TEXT:
        if head.startswith(first_bytes):
            raw.close()
            raise InputError(f"is {what}", name, hint="lbr reads UTF-8 text, plain or as .gz, .bz2, .xz or .zst")
    rewound: Any = io.BufferedReader(_Rewound(head, raw), CHUNK)
    source, compression = next(
        ((opener(rewound), kind) for magic, kind, opener in COMPRESSIONS if magic.match(head)), (rewound, "")
    )
    return io.BufferedReader(_Text(name, source, compression, raw, exact), CHUNK)


def numbered(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) for each line that is not blank; closes the stream behind the last."""
    with stream:
        for number, line in enumerate(stream, 1):
            if line.strip(BLANKS):
                yield number, without_end(line)


def without_end(line: bytes) -> bytes:
    """Return a line without its `\\n` and every `\\r` before it."""
    return line[:-1].rstrip(b"\r") if line.endswith(b"\n") else line


def decoded(data: bytes, file: str, line: int) -> str:
    """`data` as UTF-8, or an InputError that gives the offset of the first bad byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of the line, 0x{data[error.start]:02x}, is not UTF-8"
        raise InputError(message, file, line, hint="convert the file, e.g. with iconv -f latin1 -t utf-8") from error
