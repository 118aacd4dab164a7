"""Relevance judgments: TREC (`query iteration document grade`), BEIR (`query document grade`, tabs, header) or JSONL.

The iteration is ignored; grades are integers and may be negative. JSONL and tables have one judgment a line or row.
Judgments in other JSON are refused, with a jq command that converts them to TREC.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from lbr_cli.errors import InputError
from lbr_cli.formats.files import Numbered, decoded, numbered, shell_command, without_carriage_return
from lbr_cli.formats.json_lines import Record, bad_type, first_key, json_object
from lbr_cli.formats.tables import TableColumns
from lbr_cli.formats.trec import FIELDS

TREC_FORM = "4 fields (TREC: query, iteration, document, grade)"
GRADE = re.compile(r"[+-]?[0-9]{1,9}")
# keys of a judgment; the first that is present is used
QUERIES = ("query_id", "qid", "query-id", "q_id", "topic_id")
DOCUMENTS = ("doc_id", "docid", "docno", "corpus-id", "corpus_id", "pid")
GRADES = ("relevance", "rel", "grade", "label", "judgment", "score")
TABLE_COLUMNS = TableColumns((QUERIES, DOCUMENTS, GRADES))
# {query: {document: grade}} and {query: [document, …]}
NESTED = 'to_entries[] | .key as $q | .value | to_entries[] | [$q, "0", .key, .value] | join(" ")'
LISTED = 'to_entries[] | .key as $q | .value[] | [$q, "0", ., "1"] | join(" ")'


class Qrel(NamedTuple):
    """How relevant a document is to a query."""

    query_id: str
    doc_id: str
    relevance: int


def read_qrels(stream: io.BufferedReader) -> Iterator[tuple[int, Qrel]]:
    """Yield each judgment with the number of its line. InputError, with file and line, for an invalid line."""
    name = stream.name
    lines = numbered(stream)
    first = next(lines, None)
    if first is None:
        return
    start = decoded(first[1], name, first[0])
    if _is_record(_parsed(first[1])):
        yield from _from_json(itertools.chain([first], lines), name)
        return
    if start.lstrip().startswith(("{", "[")):
        rest = list(lines)
        _refuse_json([first, *rest], name)
        lines = iter(rest)
    first = first[0], without_carriage_return(first[1], name, first[0])
    beir = start.count("\t") == 2 and len(FIELDS.findall(start)) == 3 and not start.startswith("#")
    if not (beir and not re.search("[0-9]", start.split("\t")[2])):
        lines = itertools.chain([first], lines)  # no header
    for number, data in lines:
        text = decoded(without_carriage_return(data, name, number), name, number)
        fields = text.split("\t") if beir else FIELDS.findall(text)
        if not beir and fields[0].startswith("#"):
            continue
        if len(fields) != (3 if beir else 4):
            form = "3 fields (BEIR: query, document, grade)" if beir else TREC_FORM
            hint = "this looks like a run" if len(fields) >= 6 else ""
            raise InputError(f"a judgment has {form}, this line has {len(fields)}", name, number, hint=hint)
        grade = fields[-1].strip(" ")
        if not GRADE.fullmatch(grade):
            raise InputError(f"the grade is not an integer of at most nine digits: {fields[-1]}", name, number)
        yield number, Qrel(fields[0], fields[-2], int(grade))


def _is_record(value: Any) -> bool:
    """Return whether the value of a line is a judgment: an object with values that are not objects or arrays."""
    return isinstance(value, dict) and not all(isinstance(field, dict | list) for field in value.values())


def _from_json(lines: Numbered, name: str) -> Iterator[tuple[int, Qrel]]:
    for number, data in lines:
        record = Record(json_object(data, name, number), name, number)
        query_id, doc_id = _id(record, "query", QUERIES), _id(record, "document", DOCUMENTS)
        key = first_key(GRADES, record.values)
        if key is None:
            raise record.missing("grade", GRADES)
        grade = record.values[key]
        if isinstance(grade, float) and grade.is_integer():
            grade = int(grade)
        if type(grade) is not int or abs(grade) >= 10**9:
            raise record.error(bad_type(key, "an integer of at most nine digits", record.values[key]))
        yield number, Qrel(query_id, doc_id, grade)


def _id(record: Record, noun: str, keys: tuple[str, ...]) -> str:
    value = record.id(keys)
    if value is None:
        raise record.missing(f"{noun} id", keys)
    return value


def _refuse_json(lines: Sequence[tuple[int, bytes]], name: str) -> None:
    """Raise InputError if a file whose first line begins with a bracket is JSON; an id may begin with one, too."""
    number, start = lines[0]
    value = _parsed(b"\n".join(data for _, data in lines))
    if value is None:
        value = _parsed(start)
    if value is None and len(start.split()) > 2:
        return
    program = _program(value)
    command = shell_command(f"jq -r '{program}'", name)
    hint = f"convert it: {command}" if program else ""
    raise InputError("judgments are TREC, BEIR or JSONL, not other JSON", name, number, hint=hint)


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
