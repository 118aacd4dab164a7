"""JSON lines: a line is an object, a number keeps its value, and what is wrong is said with its place.

orjson reads and writes. It turns integers of more than 64 bits and long fractions into the nearest float, and refuses
1e400: a line that may hold such a number is read by the standard library instead, which lets us keep its digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Self

import orjson

from lbr_cli.errors import InputError
from lbr_cli.formats.files import decoded
from lbr_cli.formats.line_ends import JSON_RECORDS, CarriageReturnError, shell_command

# digits enough, or an exponent, to be more than a float or 64 bits hold
LONG_NUMBER = re.compile(rb"[0-9][0-9.]{14}|[0-9][eE]")
DEEPEST = 250  # orjson writes 254 levels


class Verbatim(float):
    """A JSON number that a float does not hold, with its own digits: it comes out as it came in."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number

    @classmethod
    def integer(cls, text: str) -> int | Verbatim:
        value = int(text) if len(text) < 21 else None
        return value if value is not None and -(1 << 63) <= value < 1 << 64 else cls(text)

    @classmethod
    def fraction(cls, text: str) -> float:
        value = float(text)
        return value if repr(value) == text else cls(text)


def dump_json(record: dict[str, Any]) -> bytes:
    """One JSON line."""

    def other(value: object) -> orjson.Fragment:
        if isinstance(value, Verbatim):
            return orjson.Fragment(value.text)
        raise TypeError

    return orjson.dumps(record, default=other, option=orjson.OPT_APPEND_NEWLINE)


def _parse_json(data: bytes) -> Any:
    """What `data` says, each number with its value. JSONDecodeError is orjson's."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "infinity" not in str(error):  # a number beyond floats is good JSON
            raise
    else:
        if not LONG_NUMBER.search(data):
            return value
    try:
        value = json.loads(data, parse_int=Verbatim.integer, parse_float=Verbatim.fraction, parse_constant=_no_constant)
        dump_json(value)  # refuses lone surrogates, which json lets pass
    except (ValueError, TypeError, RecursionError) as error:
        raise orjson.JSONDecodeError(str(error), "", 0) from error
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def is_json(line: bytes) -> bool | None:
    """Whether the line of a file that is JSONL or TSV tells it to be JSONL; None where it tells nothing.

    An id in a TSV file may begin with a bracket, but JSON that is cut off before its first tab has a quote.
    """
    line = line.strip(b" \r\n")
    before, tab, _ = line.partition(b"\t")
    if line[:1] in (b"{", b"["):
        return not tab or b'"' in before or before in (b"{", b"[")
    return False if tab else None


def json_object(data: bytes, file: str, line: int, remedy: str = "jq -c .") -> dict[str, Any]:
    """`data` as one JSON object, or an InputError.

    `remedy` is the jq call that makes JSONL of a file that is one object over several lines.
    """
    try:
        record = _parse_json(data)
    except orjson.JSONDecodeError as error:
        decoded(data, file, line)
        if JSON_RECORDS.search(data):
            raise CarriageReturnError(file, line) from error
        start = data.strip()
        if start in (b"{", b"[", b"[{"):  # the first line of a file that is no JSONL
            raise _not_jsonl(file, line, "jq -c '.[]'" if start[:1] == b"[" else remedy) from error
        problem = str(error).split(": line ")[0]
        raise InputError(f"not valid JSON: {problem} at byte {error.pos + 1}", file, line) from error
    if isinstance(record, list):
        raise _not_jsonl(file, line, "jq -c '.[]'")
    if not isinstance(record, dict):
        raise InputError(f"a JSON object is needed, this is {json_kind(record)}", file, line)
    if data.count(b"{") + data.count(b"[") > DEEPEST and _depth(record) > DEEPEST:
        raise InputError(f"nested more than {DEEPEST} levels deep, which cannot be written again", file, line)
    return record


def _depth(value: object) -> int:
    """How many objects and arrays stand inside each other."""
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _inner(outer)]:
        depth += 1
    return depth


def _inner(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _not_jsonl(file: str, line: int, remedy: str) -> InputError:
    hint = f"make it so: {shell_command(remedy, file)}"
    return InputError("not JSONL, which is one JSON object a line", file, line, hint=hint)


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
