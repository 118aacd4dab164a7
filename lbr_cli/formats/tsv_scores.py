"""Tab-separated runs with scores, as retrievers write them.

    query_id  doc_id  score                    Tevatron
    query_id  doc_id  rank  score  [label]     ColBERT and PLAID

The score orders the candidates; the rank and the label are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lbr_cli.core import Candidate, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.float32 import parse_number, round_trip_text
from lbr_cli.formats.files import decoded, without_carriage_return
from lbr_cli.formats.msmarco import RANK, TabSeparated
from lbr_cli.formats.protocol import Line, OutputOptions
from lbr_cli.formats.trec import falling_scores


class TsvScores(TabSeparated):
    """One of the two forms. `columns` are the names of its columns, of which the first `least` are required.

    An output file .tsv is an MS MARCO run, so these formats have no suffix.
    """

    def __init__(self, name: str, columns: Sequence[str], least: int) -> None:
        self.name = name
        self._columns = columns
        self._least = least
        self._score = columns.index("score")

    def matches(self, line: str) -> bool:
        fields = line.split("\t")
        if not self._least <= len(fields) <= len(self._columns) or parse_number(fields[self._score]) is None:
            return False
        # a whole number in the third of three fields is the rank of an MS MARCO run
        return bool(RANK.fullmatch(fields[2])) == ("rank" in self._columns)

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        query = Query("")
        for number, data in lines:
            fields = decoded(without_carriage_return(data, file, number), file, number).split("\t")
            if not self._least <= len(fields) <= len(self._columns):
                form = ", ".join(self._columns[: self._least])
                message = f"a line has {self._least} tab-separated fields ({form}), this one has {len(fields)}"
                raise InputError(message, file, number, hint="choose another format with --input-format")
            score = parse_number(fields[self._score])
            if score is None:
                column = f"field {self._score + 1}"
                message = f"the score, {column}, is not a finite decimal number: {fields[self._score]}"
                raise InputError(message, file, number, hint="choose another format with --input-format")
            if "rank" in self._columns and not RANK.fullmatch(fields[2]):
                message = f"the rank, field 3, is not a whole number: {fields[2]}"
                raise InputError(message, file, number, hint="--input-format msmarco reads query texts and passages")
            if fields[0] != query.query_id:
                query = Query(fields[0])
            yield Line(number, query, Candidate(fields[1], score=score))

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        lines = []
        for row, score in zip(rows, falling_scores(rows), strict=True):
            rank = f"{row.rank}\t" if "rank" in self._columns else ""
            lines.append(f"{query.query_id}\t{row.candidate.doc_id}\t{rank}{round_trip_text(score)}\n")
        return "".join(lines).encode()


TEVATRON = TsvScores("tevatron", ("query", "document", "score"), 3)
COLBERT = TsvScores("colbert", ("query", "document", "rank", "score", "label"), 4)
