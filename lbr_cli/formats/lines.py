"""Plain text: every line that is not blank is a document for the one query, and comes out as it was, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Candidate, Document, Query, Scored
from lbr_cli.formats.files import BLANKS, decoded, without_end
from lbr_cli.formats.runs import Line, Style

RAW = "line"  # the key that holds a line's own bytes until they are written


class PlainLines:
    """The format of `--lines`. It is never told by a first line: any text would fit."""

    name = "lines"
    suffix = ""

    def __init__(self, query: Query) -> None:
        self._query = query

    def matches(self, line: str) -> bool:
        return False

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        for number, raw in lines:
            if raw.strip(BLANKS):
                doc_id = str(number)
                document = Document(doc_id, decoded(without_end(raw), file, number))
                yield Line(number, self._query, Candidate(doc_id, document, extra={RAW: raw}))

    def objection(self, query_id: str, doc_id: str) -> str:
        return ""

    def write(self, query: Query, rows: Sequence[Scored], style: Style) -> bytes:
        lines = [row.candidate.extra[RAW] for row in rows if row.candidate.extra]
        return b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
