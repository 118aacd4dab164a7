"""TREC runs: six fields separated by blanks or tabs, as trec_eval 10 reads them.

    query_id Q0 doc_id rank score tag

The second field and those after the sixth are ignored. A line whose first non-blank is `#` is a comment. trec_eval
ignores the rank: it orders by score, as float32, and ties by document id. Every written score is therefore at least one
float32 step below the score before it, so that every evaluator reads the written order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Candidate, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.float32 import LARGEST, float32, parse_number, round_trip_text, step_below
from lbr_cli.formats.files import decoded, without_carriage_return
from lbr_cli.formats.protocol import Line, OutputOptions, RunFormat

# the awk command that converts a LETOR file whose comments name the documents to a run
LETOR = (
    """awk '{split($2, q, ":"); for (i = 3; i < NF; i++) if ($i == "docid") print q[2], "Q0", $(i + 2), 0, 0, "x"}'"""
)
FORM = "query Q0 document rank score tag"
FIELDS = re.compile(r"[^ \t]+")
OTHER_BLANKS = re.compile(rb"[\x0b-\x1f]")  # ASCII blanks of str.split that do not separate fields


class Trec(RunFormat):
    name = "trec"
    suffix = ".trec"
    has_tag = True

    def matches(self, line: str) -> bool:
        return len(FIELDS.findall(line)) >= 6

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        queries: dict[str, Query] = {}  # lines of a query need not follow each other
        for number, data in lines:
            if data.isascii() and ((text := data.decode()).isprintable() or not OTHER_BLANKS.search(data)):
                fields = text.split()  # faster than FIELDS, and the same if the line has no other blanks
            else:
                if b"\r" in data:
                    data = without_carriage_return(data, file, number)
                fields = FIELDS.findall(decoded(data, file, number))
            if fields[0].startswith("#"):
                continue
            if len(fields) < 6:
                raise InputError(f"a TREC run line has six fields ({FORM}), this one has {len(fields)}", file, number)
            score = parse_number(fields[4])
            if score is None and fields[1].startswith("qid:"):
                message = "a LETOR file (grade qid:ID feature:value …), not a run"
                raise InputError(message, file, number, hint=f"convert it: {LETOR}")
            if score is None:
                raise InputError(f"the score, field 5, is not a finite decimal number: {fields[4]}", file, number)
            query = queries.get(fields[0])
            if query is None:
                query = queries[fields[0]] = Query(fields[0])
            yield Line(number, query, Candidate(fields[2], score=score))

    def why_not_writable(self, query_id: str, doc_id: str) -> str:
        if not query_id or not doc_id:
            return "an empty id"
        if re.search(r"[ \t\n]", query_id + doc_id):
            return "an id with a blank"
        return "a query id that begins with #, as a comment does," if query_id.startswith("#") else ""

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        lines = []
        for row, value in zip(rows, falling_scores(rows), strict=True):
            score = round_trip_text(value)
            lines.append(f"{query.query_id} Q0 {row.candidate.doc_id} {row.rank} {score} {options.tag}\n")
        return "".join(lines).encode()


def falling_scores(rows: Sequence[RankedCandidate]) -> Iterator[float]:
    """Yield the score of each row, at least one float32 step below the one before it."""
    previous = float("inf")
    for value in _scores(rows):
        previous = value if value < previous else step_below(previous)
        yield previous


def _scores(rows: Sequence[RankedCandidate]) -> list[float]:
    """Return the scores before ties are broken; +inf means one step below the line before.

    If no candidate is scored, they are the first-stage scores; if one of these is missing, they fall from 0.
    """
    if rows and all(row.score is None for row in rows):
        first_stage = [float32(row.candidate.score) for row in rows if row.candidate.score is not None]
        can_fall = len(first_stage) == len(rows) and min(first_stage) > -LARGEST / 2
        return first_stage if can_fall else [0.0] + [float("inf")] * (len(rows) - 1)
    return [float("inf") if row.score is None else row.score for row in rows]
