"""The input of a job: options, loading, groups of candidates, their texts, and streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lbr_cli.formats import RunFormat
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.files import display_name
from lbr_cli.ordering import RRF_K


@dataclass(frozen=True, slots=True)
class Policies:
    """How to handle incomplete and invalid input."""

    missing_docs: Literal["error", "skip", "last"] = "error"
    missing_queries: Literal["error", "skip", "keep"] = "error"
    duplicates: Literal["warn", "error"] = "warn"
    bad_lines: Literal["error", "skip"] = "error"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of a job and how to read them. `-` is standard input.

    Several `runs` are fused, with the constant `fuse_k`. `dataset` is the id of a data set of ir_datasets, which has
    the parts that are not in files: the candidates without `runs`, the documents without `corpora`, the queries without
    `queries`. Without a data set and `queries`, a queries file is searched beside the runs.

    `query` is the query of a run without queries. `lines`: the run is plain text, one document a line. `format` None
    detects the format of the run; `part` is the subset and the split of a run with several. `topic_field` and
    `query_columns` are arguments of `read_queries`. `chosen` names the options of a queries file that the user has set.
    """

    runs: tuple[str, ...]
    corpora: tuple[str, ...] = ()
    queries: str | None = None
    query: str | None = None
    lines: bool = False
    format: RunFormat | None = None
    part: tuple[str | None, str | None] = (None, None)
    fields: Fields = Fields()
    topic_field: str | None = None
    query_columns: tuple[str, ...] | None = None
    policies: Policies = Policies()
    chosen: frozenset[str] = frozenset()
    fuse_k: int = RRF_K
    dataset: str | None = None

    @property
    def run_name(self) -> str:
        """The names of the runs, for messages."""
        return ", ".join(map(display_name, self.runs)) or f"{self.dataset} scoreddocs"
