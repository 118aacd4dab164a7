"""`lbr report`: write an HTML page that compares runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lbr_cli.commands.options import (
    IdField,
    QueryColumns,
    TextField,
    TitleField,
    TopicField,
    TsvColumns,
    chosen_columns,
    chosen_fields,
    refuse,
)
from lbr_cli.core import Progress
from lbr_cli.errors import UsageError
from lbr_cli.evaluation import evaluate, tell_coverage
from lbr_cli.evaluation.measures import DEFAULTS, curves, parse_measures
from lbr_cli.evaluation.plot import CURVES
from lbr_cli.evaluation.runs import Run, check_match, read_judgments, read_run
from lbr_cli.formats.files import STDIN, display_name
from lbr_cli.formats.output import open_output
from lbr_cli.formats.overwrite import MAIN, WrittenFiles
from lbr_cli.inputs.texts import QUERIES, queries_beside
from lbr_cli.progress import Console
from lbr_cli.report import page
from lbr_cli.report.story import Judged, story
from lbr_cli.report.texts import Chosen, find_texts


def report(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="The run to compare with: TREC, MS MARCO or JSONL.")],
    after: Annotated[
        list[str], typer.Argument(metavar="AFTER", help="One or several others; JSONL made with --explain tells most.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where the page goes; - is stdout.")],
    qrels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Relevance judgments; without them it shows movements alone.")
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option("--corpus", "-c", metavar="FILE", help="Texts of documents, JSONL or TSV.")
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option("--queries", "-q", metavar="FILE", help="Texts of queries, else found as lbr rerank finds them."),
    ] = None,
    measures: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help=f"As in lbr evaluate, else {' '.join(DEFAULTS)}.")
    ] = None,
    id_field: IdField = None,
    text_field: TextField = None,
    title_field: TitleField = None,
    tsv_columns: TsvColumns = None,
    topic_field: TopicField = None,
    query_columns: QueryColumns = None,
    depth: Annotated[int, typer.Option(metavar="K", min=1, help="Documents of a query that are shown.")] = 100,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing on stderr but warnings and errors.")] = False,
) -> None:
    """Make one HTML page: measures, what each query gained, rankings side by side, and the texts.

    lbr report run.trec reranked.trec --qrels qrels.txt --corpus docs.jsonl -o report.html
    """
    paths = [before, *after, *(corpus or ()), *([queries] if queries else []), *([qrels] if qrels else [])]
    if paths.count(STDIN) > 1:
        raise UsageError("only one of the files can be standard input")
    if qrels is None:
        refuse(ctx, ("measures",), "there is no --qrels")
    if not corpus:
        refuse(ctx, ("id_field", "text_field", "title_field", "tsv_columns"), "there is no --corpus")
    written = WrittenFiles({MAIN: output})
    for role, names in (("run", [before, *after]), ("corpus", corpus or []), (QUERIES, [queries]), ("qrels", [qrels])):
        for name in names:
            if name is not None:
                written.check(role, name)
    chosen = parse_measures(measures or DEFAULTS) if qrels is not None else []
    shown = Chosen(chosen_fields(ctx.params), topic_field, chosen_columns(query_columns), named=queries is not None)
    with Console(bar=False, quiet=quiet) as console, open_output(output, console.warn) as out:
        runs = [read_run(path, keep=True) for path in (before, *after)]
        judged = _judged(qrels, runs, chosen, console) if qrels is not None else None
        if judged:
            tell_coverage(judged.evaluation, console)
        found = queries if queries is not None else queries_beside(before, corpus or (), console)
        if found is not None:
            written.check(QUERIES, found)
        else:
            refuse(ctx, ("topic_field", "query_columns"), "no file of queries is read")
        texts = find_texts(runs, corpus or (), found, shown, depth, console)
        title = f"{runs[0].name} → {', '.join(run.name for run in runs[1:])}"
        out.write(page(story(runs, texts, depth, judged), title))


def _judged(qrels: str, runs: list[Run], measures: list[Any], progress: Progress) -> Judged:
    judgments = read_judgments(qrels)
    for run in runs:
        check_match(run, judgments, display_name(qrels), progress)
    everything = list(dict.fromkeys([*measures, *parse_measures(CURVES)]))
    evaluation = evaluate(judgments, runs, everything)
    return Judged(judgments, evaluation, [str(measure) for measure in measures], curves(everything))
