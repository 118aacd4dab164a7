"""Input options: the run, the texts of queries and documents, and how to handle invalid and missing ones."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from typer import Argument

from lbr_cli.commands.command import OptionGroup, flag, option
from lbr_cli.errors import UsageError
from lbr_cli.formats import RUN_FORMATS, run_format
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.files import STDIN
from lbr_cli.formats.overwrite import WrittenFiles
from lbr_cli.inputs import Inputs, Policies
from lbr_cli.ordering import RRF_K

FORMAT_NAMES = [known.name for known in RUN_FORMATS]
JSONL_FIELDS = ("id_field", "text_field", "title_field")
QUERY_FIELDS = ("topic_field", "query_columns")
# options that need a queries file
QUERY_OPTIONS = ("missing_queries", *QUERY_FIELDS)
CORPUS_OPTIONS = ("missing_docs", "bad_lines", "tsv_columns")
# options without effect on plain text and streams, whose lines have all texts
JOIN_OPTIONS = ("corpus", "queries", "dataset", "input_format", "subset", "split", *QUERY_OPTIONS, *CORPUS_OPTIONS)
FUSE = option(None, "How to fuse several runs: reciprocal rank fusion.", "rrf")
FUSE_K = option("N", "Constant of reciprocal rank fusion: a document gets 1/(N+rank) from each run.", RRF_K, min=0)
INPUT_FORMAT = option(
    "FORMAT", f"Format of RUN: {', '.join(FORMAT_NAMES)}.", choices=FORMAT_NAMES, unset="detected from its first line"
)
SUBSET = option("NAME", "Subset of predictions of MTEB that hold several.")
SPLIT = option("NAME", "Split of predictions of MTEB that hold several.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions(OptionGroup):
    """The files of documents and queries, and the fields of their texts."""

    heading: ClassVar[str] = "Input"

    corpus: list[str] | None = option(
        "FILE", "Documents: JSONL, TSV, TRECTEXT, Parquet or Arrow; repeat the option for several.", short="-c"
    )
    queries: str | None = option(
        "FILE",
        "Query texts: JSONL, TSV, Parquet, Arrow or TREC topics.",
        short="-q",
        unset="queries.* or topics.* beside the run or corpus",
    )
    dataset: str | None = option("ID", "Data set of ir_datasets: the parts that no other option or argument names.")
    id_field: str | None = option(
        "KEY", "Key or column of the document id, of the corpus or else of RUN; dots lead into objects."
    )
    text_field: str | None = option("KEY", "Key of the text, as in _source.body.")
    title_field: str | None = option("KEY", "Key of the title, as in _source.title.")
    tsv_columns: str | None = option(
        "NAMES", "Columns of a TSV corpus: id, text and optionally title.", unset="id,text"
    )
    topic_field: str | None = option(
        "NAME", "Field of topics, key of JSONL or column with the query text.", unset="title"
    )
    query_columns: str | None = option(
        "NAMES", "Columns of TSV queries.", unset="id,text; if more than two, id,title,description,narrative"
    )

    def __post_init__(self) -> None:
        if not self.corpus:
            self.refuse(("tsv_columns",), "there is no --corpus")
            if self.dataset is not None:
                self.refuse(("id_field",), "there is no --corpus")
        if self.queries is None and self.dataset is not None:
            self.refuse(("query_columns",), "--dataset has the queries")
        if self.tsv_columns is not None:
            self.refuse(JSONL_FIELDS, "--tsv-columns names all columns")

    def fields(self) -> Fields:
        """Return the fields of a corpus with ids, texts and titles."""
        columns = _columns(self.tsv_columns)
        if columns and (columns.count("id") != 1 or columns.count("text") != 1 or columns.count("title") > 1):
            raise UsageError(f"--tsv-columns {self.tsv_columns}: needs id and text once, and may name title once")
        return Fields(self.id_field, self.text_field, self.title_field, columns)

    def columns_of_queries(self) -> tuple[str, ...] | None:
        """Return the names of the columns of TSV queries, or None."""
        columns = _columns(self.query_columns)
        if columns and (columns.count("id") != 1 or len(set(columns)) < max(2, len(columns))):
            raise UsageError(f"--query-columns {self.query_columns}: needs id once, and each other name once")
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions(TextOptions):
    """The input of `lbr rerank`."""

    run: list[str] | None = Argument(
        None,
        metavar="RUN",
        help="Candidates: runs (TREC, TSV, JSON), JSONL or Parquet; - is standard input. Several runs are fused.",
    )
    query: str | None = option("TEXT", "The query of input without queries: JSONL documents or --lines.")
    lines: bool = flag("Read RUN as plain text, rank its lines for --query and print them unchanged.")
    stream: bool = flag("Rerank each query as soon as it is read; RUN is JSONL with all texts.")
    input_format: str | None = INPUT_FORMAT
    subset: str | None = SUBSET
    split: str | None = SPLIT
    missing_docs: Literal["error", "skip", "last"] = option(
        None, "Candidates not found in the corpus: fail, leave them out, or rank them last.", "error"
    )
    missing_queries: Literal["error", "skip", "keep"] = option(
        None, "Queries without a text: fail, leave them out, or keep the first-stage order.", "error"
    )
    duplicates: Literal["warn", "error"] = option(
        None, "Duplicate pairs in RUN: warn and score them once, or fail.", "warn"
    )
    bad_lines: Literal["error", "skip"] = option(None, "Invalid lines of the corpus: fail or skip them.", "error")
    fuse: Literal["rrf"] = FUSE
    fuse_k: int = FUSE_K

    def __post_init__(self) -> None:
        if self.lines:
            self.refuse((*JOIN_OPTIONS, *JSONL_FIELDS, "stream", "duplicates"), "--lines ranks plain text")
        elif self.stream:
            self.refuse(JOIN_OPTIONS, "--stream reads JSONL with all texts")
        elif not self.corpus:
            without_corpus = CORPUS_OPTIONS if self.dataset is None else ("bad_lines",)
            self.refuse(without_corpus, "there is no --corpus")
        if self.dataset is not None and self.corpus and (self.queries or self.query is not None) and self.has_run:
            self.refuse(("dataset",), "RUN, --corpus and --queries name all its parts")
        if not self.has_run:
            self.refuse(("query", "input_format", "subset", "split"), "--dataset has the run")
        if self.query is not None:
            self.refuse(("queries", *QUERY_OPTIONS), "--query is the only query")
        if len(self.runs) <= 1:
            self.refuse(("fuse", "fuse_k"), "there is one RUN")
        elif self.lines or self.stream:
            raise UsageError(f"{'--lines' if self.lines else '--stream'} reads one RUN, not {len(self.runs)}")
        TextOptions.__post_init__(self)  # super() fails in dataclasses with slots
        self.check_utf8("query")
        if self.lines and self.query is None:
            raise UsageError("--lines needs --query", hint='lbr rerank --query "…" --lines notes.txt')
        check_inputs({"run": self.runs, "corpus": self.corpus or [], "queries": [self.queries]})
        if STDIN in self.runs and sys.stdin is not None and sys.stdin.isatty():
            raise UsageError("no RUN, and standard input is a terminal", hint="lbr rerank run.trec --corpus docs.jsonl")

    @property
    def has_run(self) -> bool:
        """Whether a RUN is read; without RUN, --dataset has the candidates."""
        return bool(self.run) or self.dataset is None

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs to read, none if the data set has the candidates."""
        return tuple(self.run or (STDIN,)) if self.has_run else ()

    def values(self) -> dict[str, Any]:
        """Return the options; a single run by itself, and without options of fusion."""
        values = TextOptions.values(self)
        if len(self.runs) > 1:
            return values
        return {**values, "run": self.runs[0] if self.runs else None, "fuse": None, "fuse_k": None}

    def inputs(self) -> Inputs:
        return Inputs(
            runs=self.runs,
            dataset=self.dataset,
            corpora=tuple(self.corpus or ()),
            queries=self.queries,
            query=self.query,
            lines=self.lines,
            format=run_format(self.input_format) if self.input_format else None,
            part=(self.subset, self.split),
            fields=self.fields(),
            topic_field=self.topic_field,
            query_columns=self.columns_of_queries(),
            policies=Policies(self.missing_docs, self.missing_queries, self.duplicates, self.bad_lines),
            chosen=self.given.intersection(QUERY_OPTIONS),
            fuse_k=self.fuse_k,
        )


def check_inputs(inputs: Mapping[str, Sequence[str | None]], written: WrittenFiles | None = None) -> None:
    """Raise UsageError if several inputs are standard input, or if one is also written. `inputs` are paths by role."""
    paths = [(role, path) for role, named in inputs.items() for path in named if path is not None]
    if [path for _, path in paths].count(STDIN) > 1:
        raise UsageError("only one input can be standard input")
    for role, path in paths:
        if written:
            written.check(role, path)


def _columns(names: str | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names.split(","))
