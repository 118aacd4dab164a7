"""MS MARCO files: tab-separated, one pair a line.

query_id  doc_id  rank                   a run
query_id  doc_id  query text  passage    a `top1000` file, candidates with their texts
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Candidate, Document, Query, Scored
from lbr_cli.errors import InputError
from lbr_cli.formats.files import decoded
from lbr_cli.formats.runs import Line, Style
from lbr_cli.formats.trec import FIELDS


class MsMarco:
    name = "msmarco"
    suffix = ".tsv"

    def matches(self, line: str) -> bool:
        fields = line.split("\t")
        if len(fields) == 3:
            return fields[2].isdecimal() and fields[2].isascii() and not _blank(fields[:2])
        # a TREC line may hold three tabs among its blanks, but its fourth word is a rank and its sixth ends it
        words = FIELDS.findall(line)
        return len(fields) == 4 and not _blank(fields[:2]) and not (len(words) == 6 and words[3].isdecimal())

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        width = 0
        for number, data in lines:
            text = decoded(data, file, number)
            width = width or min(text.count("\t") + 1, 4)
            fields = text.split("\t", 3 if width == 4 else -1)
            if len(fields) != width or width not in (3, 4):
                raise InputError(
                    f"an MS MARCO line has three fields (query, document, rank) or four (query id, document id, "
                    f"query, passage), as many as the first line; this one has {len(fields)}",
                    file,
                    number,
                )
            query_id, doc_id = fields[:2]
            if width == 4:
                yield Line(number, Query(query_id, fields[2]), Candidate(doc_id, Document(doc_id, fields[3])))
            elif fields[2].isdecimal() and fields[2].isascii():
                yield Line(number, Query(query_id), Candidate(doc_id, rank=int(fields[2])))
            else:
                raise InputError(f"the rank, field 3, is not a whole number: {fields[2]}", file, number)

    def objection(self, value: str) -> str:
        if not value:
            return "an empty id"
        return "an id with a tab or a line break" if "\t" in value or "\n" in value else ""

    def write(self, query: Query, rows: Sequence[Scored], style: Style) -> bytes:
        return "".join(f"{query.query_id}\t{row.candidate.doc_id}\t{row.rank}\n" for row in rows).encode()


def _blank(fields: list[str]) -> bool:
    return any(not field or " " in field for field in fields)
