"""Group the candidates of a run by query while its lines are read."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import Literal

from lbr_cli.core import Candidate, Progress, Query
from lbr_cli.errors import InputError
from lbr_cli.formats import Line
from lbr_cli.inputs.locations import Locations
from lbr_cli.wording import pair_name

Groups = dict[str, "CandidateGroup"]  # by query id


@dataclass(slots=True)
class DuplicateCount:
    """Counts the duplicate pairs of a run; with the policy "error", the first one is an error."""

    locations: Locations
    policy: Literal["warn", "error"]
    count: int = 0
    first: str = ""

    def warn(self, progress: Progress) -> None:
        """Warn about the duplicates, if there are any."""
        if self.count:
            several = f"; {self.count} duplicate pairs, each" if self.count > 1 else ","
            progress.warn(f"{self.first}: duplicate pair{several} scored and written once")


def merged(known: Query, other: Query, known_text_at: str, other_text_at: str, *, hint: str = "") -> Query:
    """Return the query with the text and the instruction of `known` or else of `other`. InputError if they differ.

    `known_text_at` and `other_text_at` are the locations of the texts, FILE:LINE.
    """
    if None not in (known.text, other.text) and known.text != other.text:
        raise InputError(f"query {known.query_id} has another text at {known_text_at}", other_text_at, hint=hint)
    if None not in (known.instruction, other.instruction) and known.instruction != other.instruction:
        message = f"query {known.query_id} has another instruction at {known.instruction_at}"
        raise InputError(message, other.instruction_at)
    instructed = other if known.instruction is None else known
    text = other.text if known.text is None else known.text
    return replace(known, text=text, instruction=instructed.instruction, instruction_at=instructed.instruction_at)


@dataclass(slots=True)
class CandidateGroup:
    """The candidates of one query, by document id.

    `text_line` is the line of the query's text, `lines` has the lines of the candidates, in the same order, and
    `text_lines` those of document texts that follow their candidates. Lines are numbers of `Locations`, in an array of
    8 bytes each, because runs of a million lines are common.
    """

    query: Query
    text_line: int
    implied: bool = False
    candidates: dict[str, Candidate] = field(default_factory=dict)
    lines: array[int] = field(default_factory=lambda: array("Q"))
    text_lines: dict[str, int] = field(default_factory=dict)

    def add(self, line: Line, duplicates: DuplicateCount) -> None:
        """Add the candidate of a line. InputError if it conflicts with an earlier line, or for a duplicate pair."""
        number, query, candidate, implied = line
        locations = duplicates.locations
        if query is not self.query or implied != self.implied:
            self.add_query(query, number, locations, implied=implied)
        if candidate is None:
            return
        doc_id = candidate.doc_id
        known = self.candidates.setdefault(doc_id, candidate)
        if known is candidate:
            self.lines.append(number)
            return
        self._check_text(known, candidate, number, locations)
        pair = pair_name(query.query_id, doc_id)
        if duplicates.policy == "error":
            message = f"{pair}: duplicate pair, first at {locations.text(self._line_of(doc_id))}"
            raise InputError(message, *locations.of(number))
        duplicates.first = duplicates.first or f"{locations.text(number)}: {pair}"
        duplicates.count += 1
        if known.document is None and candidate.document is not None:
            self.text_lines[doc_id] = number
            self.candidates[doc_id] = Candidate(doc_id, candidate.document, known.score, known.rank, known.extra)

    def add_query(self, query: Query, number: int, locations: Locations, *, implied: bool) -> None:
        """Add the text and the instruction of a line. InputError if they differ from those of an earlier line."""
        if implied != self.implied:
            message = f"query id {query.query_id} is also the number of a line without an id"
            raise InputError(message, *locations.of(number), hint="give every query an id")
        has_texts = query.text is not None or query.instruction is not None
        if has_texts and query is not self.query and query != self.query:
            hint = "give every query an id" if implied else ""
            combined = merged(self.query, query, locations.text(self.text_line), locations.text(number), hint=hint)
            if self.query.text is None and query.text is not None:
                self.text_line = number
            self.query = combined

    def merge(self, candidate: Candidate, number: int, text_number: int, locations: Locations) -> None:
        """Add a candidate of another run, or its score, text and unknown keys to the candidate of the same document.

        The lines of the candidate and of its text are `number` and `text_number`. InputError for another text. If both
        runs have a key, the value of the earlier run is kept, unless it is null.
        """
        doc_id = candidate.doc_id
        known = self.candidates.setdefault(doc_id, candidate)
        if known is candidate:
            self.lines.append(number)
            if text_number != number:
                self.text_lines[doc_id] = text_number
            return
        self._check_text(known, candidate, text_number, locations)
        if known.document is None and candidate.document is not None:
            self.text_lines[doc_id] = text_number
        score = (known.score or 0) + (candidate.score or 0)
        extra = known.extra
        if candidate.extra:
            earlier = {key: value for key, value in (extra or {}).items() if value is not None}
            extra = {**(extra or {}), **candidate.extra, **earlier}
        self.candidates[doc_id] = Candidate(known.doc_id, known.document or candidate.document, score, None, extra)

    def _check_text(self, known: Candidate, candidate: Candidate, number: int, locations: Locations) -> None:
        if candidate.document and known.document and candidate.document != known.document:
            pair = pair_name(self.query.query_id, candidate.doc_id)
            message = f"{pair}: another text at {locations.text(self._line_of(candidate.doc_id))}"
            raise InputError(message, *locations.of(number))

    def check_texts(self, file: str, reason: str = "") -> None:
        """Raise InputError for a query or a document without a text; `reason` says why it needs one."""
        query_id = self.query.query_id
        if self.query.text is None:
            raise InputError(f"query {query_id}: no text{reason}", file, self.text_line)
        for number, (doc_id, candidate) in zip(self.lines, self.candidates.items(), strict=True):
            if candidate.document is None:
                raise InputError(f"{pair_name(query_id, doc_id)}: no text{reason}", file, number)

    def _line_of(self, doc_id: str) -> int:
        """Return the line of a candidate's text, or of the candidate. Slow, for errors only."""
        return self.text_lines.get(doc_id) or self.lines[list(self.candidates).index(doc_id)]
