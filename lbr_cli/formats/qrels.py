"""Relevance judgments: TREC (`query iteration document grade`) or BEIR (`query document grade`, tabs, a header).

The iteration is ignored; grades are integers and may be negative.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from lbr_cli.errors import InputError
from lbr_cli.formats.files import decoded, numbered, without_carriage_return
from lbr_cli.formats.json_qrels import refuse_json
from lbr_cli.formats.trec import FIELDS

TREC_FORM = "4 fields (TREC: query, iteration, document, grade)"
GRADE = re.compile(r"[+-]?[0-9]{1,9}")


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
    if start.lstrip().startswith(("{", "[")):
        rest = list(lines)
        refuse_json([first, *rest], name)
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
