"""Binary files: how they are detected, and commands that convert them to text."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from lbr_cli.errors import InputError
from lbr_cli.formats.files import STDIN_NAME

TEXT_HINT = "lbr reads UTF-8 text, plain or as .gz, .bz2, .xz or .zst"
DUCKDB = "duckdb -c \"COPY (FROM '{name}') TO '/dev/stdout' (FORMAT json)\""


class Kind(NamedTuple):
    """A kind of binary file: its first bytes, its name with an article, and a command that converts it, or a hint."""

    first_bytes: re.Pattern[bytes]
    noun: str
    conversion: str


# an id may begin with PAR1, so a control character has to follow; PARE begins an encrypted file
PARQUET = Kind(re.compile(rb"PAR[1E][\x00-\x7f]{0,8}[\x00-\x08\x0e-\x1f]"), "a Parquet file", DUCKDB)
ARROW_FILE = Kind(re.compile(rb"ARROW1\x00"), "an Arrow file", "load it with pyarrow and write JSON lines")
ARROW_STREAM = Kind(re.compile(rb"\xff{4}"), "an Arrow stream", "load it with pyarrow and write JSON lines")
TABLES = (PARQUET, ARROW_FILE, ARROW_STREAM)
UTF_16 = "UTF-16 text without a byte-order mark"
KINDS = (
    *TABLES,
    Kind(re.compile(rb"PK\x03\x04"), "a zip archive", "unzip -p {file}"),
    Kind(re.compile(rb"\xff\xfe|\xfe\xff"), "UTF-16 text", "iconv -f utf-16 -t utf-8 {file}"),
    Kind(re.compile(rb"SQLite format 3\x00"), "a SQLite database", "sqlite3 -json {file} 'SELECT …' | jq -c '.[]'"),
    Kind(re.compile(rb"\x04\x22\x4d\x18"), "an LZ4 file", "lz4 -dc {file}"),
    Kind(re.compile(rb"\x1f\x9d"), "a compress (.Z) file", "gzip -dc {file}"),
    Kind(re.compile(rb"\x1f\x1e\x00"), "a pack (.z) file", "gzip -dc {file}"),
    Kind(re.compile(rb"\]\x00\x00"), "an LZMA file", "xz -dc {file}"),
    Kind(re.compile(rb"LZIP\x01"), "an lzip file", "lzip -dc {file}"),
    Kind(re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7z archive", "7z x -so {file}"),
    Kind(re.compile(rb"\x80[\x02-\x05](?s:.)"), "a Python pickle", "load it in Python and write JSON lines"),
    Kind(re.compile(rb"\x93NUMPY"), "a NumPy array", "load it in Python and write JSON lines"),
    Kind(re.compile(rb"(?s:.{257})ustar"), "a tar archive", "tar -xOf {file}"),
    Kind(re.compile(rb"(?:[^\x00]\x00){8}"), UTF_16, "iconv -f utf-16le -t utf-8 {file}"),
    Kind(re.compile(rb"(?:\x00[^\x00]){8}"), UTF_16, "iconv -f utf-16be -t utf-8 {file}"),
)


def refuse_binary(start: bytes, name: str) -> None:
    """Raise InputError if `start`, the first bytes of a file, decompressed, is not text."""
    for kind in KINDS:
        if kind.first_bytes.match(start):
            raise InputError(f"is {kind.noun}", name, hint=f"{TEXT_HINT}; {conversion_hint(kind, name)}")


def table_kind(start: bytes) -> Kind | None:
    """Return the kind of table whose first bytes are `start`, None if it is not a table."""
    return next((kind for kind in TABLES if kind.first_bytes.match(start)), None)


def conversion_hint(kind: Kind, name: str) -> str:
    """Return how to convert the file `name` to text."""
    if "{" not in kind.conversion:
        return kind.conversion
    path = "/dev/stdin" if name == STDIN_NAME else name
    return f"convert it: {kind.conversion.format(file=shlex.quote(path), name=path)}"
