"""`lbr report`: write an HTML page that compares runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from typer import Argument

from lbr_cli.commands.command import OptionGroup, command, option
from lbr_cli.commands.options.diagnostics import QUIET
from lbr_cli.commands.options.inputs import QUERY_FIELDS, TextOptions, check_inputs
from lbr_cli.core import Progress
from lbr_cli.evaluation import evaluate, warn_coverage
from lbr_cli.evaluation.measures import DEFAULTS, curves, parse_measures
from lbr_cli.evaluation.plot import CURVES
from lbr_cli.evaluation.runs import Run, check_match, read_judgments, read_run
from lbr_cli.formats.files import display_name
from lbr_cli.formats.output import open_output
from lbr_cli.formats.overwrite import MAIN, WrittenFiles
from lbr_cli.inputs.texts import QUERIES, queries_beside
from lbr_cli.progress import Console
from lbr_cli.report import page as html
from lbr_cli.report.page_data import PageMeasures, page_data
from lbr_cli.report.texts import TextFileOptions, find_texts


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput(TextOptions):
    """The input of `lbr report`."""

    before: str = Argument(..., metavar="BEFORE", help="The run to compare with: TREC, MS MARCO or JSONL.")
    after: list[str] = Argument(
        ..., metavar="AFTER", help="Other runs; JSONL written with --explain has the most details."
    )
    qrels: str | None = option("FILE", "Relevance judgments: TREC, BEIR, JSONL or Parquet; needed for measures.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions(OptionGroup):
    """The page: its file, measures and depth."""

    heading: ClassVar[str] = "Output"

    output: str = option("FILE", "File of the page; - is standard output.", ..., short="-o")
    measures: list[str] | None = option("NAMES", "Measures, as in lbr evaluate.", unset=" ".join(DEFAULTS))
    depth: int = option("K", "Documents shown of each query and run.", 100, min=1)


@command
def report(inputs: ReportInput, page: PageOptions, quiet: bool = QUIET) -> None:
    """Write an HTML page that compares runs.

    The page shows measures, the gain of each query, rankings side by side, and the texts.

    Examples:
        lbr report run.trec reranked.trec --qrels qrels.txt -o report.html
        lbr report run.trec reranked.jsonl -c docs.jsonl -o report.html
    """
    if inputs.qrels is None:
        page.refuse(("measures",), "there is no --qrels")
    written = WrittenFiles({MAIN: page.output})
    corpora, queries, qrels = inputs.corpus or [], inputs.queries, inputs.qrels
    paths = [inputs.before, *inputs.after]
    check_inputs({"run": paths, "corpus": corpora, QUERIES: [queries], "qrels": [qrels]}, written)
    measures = parse_measures(page.measures or DEFAULTS) if qrels is not None else []
    shown = TextFileOptions(
        inputs.fields(), inputs.topic_field, inputs.columns_of_queries(), needs_queries=queries is not None
    )
    with Console(bar=False, quiet=quiet) as console, open_output(page.output, console.warn) as out:
        runs = [read_run(path, keep=True) for path in paths]
        judged = _judged(qrels, runs, measures, console) if qrels is not None else None
        if judged:
            warn_coverage(judged.evaluation, console)
        if queries is None:
            queries = queries_beside([inputs.before], corpora, console)
        if queries is None:
            inputs.refuse(QUERY_FIELDS, "no file of queries is read")
        else:
            written.check(QUERIES, queries)
        texts = find_texts(runs, corpora, queries, shown, page.depth, console)
        title = f"{runs[0].name} → {', '.join(run.name for run in runs[1:])}"
        out.write(html(page_data(runs, texts, page.depth, judged), title))


def _judged(qrels: str, runs: list[Run], measures: list[Any], progress: Progress) -> PageMeasures:
    judgments = read_judgments(qrels)
    for run in runs:
        check_match(run, judgments, display_name(qrels), progress)
    everything = list(dict.fromkeys([*measures, *parse_measures(CURVES)]))
    evaluation = evaluate(judgments, runs, everything)
    return PageMeasures(judgments, evaluation, [str(measure) for measure in measures], curves(everything))
