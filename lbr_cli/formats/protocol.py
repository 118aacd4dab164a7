"""The protocol of a run format, and the types that it reads and writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lbr_cli.core import Candidate, Query, RankedCandidate


class Line(NamedTuple):
    """A candidate and the number of its line; `candidate` is None for a query without candidates.

    `implied`: the query has no id in the file, so its line number is its id.
    """

    number: int
    query: Query
    candidate: Candidate | None
    implied: bool = False


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How to write a ranking.

    `tag` is the run tag, for formats with `has_tag`. `explain` adds the details of scores, for formats with
    `has_details`. `is_first_stage`: no model has scored the ranking, so its scores are those of the first stage.
    """

    tag: str
    explain: bool = False
    is_first_stage: bool = False


class RunFormat(ABC):
    """The base class of file formats for runs. Its methods that are not abstract are the defaults."""

    name: str
    suffix: str = ""  # of an output file that gets this format; none if empty
    kept_suffix: str = ""  # of an output file that gets this format if the input has it
    has_tag: bool = False  # the output contains a run tag
    has_details: bool = False  # the output can contain the details of scores
    can_write: bool = True

    @abstractmethod
    def matches(self, line: str) -> bool:
        """Return whether a file whose first data line is `line` has this format."""

    @abstractmethod
    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        """Yield the candidates in the order of the file. InputError, with `file` and line, for an invalid line."""

    def why_not_writable(self, query_id: str, doc_id: str) -> str:
        """Return why a line with these ids cannot be written, or "" if it can."""
        return ""

    def write(self, query: Query, rows: Sequence[RankedCandidate], options: OutputOptions) -> bytes:
        """Return the lines of one query, if the format `can_write`."""
        raise NotImplementedError
