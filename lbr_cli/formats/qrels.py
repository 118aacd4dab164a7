"""Relevance judgments: TREC (`query iteration document grade`) or BEIR (`query document grade`, tabs, a header).

The iteration is ignored; grades are integers and may be negative.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from lbr_cli.errors import InputError
from lbr_cli.formats.files import decoded, display_name, numbered, open_input
from lbr_cli.formats.records import json_object
from lbr_cli.formats.trec import FIELDS

GRADE = re.compile(r"[+-]?[0-9]{1,9}")
LINES_REMEDY = "jq -r '\"\\(.query_id) 0 \\(.doc_id) \\(.relevance)\"'"
REMEDY = 'jq -r \'to_entries[] | .key as $q | .value | to_entries[] | [$q, "0", .key, .value] | join(" ")\''


class Qrel(NamedTuple):
    """How relevant a document is to a query."""

    query_id: str
    doc_id: str
    relevance: int


def read_qrels(path: str) -> list[Qrel]:
    """The judgments of a file, in its order. Raises InputError with file and line for what cannot be read."""
    return [qrel for _, qrel in numbered_qrels(path)]


def numbered_qrels(path: str) -> Iterator[tuple[int, Qrel]]:
    """The same one by one, each with the number of its line."""
    name = display_name(path)
    lines = numbered(open_input(path))
    first = next(lines, None)
    if first is None:
        return
    start = decoded(first[1], name, first[0])
    if start.lstrip().startswith(("{", "[")):
        _refuse_json(start, name, first[0])
    beir = start.count("\t") == 2 and len(FIELDS.findall(start)) == 3 and not start.startswith("#")
    if not (beir and not re.search("[0-9]", start.split("\t")[2])):
        lines = itertools.chain([first], lines)  # no header
    for number, data in lines:
        text = decoded(data, name, number)
        fields = text.split("\t") if beir else FIELDS.findall(text)
        if not beir and fields[0].startswith("#"):
            continue
        if len(fields) != (3 if beir else 4):
            form = "BEIR: query, document, grade" if beir else "TREC: query, iteration, document, grade"
            message = f"a judgment has {3 if beir else 4} fields ({form}), this line has {len(fields)}"
            hint = "this looks like a run" if len(fields) >= 6 else ""
            raise InputError(message, name, number, hint=hint)
        grade = fields[-1].strip(" ")
        if not GRADE.fullmatch(grade):
            raise InputError(f"the grade is no integer of at most nine digits: {fields[-1]}", name, number)
        yield number, Qrel(fields[0], fields[-2], int(grade))


def _refuse_json(start: str, name: str, number: int) -> None:
    """InputError for a first line that is, or begins, JSON; an id may begin with a bracket."""
    try:
        whole = isinstance(orjson.loads(start), dict)
    except orjson.JSONDecodeError:
        whole = False
    if whole:
        hint = f"make it so: {LINES_REMEDY} {name}"
        raise InputError("judgments are TREC or BEIR, not JSONL", name, number, hint=hint)
    if len(FIELDS.findall(start)) < 3:
        json_object(start.strip()[:1].encode(), name, number, REMEDY)  # raises
