"""Names, lines and line ends of input files.

A line ends at `\\n` only, and every `\\r` directly before it is dropped. Old spreadsheet software ends lines in `\\r`
alone: such a file is one long line, and reading it as one would lose every record but the first. So a carriage return
inside a line is refused, unless it is part of a text.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from lbr_cli.errors import InputError

STDIN = "-"
STDIN_NAME = "standard input"
BLANKS = b" \t\r\n"  # a line of only these is blank; a form feed can be an id
UNPACK = {".gz": "gzip -dc", ".zst": "zstd -dc", ".bz2": "bzip2 -dc", ".xz": "xz -dc"}
# two JSON values with a carriage return between them; inside a JSON value, a comma would separate them
JSON_RECORDS = re.compile(rb"[}\]][ \t]*\r\s*[{\[]")

Numbered = Iterable[tuple[int, bytes]]  # lines with their numbers, from 1


def display_name(path: str) -> str:
    """Return the name of an input in messages."""
    return STDIN_NAME if path == STDIN else path


def shell_command(command: str, file: str, *, reads_stdin: bool = False) -> str:
    """Return `command` applied to `file`, which is decompressed first if it has the extension of a compressed file."""
    if file == STDIN_NAME:
        return command
    name = shlex.quote(file)
    unpack = next((tool for ending, tool in UNPACK.items() if file.endswith(ending)), None)
    if unpack:
        return f"{unpack} {name} | {command}"
    return f"{command} < {name}" if reads_stdin else f"{command} {name}"


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


def split_columns(text: str, columns: Sequence[str], file: str, line: int) -> list[str]:
    """Return the columns of a TSV line; the last one is the rest of the line. InputError if there are too few."""
    row = text.split("\t", len(columns) - 1)
    if len(row) < len(columns):
        message = f"a line has {len(columns)} tab-separated fields ({', '.join(columns)}), this one has {len(row)}"
        raise InputError(message, file, line)
    return row


class CarriageReturnError(InputError):
    """Records separated by carriage returns. `--bad-lines skip` does not skip them: the line holds many records."""

    def __init__(self, file: str, line: int) -> None:
        command = shell_command(r"tr '\r' '\n'", file, reads_stdin=True)
        hint = f"replace the carriage returns: {command}"
        super().__init__("a carriage return inside the line; lines have to end in a line feed", file, line, hint=hint)


def without_carriage_return(data: bytes, file: str, line: int) -> bytes:
    """Return a line of ids and numbers without trailing carriage returns. CarriageReturnError for any other."""
    data = data.rstrip(b"\r")
    if b"\r" in data:
        raise CarriageReturnError(file, line)
    return data


class CarriageReturns:
    """Detects records separated by carriage returns in a format whose texts may contain carriage returns.

    A line is refused if each part after a carriage return has the form of a record. The only line of a file is refused
    if any of these parts has.
    """

    def __init__(self, file: str, is_record: Callable[[bytes], bool]) -> None:
        self._file = file
        self._is_record = is_record
        self._suspect: int | None = None

    def check(self, data: bytes, line: int) -> None:
        """Raise CarriageReturnError if `data`, which contains carriage returns, is refused; `line` is its number."""
        _, *later = [part for part in data.split(b"\r") if part.strip(b" \t\n")] or [b""]
        records = [self._is_record(part) for part in later]
        if records and all(records):
            raise CarriageReturnError(self._file, line)
        if any(records):
            self._suspect = line

    def finish(self, lines: int) -> None:
        """Raise CarriageReturnError if the only line of the file is refused; `lines` counts the lines with data."""
        if lines == 1 and self._suspect is not None:
            raise CarriageReturnError(self._file, self._suspect)
