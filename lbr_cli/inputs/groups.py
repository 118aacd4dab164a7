"""Group the candidates of a run by query while its lines are read."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Literal

from lbr_cli.core import Candidate, Progress, Query
from lbr_cli.errors import InputError
from lbr_cli.formats import Line
from lbr_cli.wording import pair_name


@dataclass(slots=True)
class DuplicateCount:
    """Counts the duplicate pairs of `file`, or refuses the first if `policy` is "error"."""

    file: str
    policy: Literal["warn", "error"]
    count: int = 0
    first: str = ""

    def warn(self, progress: Progress) -> None:
        """Warn about the duplicates, if there are any."""
        if self.count:
            several = f"; {self.count} duplicate pairs, each" if self.count > 1 else ","
            progress.warn(f"{self.first}: duplicate pair{several} scored and written once")


@dataclass(slots=True)
class CandidateGroup:
    """The candidates of one query, by document id.

    `text_line` is the line of the query's text, `lines` are those of the candidates, in the same order. `text_lines`
    are the lines of document texts that come later than their candidates. Lines are 8 bytes each in an array: runs of a
    million lines are usual.
    """

    query: Query
    text_line: int
    implied: bool = False
    candidates: dict[str, Candidate] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("Q"))
    text_lines: dict[str, int] = field(default_factory=dict)

    def add(self, line: Line, duplicates: DuplicateCount) -> None:
        """Add the candidate of a line. InputError if the line contradicts an earlier one, or for a duplicate."""
        number, query, candidate, implied = line
        file, doc_id = duplicates.file, candidate.doc_id
        if implied != self.implied:
            message = f"query id {query.query_id} is also the number of a line without an id"
            raise InputError(message, file, number, hint="give every query an id")
        if query.text is not None and query.text != self.query.text:
            if self.query.text is not None:
                raise InputError(f"query {query.query_id} has another text at {file}:{self.text_line}", file, number)
            self.query, self.text_line = query, number
        known = self.candidates.setdefault(doc_id, candidate)
        if known is candidate:
            self.lines.append(number)
            return
        pair = pair_name(query.query_id, doc_id)
        if candidate.document and known.document and candidate.document != known.document:
            raise InputError(f"{pair}: another text at {file}:{self._line_of(doc_id)}", file, number)
        if duplicates.policy == "error":
            raise InputError(f"{pair}: duplicate pair, first at {file}:{self._line_of(doc_id)}", file, number)
        duplicates.first = duplicates.first or f"{file}:{number}: {pair}"
        duplicates.count += 1
        if known.document is None and candidate.document is not None:
            self.text_lines[doc_id] = number
            self.candidates[doc_id] = Candidate(doc_id, candidate.document, known.score, known.rank, known.extra)

    def _line_of(self, doc_id: str) -> int:
        """Return the line of a candidate's text, or of the candidate. Slow, for errors only."""
        return self.text_lines.get(doc_id) or self.lines[list(self.candidates).index(doc_id)]
