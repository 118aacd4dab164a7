"""Input files by name and line by line.

A line ends in `\\n` and nowhere else; every `\\r` before it is dropped.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from lbr_cli.errors import InputError
from lbr_cli.formats.line_ends import STDIN_NAME

STDIN = "-"
BLANKS = b" \t\r\n"  # a line of only these is blank; a form feed can be an id

Numbered = Iterable[tuple[int, bytes]]  # lines with their numbers, from 1


def display_name(path: str) -> str:
    """Return the name of an input in messages."""
    return STDIN_NAME if path == STDIN else path


def numbered(stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line without its end) for each line that is not blank; close the stream at its end."""
    with stream:
        for number, line in enumerate(stream, 1):
            if line.strip(BLANKS):
                yield number, without_end(line)


def without_end(line: bytes) -> bytes:
    """Return a line without its `\\n` and every `\\r` before it."""
    return line[:-1].rstrip(b"\r") if line.endswith(b"\n") else line


def decoded(data: bytes, file: str, line: int) -> str:
    """Return `data` decoded as UTF-8. InputError with the position of the first invalid byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of the line, 0x{data[error.start]:02x}, is not UTF-8"
        raise InputError(message, file, line, hint="convert the file, e.g. with iconv -f latin1 -t utf-8") from error
