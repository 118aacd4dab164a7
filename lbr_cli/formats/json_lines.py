"""JSON lines: one object a line. Numbers keep their value, and errors give file and line.

orjson reads and writes. It rounds integers of more than 64 bits and long fractions to floats, and refuses 1e400. So the
standard library, which can keep the digits, reads the lines that may contain such a number.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

import orjson

from lbr_cli.errors import InputError
from lbr_cli.formats.files import JSON_RECORDS, CarriageReturnError, decoded, shell_command

INSTRUCTION = "instruction"  # the key of an instruction for one query, which replaces the instruction of the model
ID_TYPES = "a string or a 64-bit integer"
# many digits or an exponent: a float or a 64-bit integer may not represent the number
LONG_NUMBER = re.compile(rb"[0-9][0-9.]{14}|[0-9][eE]")
DEEPEST = 250  # levels; orjson writes at most 254


class Verbatim(float):
    """A JSON number that a float cannot represent. It is written with its original digits."""

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
    """Return a record as a JSON line."""

    def other(value: object) -> orjson.Fragment:
        if isinstance(value, Verbatim):
            return orjson.Fragment(value.text)
        raise TypeError

    return orjson.dumps(record, default=other, option=orjson.OPT_APPEND_NEWLINE)


def _parse_json(data: bytes) -> Any:
    """Parse JSON without loss of digits. Raises orjson's JSONDecodeError."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if "infinity" not in str(error):  # a number too large for a float is valid JSON
            raise
    else:
        if not LONG_NUMBER.search(data):
            return value
    try:
        value = json.loads(data, parse_int=Verbatim.integer, parse_float=Verbatim.fraction, parse_constant=_no_constant)
        dump_json(value)  # refuses lone surrogates, which json accepts
    except (ValueError, TypeError, RecursionError) as error:
        raise orjson.JSONDecodeError(str(error), "", 0) from error
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def is_json(line: bytes) -> bool | None:
    """Return True for a line of JSONL, False for one of TSV, None if it could be either.

    An id in a TSV file can begin with a bracket, but JSON up to its first tab contains a quote.
    """
    line = line.strip(b" \r\n")
    before, tab, _ = line.partition(b"\t")
    if line[:1] in (b"{", b"["):
        return not tab or b'"' in before or before in (b"{", b"[")
    return False if tab else None


def json_object(data: bytes, file: str, line: int, remedy: str = "jq -c .") -> dict[str, Any]:
    """Parse a line as one JSON object. InputError for anything else.

    `remedy` is the jq command that converts a file of one object over several lines to JSONL.
    """
    try:
        record = _parse_json(data)
    except orjson.JSONDecodeError as error:
        decoded(data, file, line)
        if JSON_RECORDS.search(data):
            raise CarriageReturnError(file, line) from error
        start = data.strip()
        if start in (b"{", b"[", b"[{"):  # the first line of a file that is JSON and not JSONL
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
    """Return the number of levels of nested objects and arrays."""
    depth, level = 0, [value]
    while True:
        values = [list(outer.values()) if isinstance(outer, dict) else outer for outer in level]
        level = [inner for outer in values if isinstance(outer, list) for inner in outer]
        if not level:
            return depth
        depth += 1


def _not_jsonl(file: str, line: int, remedy: str) -> InputError:
    hint = f"convert it: {shell_command(remedy, file)}"
    return InputError("not JSONL, which is one JSON object a line", file, line, hint=hint)


def add_nested(record: dict[str, Any], paths: Iterable[str]) -> None:
    """Add the value at each dotted path, such as `_source.body`, with the path as its key. An existing key is kept."""
    for path in paths:
        value = value_at(path, record)
        if value is not None:
            record.setdefault(path, value)


def value_at(path: str, record: Mapping[str, Any]) -> Any:
    """Return the value of a key, or else at a dotted path; None if there is none."""
    if path in record or "." not in path:
        return record.get(path)
    value: Any = record
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def first_key(keys: Iterable[str], record: Mapping[str, Any]) -> str | None:
    """Return the first of `keys` that is in `record`."""
    return next((key for key in keys if key in record), None)


class Record:
    """A JSON object of a file, whose values are checked for their types.

    A path is a key, or a dotted path into objects. An InputError names the file and the line, and begins with `where`,
    the part of the line that the object is.
    """

    def __init__(self, values: Mapping[str, Any], file: str, line: int, where: str = "") -> None:
        self.values = values
        self.file = file
        self.line = line
        self._where = where

    def inner(self, values: Mapping[str, Any], where: str) -> Record:
        """Return an object inside this one."""
        return Record(values, self.file, self.line, where)

    def error(self, message: str, hint: str = "") -> InputError:
        return InputError(self._where + message, self.file, self.line, hint=hint)

    def missing(self, noun: str, keys: Iterable[str], remedy: str = "") -> InputError:
        """Return the error for a record with none of `keys`. The hint is `remedy` and the first keys of the record."""
        present = ", ".join(list(self.values)[:8])
        return self.error(f"no {noun} ({', '.join(keys)})", f"{remedy}the line has {present}" if present else "")

    def checked_id(self, path: str, value: object) -> str:
        """Return the `value` at a path as an id. InputError for another type."""
        if (text := as_id(value)) is None:
            raise self.error(bad_type(path, ID_TYPES, value))
        return text

    def id(self, keys: Iterable[str]) -> str | None:
        """Return the id at the first of `keys` that is present; None if none is present."""
        key = first_key(keys, self.values)
        return None if key is None else self.checked_id(key, self.values[key])

    def text(self, paths: Iterable[str]) -> str | None:
        """Return the string at the first of `paths` whose value is not null; None if all are null."""
        for path in paths:
            value = value_at(path, self.values)
            if isinstance(value, str):
                return value
            if value is not None:
                raise self.error(bad_type(path, "a string", value))
        return None

    def string(self, path: str) -> str:
        """Return the string at a path. InputError for another type."""
        text = self.text([path])
        if text is None:
            raise self.error(bad_type(path, "a string", None))
        return text

    def integer(self, key: str) -> int | None:
        value: int | None = self._typed(key, "an integer", int)
        return value

    def number(self, keys: Iterable[str]) -> float | None:
        """Return the number at the first of `keys` that is present; None for null. InputError if it is not finite."""
        key = first_key(keys, self.values)
        value = None if key is None else self._typed(key, "a number", int | float)
        if value is not None and not math.isfinite(value):
            raise self.error(f'"{key}" has to be a finite number')
        return None if value is None else float(value)

    def _typed(self, key: str, types: str, kind: Any) -> Any:
        value = self.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise self.error(bad_type(key, types, value))
        return value

    def instruction(self) -> tuple[str | None, str]:
        """Return the instruction of a query and its location, FILE:LINE; None and "" if there is none."""
        text = self.text([INSTRUCTION])
        return text, "" if text is None else f"{self.file}:{self.line}"

    def others(self, *read: Iterable[str]) -> dict[str, Any]:
        """Return all values except, for each list of keys, the value of its first key that is present."""
        used = {first_key(keys, self.values) for keys in read}
        return {key: value for key, value in self.values.items() if key not in used}


def bad_type(key: str, types: str, value: object) -> str:
    """Return the message for a value that does not have one of `types`."""
    return f'"{key}" has to be {types}, this is {json_kind(value)}'


def json_kind(value: object) -> str:
    """Return the JSON name of the type of `value`, with its article."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", str: "a string", list: "an array", dict: "an object", int: "an integer"}
    return kinds.get(type(value), "a number with a fraction or of more than 64 bits")


def as_id(value: object) -> str | None:
    """Return an id from JSON: a string, or a 64-bit integer as its decimal digits; None for any other type."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
