"""The input options of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lbr_cli.formats import RunFormat
from lbr_cli.formats.corpus import Fields


@dataclass(frozen=True, slots=True)
class Policies:
    """How to handle incomplete and invalid input."""

    missing_docs: Literal["error", "skip", "last"] = "error"
    missing_queries: Literal["error", "skip", "keep"] = "error"
    duplicates: Literal["warn", "error"] = "warn"
    bad_lines: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a job and how to read them. `-` is standard input; `queries` None searches beside the run.

    `query` is the query of a run whose lines name none. `lines`: the run is plain text, one document a line. `format`
    None detects the format of the run. `topic_field` and `query_columns` choose the text of a query, as in
    `read_queries`. `chosen` holds the names of the options that the user has set and that need a queries file.
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
    chosen: frozenset[str] = frozenset()
