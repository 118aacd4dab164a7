"""`lbr report`: write an HTML page that compares runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from lbr_cli.commands.command import OptionGroup, command
from lbr_cli.commands.files import check_inputs
from lbr_cli.commands.options.diagnostics import Quiet
from lbr_cli.commands.options.inputs import QUERY_FIELDS, TextOptions
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
    """What `lbr report` reads."""

    before: Annotated[str, typer.Argument(metavar="BEFORE", help="The run to compare with: TREC, MS MARCO or JSONL.")]
    after: Annotated[
        list[str],
        typer.Argument(metavar="AFTER", help="Other runs; JSONL written with --explain has the most details."),
    ]
    qrels: Annotated[
        str | None, typer.Option(metavar="FILE", help="Relevance judgments, TREC or BEIR; needed for measures.")
    ] = None

    def files(self) -> dict[str, list[str]]:
        """Return the paths by role."""
        named = {QUERIES: self.queries, "qrels": self.qrels}
        return {
            "run": [self.before, *self.after],
            "corpus": self.corpus or [],
            **{role: [path] for role, path in named.items() if path is not None},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOptions(OptionGroup):
    """What the page holds."""

    heading: ClassVar[str] = "Output"

    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="File of the page; - is standard output.")
    ]
    measures: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Measures, as in lbr evaluate.", show_default=" ".join(DEFAULTS)),
    ] = None
    depth: Annotated[int, typer.Option(metavar="K", min=1, help="Documents shown of each query and run.")] = 100


@command
def report(inputs: ReportInput, page: PageOptions, quiet: Quiet = False) -> None:
    """Write an HTML page that compares runs.

    The page shows measures, the gain of each query, rankings side by side, and the texts.

    Examples:
        lbr report run.trec reranked.trec --qrels qrels.txt -o report.html
        lbr report run.trec reranked.jsonl -c docs.jsonl -o report.html
    """
    if inputs.qrels is None:
        page.refuse(("measures",), "there is no --qrels")
    written = WrittenFiles({MAIN: page.output})
    check_inputs(inputs.files(), written)
    before, corpora, queries = inputs.before, inputs.corpus or [], inputs.queries
    measures = parse_measures(page.measures or DEFAULTS) if inputs.qrels is not None else []
    options = TextFileOptions(inputs.fields(), inputs.topic_field, inputs.columns_of_queries(), queries is not None)
    with Console(bar=False, quiet=quiet) as console, open_output(page.output, console.warn) as out:
        runs = [read_run(path, keep=True) for path in inputs.files()["run"]]
        judged = _judged(inputs.qrels, runs, measures, console) if inputs.qrels is not None else None
        if judged:
            warn_coverage(judged.evaluation, console)
        found = queries if queries is not None else queries_beside(before, corpora, console)
        if found is not None:
            written.check(QUERIES, found)
        else:
            inputs.refuse(QUERY_FIELDS, "no file of queries is read")
        texts = find_texts(runs, corpora, found, options, page.depth, console)
        title = f"{runs[0].name} → {', '.join(run.name for run in runs[1:])}"
        out.write(html(page_data(runs, texts, page.depth, judged), title))


def _judged(qrels: str, runs: list[Run], measures: list[Any], progress: Progress) -> PageMeasures:
    judgments = read_judgments(qrels)
    for run in runs:
        check_match(run, judgments, display_name(qrels), progress)
    everything = list(dict.fromkeys([*measures, *parse_measures(CURVES)]))
    evaluation = evaluate(judgments, runs, everything)
    return PageMeasures(judgments, evaluation, [str(measure) for measure in measures], curves(everything))
