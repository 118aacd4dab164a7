"""Files that are not text: their names, and commands that convert them to text."""

from __future__ import annotations

import codecs
import re
import shlex

from lbr_cli.errors import InputError
from lbr_cli.formats.files import STDIN_NAME

TEXT_HINT = "lbr reads UTF-8 text, plain or as .gz, .bz2, .xz or .zst"
DUCKDB = "duckdb -c \"COPY (FROM '{name}') TO '/dev/stdout' (FORMAT json)\""
# first bytes, what the file is, and a command that writes it as text, or a hint
KINDS: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"PK\x03\x04"), "a zip archive", "unzip -p {file}"),
    (re.compile(re.escape(codecs.BOM_UTF16_LE)), "UTF-16 text", "iconv -f utf-16 -t utf-8 {file}"),
    (re.compile(re.escape(codecs.BOM_UTF16_BE)), "UTF-16 text", "iconv -f utf-16 -t utf-8 {file}"),
    (re.compile(rb"PAR1[\x00-\x7f]{0,8}[\x00-\x08\x0e-\x1f]"), "a Parquet file", DUCKDB),  # ids may begin so, too
    (
        re.compile(rb"ARROW1\x00"),
        "an Arrow file",
        'python -c "import sys, pyarrow.feather as f; sys.stdout.write('
        "f.read_feather(sys.argv[1]).to_json(orient='records', lines=True))\" {file}",
    ),
    (re.compile(rb"SQLite format 3\x00"), "a SQLite database", "sqlite3 -json {file} 'SELECT …' | jq -c '.[]'"),
    (re.compile(rb"\x04\x22\x4d\x18"), "an LZ4 file", "lz4 -dc {file}"),
    (re.compile(rb"7z\xbc\xaf\x27\x1c"), "a 7z archive", "7z x -so {file}"),
    (re.compile(rb"\x80[\x02-\x05](?s:.)"), "a Python pickle", "load it in Python and write JSON lines"),
    (re.compile(rb"\x93NUMPY"), "a NumPy array", "load it in Python and write JSON lines"),
    (re.compile(rb"(?s:.{257})ustar"), "a tar archive", "tar -xOf {file}"),
    (re.compile(rb"(?:[^\x00]\x00){8}"), "UTF-16 text without a byte-order mark", "iconv -f utf-16le -t utf-8 {file}"),
    (re.compile(rb"(?:\x00[^\x00]){8}"), "UTF-16 text without a byte-order mark", "iconv -f utf-16be -t utf-8 {file}"),
)


def refuse_binary(start: bytes, name: str) -> None:
    """Raise InputError if `start`, the first bytes of a file or of what it decompresses to, is not text."""
    for pattern, kind, conversion in KINDS:
        if pattern.match(start):
            raise InputError(f"is {kind}", name, hint=f"{TEXT_HINT}; {_command(conversion, name)}")


def _command(conversion: str, name: str) -> str:
    if "{file}" not in conversion:
        return conversion
    file = "/dev/stdin" if name == STDIN_NAME else shlex.quote(name)
    return f"convert it: {conversion.format(file=file, name='/dev/stdin' if name == STDIN_NAME else name)}"
