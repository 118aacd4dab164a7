"""`lbr report`: write an HTML page that compares runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from typer import Argument

from lbr_cli.commands.command import OptionGroup, command, option
from lbr_cli.commands.options.diagnostics import QUIET
from lbr_cli.commands.options.inputs import JSONL_FIELDS, QUERY_FIELDS, TextOptions, check_inputs
from lbr_cli.core import Progress
from lbr_cli.datasets import load_dataset
from lbr_cli.evaluation import evaluate, warn_coverage
from lbr_cli.evaluation.measures import DEFAULTS, curves, parse_measures
from lbr_cli.evaluation.plot import CURVES
from lbr_cli.evaluation.runs import Run, check_match, judgments_of, read_run
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

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)  # super() fails in dataclasses with slots
        if not self.corpus and self.dataset is None:
            self.refuse(JSONL_FIELDS, "there is no --corpus")
        if self.corpus and self.queries and self.qrels:
            self.refuse(("dataset",), "--corpus, --queries and --qrels name all its parts")


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
    dataset = load_dataset(inputs.dataset) if inputs.dataset is not None else None
    is_judged = inputs.qrels is not None or (dataset is not None and dataset.has("qrels"))
    if not is_judged:
        page.refuse(("measures",), "there is no --qrels" if dataset is None else f"{dataset.dataset_id} has no qrels")
    written = WrittenFiles({MAIN: page.output})
    corpora, queries, qrels = inputs.corpus or [], inputs.queries, inputs.qrels
    paths = [inputs.before, *inputs.after]
    check_inputs({"run": paths, "corpus": corpora, QUERIES: [queries], "qrels": [qrels]}, written)
    measures = parse_measures(page.measures or DEFAULTS) if is_judged else []
    text_options = TextFileOptions(
        inputs.fields(),
        inputs.topic_field,
        inputs.columns_of_queries(),
        dataset=dataset,
        needs_queries=queries is not None,
    )
    with Console(bar=False, quiet=quiet) as console, open_output(page.output, console.warn) as out:
        runs = [read_run(path, keep=True) for path in paths]
        page_measures = _page_measures(inputs, runs, measures, console) if is_judged else None
        if page_measures:
            warn_coverage(page_measures.evaluation, console)
        has_queries = dataset is not None and dataset.has("queries")
        if queries is None and not has_queries:
            queries = queries_beside([inputs.before], corpora, console)
        if queries is None and not has_queries:
            inputs.refuse(QUERY_FIELDS, "no queries file is read")
        elif queries is not None:
            written.check(QUERIES, queries)
        texts = find_texts(runs, corpora, queries, text_options, page.depth, console)
        title = f"{runs[0].name} → {', '.join(run.name for run in runs[1:])}"
        out.write(html(page_data(runs, texts, page.depth, page_measures, console.warn), title))


def _page_measures(inputs: ReportInput, runs: list[Run], measures: list[Any], progress: Progress) -> PageMeasures:
    judgments, name = judgments_of(inputs.qrels, inputs.dataset)
    for run in runs:
        check_match(run, judgments, name, progress)
    all_measures = list(dict.fromkeys([*measures, *parse_measures(CURVES)]))
    evaluation = evaluate(judgments, runs, all_measures)
    return PageMeasures(judgments, evaluation, [str(measure) for measure in measures], curves(all_measures))
