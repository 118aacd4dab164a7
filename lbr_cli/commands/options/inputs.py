"""Input options: the run, the texts of queries and documents, and what to do with invalid or missing ones."""

import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import typer

from lbr_cli.commands.command import OptionGroup, one_of
from lbr_cli.commands.files import check_inputs
from lbr_cli.errors import UsageError
from lbr_cli.formats import RUN_FORMATS, run_format
from lbr_cli.formats.corpus import Fields
from lbr_cli.formats.files import STDIN
from lbr_cli.inputs import Inputs, Policies

FORMAT_NAMES = [known.name for known in RUN_FORMATS]
JSONL_FIELDS = ("id_field", "text_field", "title_field")
CORPUS_FIELDS = (*JSONL_FIELDS, "tsv_columns")
QUERY_FIELDS = ("topic_field", "query_columns")
# without effect unless a file of queries is read
QUERY_OPTIONS = ("missing_queries", *QUERY_FIELDS)
CORPUS_OPTIONS = ("missing_docs", "bad_lines", *CORPUS_FIELDS)
JOIN_OPTIONS = ("corpus", "queries", "input_format", *QUERY_OPTIONS, *CORPUS_OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptions(OptionGroup):
    """The files with the texts of documents and queries, and the fields that hold them."""

    heading: ClassVar[str] = "Input"

    corpus: Annotated[
        list[str] | None,
        typer.Option(
            "--corpus", "-c", metavar="FILE", help="Documents: JSONL or TSV; repeat the option for several files."
        ),
    ] = None
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            "-q",
            metavar="FILE",
            help="Query texts: JSONL, TSV or TREC topics.",
            show_default="queries.* or topics.* beside the run or corpus",
        ),
    ] = None
    id_field: Annotated[str | None, typer.Option(metavar="KEY", help="Key of the document id in a JSONL corpus.")] = (
        None
    )
    text_field: Annotated[str | None, typer.Option(metavar="KEY", help="Key of the text in a JSONL corpus.")] = None
    title_field: Annotated[str | None, typer.Option(metavar="KEY", help="Key of the title in a JSONL corpus.")] = None
    tsv_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Columns of a TSV corpus: id, text and optionally title.", show_default="id,text"
        ),
    ] = None
    topic_field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Field of topics, key of JSONL or column of TSV with the query text.",
            show_default="title",
        ),
    ] = None
    query_columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Columns of TSV queries.",
            show_default="id,text; if more than two, id,title,description,narrative",
        ),
    ] = None

    def __post_init__(self) -> None:
        if not self.corpus:
            self.refuse(CORPUS_FIELDS, "there is no --corpus")
        if self.tsv_columns is not None:
            self.refuse(JSONL_FIELDS, "--tsv-columns names all columns")

    def fields(self) -> Fields:
        """Return where a corpus has its ids, texts and titles."""
        default = Fields()
        columns = _columns(self.tsv_columns)
        if columns and (columns.count("id") != 1 or columns.count("text") != 1 or columns.count("title") > 1):
            raise UsageError(f"--tsv-columns {self.tsv_columns}: needs id and text once, and may name title once")
        return Fields(
            ids=default.ids if self.id_field is None else (self.id_field,),
            texts=default.texts if self.text_field is None else (self.text_field,),
            title=default.title if self.title_field is None else self.title_field,
            columns=columns,
            chosen=tuple(f"--{name.replace('_', '-')}" for name in JSONL_FIELDS if getattr(self, name) is not None),
        )

    def columns_of_queries(self) -> tuple[str, ...] | None:
        """Return the names of the columns of TSV queries, or None."""
        columns = _columns(self.query_columns)
        if columns and (columns.count("id") != 1 or len(set(columns)) < max(2, len(columns))):
            raise UsageError(f"--query-columns {self.query_columns}: needs id once, and each other name once")
        return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions(TextOptions):
    """What `lbr rerank` reads."""

    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Candidates: TREC run, MS MARCO run or JSONL; - is standard input.")
    ] = STDIN
    query: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The query of input without queries: JSONL documents or --lines.")
    ] = None
    lines: Annotated[
        bool,
        typer.Option("--lines", help="Read RUN as plain text, rank its lines for --query and print them unchanged."),
    ] = False
    stream: Annotated[
        bool, typer.Option("--stream", help="Rerank each query as soon as it is read; RUN is JSONL with all texts.")
    ] = False
    input_format: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            parser=one_of(FORMAT_NAMES),
            help=f"Format of RUN: {', '.join(FORMAT_NAMES)}.",
            show_default="detected from its first line",
        ),
    ] = None
    missing_docs: Annotated[
        Literal["error", "skip", "last"],
        typer.Option(help="Candidates not found in the corpus: fail, leave them out, or rank them last."),
    ] = "error"
    missing_queries: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(help="Queries without a text: fail, leave them out, or keep the first-stage order."),
    ] = "error"
    duplicates: Annotated[
        Literal["warn", "error"], typer.Option(help="Duplicate pairs in RUN: warn and score them once, or fail.")
    ] = "warn"
    bad_lines: Annotated[
        Literal["error", "skip"], typer.Option(help="Invalid lines of the corpus: fail or skip them.")
    ] = "error"

    def __post_init__(self) -> None:
        if self.lines:
            self.refuse((*JOIN_OPTIONS, "stream", "duplicates"), "--lines ranks plain text")
        elif self.stream:
            self.refuse(JOIN_OPTIONS, "--stream reads JSONL with all texts")
        elif not self.corpus:
            self.refuse(CORPUS_OPTIONS, "there is no --corpus")
        if self.query is not None:
            self.refuse(("queries", *QUERY_OPTIONS), "--query is the only query")
        TextOptions.__post_init__(self)  # super() fails in dataclasses with slots
        self.check_utf8("query")
        if self.lines and self.query is None:
            raise UsageError("--lines needs --query", hint='lbr rerank --query "…" --lines notes.txt')
        check_inputs({"run": [self.run], "corpus": self.corpus or [], "queries": [self.queries or ""]})
        if self.run == STDIN and sys.stdin is not None and sys.stdin.isatty():
            raise UsageError("no RUN, and standard input is a terminal", hint="lbr rerank run.trec --corpus docs.jsonl")

    def inputs(self) -> Inputs:
        return Inputs(
            run=self.run,
            corpora=tuple(self.corpus or ()),
            queries=self.queries,
            query=self.query,
            lines=self.lines,
            format=run_format(self.input_format) if self.input_format else None,
            fields=self.fields(),
            topic_field=self.topic_field,
            query_columns=self.columns_of_queries(),
            policies=Policies(self.missing_docs, self.missing_queries, self.duplicates, self.bad_lines),
            chosen=self.given.intersection(QUERY_OPTIONS),
        )


def _columns(names: str | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names.split(","))
