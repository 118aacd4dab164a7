"""Refuse judgments in JSON, with the jq command that converts the file to TREC judgments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from lbr_cli.errors import InputError
from lbr_cli.formats.files import shell_command
from lbr_cli.formats.json_lines import first_key

# keys of a judgment; the first that is present is used
QUERIES = ("query_id", "qid", "query-id", "topic_id")
DOCUMENTS = ("doc_id", "docid", "docno", "corpus-id", "corpus_id", "pid")
GRADES = ("relevance", "rel", "grade", "label", "judgment", "score")
# {query: {document: grade}} and {query: [document, …]}
NESTED = 'to_entries[] | .key as $q | .value | to_entries[] | [$q, "0", .key, .value] | join(" ")'
LISTED = 'to_entries[] | .key as $q | .value[] | [$q, "0", ., "1"] | join(" ")'


def refuse_json(lines: Sequence[tuple[int, bytes]], name: str) -> None:
    """Raise InputError if the lines of a file are JSON. The first one begins with a bracket, as an id may."""
    number, start = lines[0]
    value = _parsed(b"\n".join(data for _, data in lines))
    if value is None:
        value = _parsed(start)
    if value is None and len(start.split()) > 2:
        return
    program = _program(value)
    has_fields = isinstance(value, dict) and not all(isinstance(field, dict | list) for field in value.values())
    kind = "JSONL" if has_fields else "JSON"
    command = shell_command(f"jq -r '{program}'", name)
    hint = f"convert it: {command}" if program else ""
    raise InputError(f"judgments are TREC or BEIR, not {kind}", name, number, hint=hint)


def _parsed(data: bytes) -> Any:
    """Return the object or array in `data`, None if it is not one."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict | list) else None


def _program(value: Any) -> str:
    """Return the jq program that prints the judgments of `value`, "" for an unknown form."""
    if isinstance(value, list):
        inner = _record_program(value[0]) if value else ""
        return f".[] | {inner}" if inner else ""
    if not isinstance(value, dict) or not value:
        return ""
    if record := _record_program(value):
        return record
    if all(isinstance(grades, dict) and _are_plain(grades.values()) for grades in value.values()):
        return NESTED
    return LISTED if all(isinstance(ids, list) and _are_plain(ids) for ids in value.values()) else ""


def _record_program(record: Any) -> str:
    if not isinstance(record, dict):
        return ""
    keys = [first_key(names, record) for names in (QUERIES, DOCUMENTS, GRADES)]
    if None in keys:
        return ""
    query, document, grade = (f'."{key}"' for key in keys)
    return f'[{query}, "0", {document}, {grade}] | join(" ")'


def _are_plain(values: Any) -> bool:
    return all(isinstance(value, str | int) for value in values)
