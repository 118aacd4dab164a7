"""Relevance judgments: TREC (`query iteration document grade`) or BEIR (`query document grade`, tabs, a header).

The iteration is ignored; grades are integers and may be negative.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from lbr_cli.errors import InputError
from lbr_cli.formats.files import decoded, display_name, numbered, open_input
from lbr_cli.formats.records import json_object
from lbr_cli.formats.trec import FIELDS

GRADE = re.compile(r"[+-]?[0-9]{1,9}")
REMEDY = 'jq -r \'to_entries[] | .key as $q | .value | to_entries[] | [$q, "0", .key, .value] | join(" ")\''


class Qrel(NamedTuple):
    """How relevant a document is to a query."""

    query_id: str
    doc_id: str
    relevance: int


def read_qrels(path: str) -> list[Qrel]:
    """The judgments of a file, in its order. Raises InputError with file and line for what cannot be read."""
    name = display_name(path)
    lines = numbered(open_input(path))
    first = next(lines, None)
    if first is None:
        return []
    start = decoded(first[1], name, first[0])
    if start.lstrip().startswith(("{", "[")) and len(FIELDS.findall(start)) < 3:
        json_object(first[1].strip()[:1], name, first[0], REMEDY)  # raises
    beir = start.count("\t") == 2 and len(FIELDS.findall(start)) == 3 and not start.startswith("#")
    if not (beir and not GRADE.fullmatch(start.split("\t")[2])):
        lines = itertools.chain([first], lines)  # no header
    found = []
    for number, data in lines:
        text = decoded(data, name, number)
        fields = text.split("\t") if beir else FIELDS.findall(text)
        if not beir and fields[0].startswith("#"):
            continue
        if len(fields) != (3 if beir else 4):
            form = "BEIR: query, document, grade" if beir else "TREC: query, iteration, document, grade"
            message = f"a judgment has {3 if beir else 4} fields ({form}), this line has {len(fields)}"
            raise InputError(message, name, number)
        if not GRADE.fullmatch(fields[-1]):
            raise InputError(f"the grade is no integer: {fields[-1]}", name, number)
        found.append(Qrel(fields[0], fields[-2], int(fields[-1])))
    return found
