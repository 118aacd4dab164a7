"""What a job reads, what it makes of input that is not as it should be, and a query's candidates as they come in."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Literal

from lbr_cli.core import Candidate, Progress, Query
from lbr_cli.errors import InputError
from lbr_cli.formats import Line, RunFormat
from lbr_cli.formats.corpus import Fields
from lbr_cli.formats.files import Sums
from lbr_cli.formats.overwrite import WrittenFiles


@dataclass(frozen=True, slots=True)
class Policies:
    """What happens to input that is not as it should be."""

    missing_docs: Literal["error", "skip", "last"] = "error"
    missing_queries: Literal["error", "skip", "keep"] = "error"
    duplicates: Literal["warn", "error"] = "warn"
    bad_lines: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that a job reads. Paths; `-` is standard input; `queries` None looks beside the run.

    `query` is the one query of input that has none, and `lines` says that the input is plain text, a document a line.
    `topic_field` and `query_columns` choose the text of a query as `read_queries` does. `sums` hears every byte that
    is read. `written` holds the output files, so that a queries file found beside the run is refused if it is one of
    them. `chosen` holds the names of options that were given on the command line and need a file to have an effect.
    """

    run: str
    corpora: tuple[str, ...] = ()
    queries: str | None = None
    query: str | None = None
    lines: bool = False
    format: RunFormat | None = None
    fields: Fields = Fields()
    topic_field: str | None = None
    query_columns: tuple[str, ...] | None = None
    policies: Policies = Policies()
    sums: Sums | None = None
    written: WrittenFiles = field(default_factory=WrittenFiles)
    chosen: frozenset[str] = frozenset()


@dataclass(slots=True)
class Group:
    """The candidates of one query as they are read, and the line that each stands in."""

    query: Query
    text_line: int
    implied: bool = False
    candidates: dict[str, Candidate] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, line: Line, file: str, policies: Policies) -> bool:
        """Take a line in; False if its pair was there already. InputError if it contradicts an earlier line."""
        number, query, candidate, implied = line
        if implied != self.implied:
            message = f"query id {query.query_id} is both given and, for a line without one, the line's number"
            raise InputError(message, file, number, hint="give every query an id")
        if query.text is not None and query.text != self.query.text:
            if self.query.text is not None:
                raise InputError(f"query {query.query_id} has another text at {file}:{self.text_line}", file, number)
            self.query, self.text_line = query, number
        doc_id = candidate.doc_id
        known = self.candidates.setdefault(doc_id, candidate)
        if known is candidate:
            self.lines.append(number)
            return True
        pair = f"query {query.query_id}, document {doc_id}"
        if candidate.document and known.document and candidate.document != known.document:
            raise InputError(f"{pair}: another text stands at {file}:{self._line_of(doc_id)}", file, number)
        if policies.duplicates == "error":
            raise InputError(f"{pair}: duplicate pair, first at {file}:{self._line_of(doc_id)}", file, number)
        if known.document is None and candidate.document is not None:
            self.lines[self._place_of(doc_id)] = number
            self.candidates[doc_id] = Candidate(doc_id, candidate.document, known.score, known.rank, known.extra)
        return False

    def _line_of(self, doc_id: str) -> int:
        return self.lines[self._place_of(doc_id)]

    def _place_of(self, doc_id: str) -> int:
        return list(self.candidates).index(doc_id)


@dataclass(slots=True)
class Duplicates:
    """How many lines repeat a pair, and where the first one stands."""

    count: int = 0
    first: str = ""

    def tell(self, progress: Progress) -> None:
        if self.count:
            what = "scored" if self.count == 1 else f"{self.count} duplicate pairs, each scored"
            separator = "," if self.count == 1 else ";"
            progress.warn(f"{self.first}: duplicate pair{separator} {what} and written once")

    def note(self, line: Line, file: str) -> None:
        self.count += 1
        self.first = (
            self.first or f"{file}:{line.number}: query {line.query.query_id}, document {line.candidate.doc_id}"
        )
