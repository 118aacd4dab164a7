"""Bytes in: open what the user named, whatever it is, and hand out numbered lines.

A file, a FIFO or `-` for standard input; plain, gzip, bzip2, xz or zstd, told by its first bytes. A byte-order mark
at the start and `\\r` before `\\n` are dropped; a line ends at `\\n` and nowhere else. What the bytes mean is the
business of the other modules here; what is written is that of `output`.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import shlex
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import orjson
import zstandard

from lbr_cli.errors import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
CHUNK = 1 << 18


def display_name(path: str) -> str:
    """How messages call a path."""
    return "standard input" if path == STDIN else path


class _Zstd:
    """Reads every frame of a zstd stream; the library's own reader takes a cut-off file for a whole one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame: Any = None
        self._rest = b""

    def read(self, _size: int) -> bytes:
        while True:
            chunk = self._rest or self._file.read(CHUNK)
            self._rest = b""
            if not chunk:
                if self._frame is not None:
                    raise EOFError("cut off")
                return b""
            if self._frame is None:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            data: bytes = self._frame.decompress(chunk)
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
            if data:
                return data


COMPRESSIONS: tuple[tuple[bytes, str, Callable[[IO[bytes]], Any]], ...] = (
    (b"\x1f\x8b", "gzip", lambda file: gzip.GzipFile(fileobj=file)),
    (b"BZh", "bzip2", bz2.BZ2File),
    (b"\xfd7zXZ\x00", "xz", lzma.LZMAFile),
    (b"\x28\xb5\x2f\xfd", "zstd", _Zstd),
)
NOT_TEXT = (
    (b"PK\x03\x04", "a zip archive"),
    (codecs.BOM_UTF16_LE, "UTF-16 text"),
    (codecs.BOM_UTF16_BE, "UTF-16 text"),
)
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile)


class _Rewound(io.RawIOBase):
    """A file whose first bytes have been looked at: gives them again, then the rest."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        data = self._head[: len(view)] or self._file.read(len(view))
        self._head = self._head[len(data) :]
        view[: len(data)] = data
        return len(data)


class _Text(io.RawIOBase):
    """The decompressed bytes without their byte-order mark; counts lines so that damage can be placed."""

    def __init__(self, name: str, source: Any, compression: str, file: IO[bytes]) -> None:
        self._name = name
        self._source = source
        self._file = file
        self._compression = compression
        self._line = 1
        self._started = False
        self._rest = b""

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
            message = f"the {self._compression} data is cut off or damaged here"
            raise InputError(message, self._name, self._line, hint="make the file again or copy it again") from error
        except OSError as error:
            if self._compression:  # bz2 reports damage as OSError
                raise InputError(f"the {self._compression} data is damaged here", self._name, self._line) from error
            raise InputError(f"cannot be read: {error.strerror or error}", self._name) from error
        self._line += data.count(b"\n")
        return data

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        if not self._started:
            self._started = True
            while len(self._rest) < len(codecs.BOM_UTF8) and (more := self._pull(CHUNK)):
                self._rest += more
            self._rest = self._rest.removeprefix(codecs.BOM_UTF8)
        data = self._rest[: len(view)] or self._pull(len(view))
        self._rest = self._rest[len(data) :]
        view[: len(data)] = data
        return len(data)


def open_input(path: str) -> io.BufferedReader:
    """Open `path` (`-` is standard input) for reading its text as bytes.

    Raises InputError when it is not there, is a folder, or is not text.
    """
    name = display_name(path)
    try:
        raw = open(0 if path == STDIN else path, "rb", buffering=0, closefd=path != STDIN)
        head = b""
        while len(head) < 6 and (more := raw.read(6 - len(head))):
            head += more
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", name) from error
    except ValueError as error:  # a path with a NUL character
        raise InputError(f"cannot be read: {error}", name) from error
    for magic, what in NOT_TEXT:
        if head.startswith(magic):
            raw.close()
            raise InputError(f"is {what}", name, hint="lbr reads UTF-8 text, plain or as .gz, .bz2, .xz or .zst")
    rewound: Any = io.BufferedReader(_Rewound(head, raw), CHUNK)
    compression = ""
    for magic, compression_name, opener in COMPRESSIONS:
        if head.startswith(magic):
            rewound, compression = opener(rewound), compression_name
    return io.BufferedReader(_Text(name, rewound, compression, raw), CHUNK)


def numbered(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) for each line that is not blank; closes the stream behind the last."""
    with stream:
        for number, line in enumerate(stream, 1):
            if line.strip(b" \t\r\n"):
                yield number, without_end(line)


def without_end(line: bytes) -> bytes:
    """A line without its `\\n` or `\\r\\n`."""
    return line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line


def decoded(data: bytes, file: str, line: int) -> str:
    """`data` as UTF-8, or an InputError that gives the offset of the first bad byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of the line, 0x{data[error.start]:02x}, is not UTF-8"
        raise InputError(message, file, line, hint="convert the file, e.g. with iconv -f latin1 -t utf-8") from error


def json_object(data: bytes, file: str, line: int, remedy: str = "jq -c .") -> dict[str, Any]:
    """`data` as one JSON object, or an InputError.

    `remedy` is the jq call that makes JSONL of a file that is one object over several lines.
    """
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        decoded(data, file, line)
        start = data.strip()
        if start in (b"{", b"[", b"[{"):  # the first line of a file that is no JSONL
            raise _not_jsonl(file, line, "jq -c '.[]'" if start[:1] == b"[" else remedy) from error
        problem = str(error).split(": line ")[0]
        raise InputError(f"not valid JSON: {problem} at byte {error.pos + 1}", file, line) from error
    if isinstance(record, list):
        raise _not_jsonl(file, line, "jq -c '.[]'")
    if not isinstance(record, dict):
        raise InputError(f"a JSON object is needed, this is {json_kind(record)}", file, line)
    return record


def _not_jsonl(file: str, line: int, remedy: str) -> InputError:
    name = shlex.quote(os.path.basename(file))
    return InputError("not JSONL, which is one JSON object a line", file, line, hint=f"make it so: {remedy} {name}")


def json_kind(value: object) -> str:
    """What JSON calls the type of `value`, with its article."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "an array", dict: "an object", int: "an integer"}
    return kinds.get(type(value), "a number with a fraction or of more than 64 bits")


def as_id(value: object) -> str | None:
    """An id from JSON: a string as it is, an integer (64 bits) as its decimal digits; None for any other type."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
