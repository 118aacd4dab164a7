"""What a format of candidate lists has to offer: to know its own first line, to be read, and to be written.

`lbr_cli.formats.RUN_FORMATS` holds one instance for each format; a new one is one file and one entry there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lbr_cli.core import Candidate, Query, RankedCandidate


class Line(NamedTuple):
    """One candidate of the input and the number of the line it stands in.

    `implied` says that the line gave no query id, and that its number stands for one.
    """

    number: int
    query: Query
    candidate: Candidate
    implied: bool = False


@dataclass(frozen=True, slots=True)
class Style:
    """What the user decides about the output: the run tag (TREC), and whether the details of scores are wanted."""

    tag: str
    explain: bool = False


class RunFormat(Protocol):
    """A way to write candidate lists down."""

    name: str
    suffix: str

    def matches(self, line: str) -> bool:
        """Whether a file that begins with this data line is of this format."""
        ...

    def read(self, lines: Iterable[tuple[int, bytes]], file: str) -> Iterator[Line]:
        """The candidates in the order of the file; InputError with `file` and line for what cannot be read."""
        ...

    def objection(self, query_id: str, doc_id: str) -> str:
        """Why a line with these ids cannot be written, or ""."""
        ...

    def write(self, query: Query, rows: Sequence[RankedCandidate], style: Style) -> bytes:
        """The lines of one query."""
        ...
