"""MS MARCO files: tab-separated, one pair a line.

query_id  doc_id  rank                   a run
query_id  doc_id  query text  passage    a `top1000` file, candidates with their texts
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Candidate, Document, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.float32 import parse_number
from lbr_cli.formats.files import CarriageReturns, decoded, without_carriage_return
from lbr_cli.formats.protocol import Line, OutputOptions, RunFormat
from lbr_cli.formats.trec import FIELDS

FORMS = "an MS MARCO line has three fields (query, document, rank) or four (query id, document id, query, passage)"
RANK = re.compile(r"[0-9]{1,18}")


def _is_record(part: bytes) -> bool:
    """Return whether a part of a line is a line of either form."""
    fields = part.split(b"\t")
    return len(fields) > 3 or (len(fields) == 3 and RANK.fullmatch(fields[2].decode("latin-1")) is not None)


class TabSeparated(RunFormat):
    """The base class of runs with tabs between the fields."""

    def why_not_writable(self, query_id: str, doc_id: str) -> str:
        if not query_id or not doc_id:
            return "an empty id"
        return "an id with a tab or a line break" if re.search(r"[\t\n]", query_id + doc_id) else ""


class MsMarco(TabSeparated):
    name = "msmarco"
    suffix = ".tsv"

    def matches(self, line: str) -> bool:
        fields = line.split("\t")
        # a TREC line may contain tabs, but its second word is Q0
        words = FIELDS.findall(line)
        if len(words) >= 6 and words[1].upper() == "Q0" and parse_number(words[4]) is not None:
            return False
        if len(fields) == 4:
            return all(field and " " not in field for field in fields[:2])
        return len(fields) == 3 and bool(RANK.fullmatch(fields[2]))

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        width = count = 0
        returns = CarriageReturns(file, _is_record)
        for number, data in lines:
            count += 1
            if b"\r" in data:
                returns.check(data, number)
                data = data if data.count(b"\t") > 2 else without_carriage_return(data, file, number)
            text = decoded(data, file, number)
            width = width or min(text.count("\t") + 1, 4)
            fields = text.split("\t", 3 if width == 4 else -1)
            if len(fields) != width or width not in (3, 4):
                raise InputError(f"{FORMS}, as many as the first line; this one has {len(fields)}", file, number)
            query_id, doc_id, third = fields[:3]
            if width == 4:
                yield Line(number, Query(query_id, third), Candidate(doc_id, Document(doc_id, fields[3])))
            elif RANK.fullmatch(third):
                yield Line(number, Query(query_id), Candidate(doc_id, rank=int(third)))
            else:
                raise InputError(f"the rank, field 3, is not a whole number: {third}", file, number)
        returns.finish(count)

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        return "".join(f"{query.query_id}\t{row.candidate.doc_id}\t{row.rank}\n" for row in rows).encode()
