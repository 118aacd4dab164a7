"""Carriage returns: which are part of a text, and which separate lines that should end in a line feed.

A line ends in `\\n`; every `\\r` before it is dropped. Old spreadsheet software ends lines in `\\r` alone. Such a file
is one long line here, and reading it as such would lose every record but the first.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from lbr_cli.errors import InputError

STDIN_NAME = "standard input"
UNPACK = {".gz": "gzip -dc", ".zst": "zstd -dc", ".bz2": "bzip2 -dc", ".xz": "xz -dc"}
REPLACE = r"tr '\r' '\n'"
# two JSON values with a carriage return between them, which no JSON value contains
JSON_RECORDS = re.compile(rb"[}\]][ \t]*\r\s*[{\[]")


class CarriageReturnError(InputError):
    """Records separated by carriage returns. `--bad-lines skip` does not skip them: the line holds many records."""

    def __init__(self, file: str, line: int) -> None:
        message = "a carriage return inside the line; lines have to end in a line feed"
        hint = f"replace the carriage returns: {shell_command(REPLACE, file, reads_stdin=True)}"
        super().__init__(message, file, line, hint=hint)


def shell_command(command: str, file: str, *, reads_stdin: bool = False) -> str:
    """Return `command` applied to `file`, which is decompressed first if its name says that it is compressed."""
    if file == STDIN_NAME:
        return command
    name = shlex.quote(file)
    unpack = next((tool for ending, tool in UNPACK.items() if file.endswith(ending)), None)
    if unpack:
        return f"{unpack} {name} | {command}"
    return f"{command} < {name}" if reads_stdin else f"{command} {name}"


def without_carriage_return(data: bytes, file: str, line: int) -> bytes:
    """Return the line without trailing carriage returns; raise if there is another one.

    For formats whose fields are ids and numbers.
    """
    data = data.rstrip(b"\r")
    if b"\r" in data:
        raise CarriageReturnError(file, line)
    return data


class CarriageReturns:
    """Looks for records that are separated by carriage returns in a format whose texts may contain some.

    A line is refused if everything after each carriage return has the form of a record, or if anything has and the
    line is the only one of the file.
    """

    def __init__(self, file: str, is_record: Callable[[bytes], bool]) -> None:
        self._file = file
        self._is_record = is_record
        self._suspect: int | None = None

    def check(self, data: bytes, line: int) -> None:
        """Look at a line that contains a carriage return."""
        _, *later = [part for part in data.split(b"\r") if part.strip(b" \t\n")] or [b""]
        records = [self._is_record(part) for part in later]
        if records and all(records):
            raise CarriageReturnError(self._file, line)
        if any(records):
            self._suspect = line

    def finish(self, lines: int) -> None:
        """Decide about the only line of a file, when `lines` that are not blank were read."""
        if lines == 1 and self._suspect is not None:
            raise CarriageReturnError(self._file, self._suspect)


def has_tabs(count: int) -> Callable[[bytes], bool]:
    """Whether a part of a line has at least `count` tabs."""
    return lambda part: part.count(b"\t") >= count
