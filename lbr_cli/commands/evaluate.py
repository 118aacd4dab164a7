"""`lbr evaluate`: compute the measures of runs and compare them."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import typer

from lbr_cli.commands.command import OptionGroup, command, option
from lbr_cli.commands.options.diagnostics import QUIET
from lbr_cli.commands.options.extensions import checked_extension
from lbr_cli.commands.options.inputs import check_inputs
from lbr_cli.errors import UsageError
from lbr_cli.evaluation import Evaluation, plot, tables, warn_coverage
from lbr_cli.evaluation import evaluate as judge
from lbr_cli.evaluation.measures import DEFAULTS, curves, is_measure, parse_measures
from lbr_cli.evaluation.runs import check_match, judgments_of, read_run
from lbr_cli.evaluation.thresholds import check_thresholds, parse_threshold
from lbr_cli.formats.output import STDOUT, check_stdout, open_output
from lbr_cli.formats.overwrite import PRINTED, WrittenFiles
from lbr_cli.progress import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions(OptionGroup):
    """The files to read and to write, and the measures."""

    runs: list[str] = typer.Argument(
        ..., metavar="RUN", help="Runs: TREC, TSV, JSON, JSONL or Parquet; all are compared with the first."
    )
    qrels: str | None = option("FILE", "Relevance judgments: TREC, BEIR, JSONL or Parquet.")
    dataset: str | None = option("ID", "Data set of ir_datasets whose qrels are the judgments.")
    measures: list[str] | None = option(
        "NAMES", 'Measures in the notation of ir_measures, as in "nDCG@{1,3,5} P(rel=2)@5".', unset=" ".join(DEFAULTS)
    )
    format: Literal["table", "json", "tsv", "markdown"] = option(None, "Format of standard output.", "table")
    per_query: str | None = option("FILE", "Write the values of each query to FILE: .jsonl or .tsv, also .gz and .zst.")
    plot: str | None = option(
        "FILE", "Plot the measures over their cut-offs, by default nDCG, P and R at 1 to 100: .png or .svg."
    )
    fail_below: list[str] | None = option(
        "LEAST", "Exit with 1 if a run has a lower mean, as in nDCG@10=0.4; repeat the option for several."
    )
    quiet: bool = QUIET

    def __post_init__(self) -> None:
        if self.qrels is None and self.dataset is None:
            raise UsageError("no judgments", hint="name them with --qrels, or a data set of ir_datasets with --dataset")
        if self.qrels is not None:
            self.refuse(("dataset",), "--qrels has the judgments")


@command
def evaluate(options: EvaluateOptions) -> None:
    """Compute measures of runs and compare them with the first.

    Differences are tested for significance.

    Examples:
        lbr evaluate --qrels qrels.txt run.trec reranked.trec
        lbr evaluate --qrels qrels.txt run.trec --measures "AP P@1" --format json
        lbr evaluate --qrels qrels.txt run.trec reranked.trec --plot curves.svg
        lbr evaluate --qrels qrels.txt nightly.trec --fail-below nDCG@10=0.4
    """
    check_stdout()
    values_format = picture_format = None
    if options.per_query is not None:
        values_format = checked_extension("--per-query", options.per_query, tables.PER_QUERY, compressed=True)
    if options.plot is not None:
        picture_format = checked_extension("--plot", options.plot, plot.ENDINGS)
    chosen = parse_measures(options.measures or DEFAULTS)
    plotted = (chosen if options.measures else parse_measures(plot.CURVES)) if options.plot else []
    if options.plot:
        plot.check_curves(curves(plotted))
    thresholds = [parse_threshold(text) for text in options.fail_below or ()]
    _check_paths(options)
    with Console(bar=False, quiet=options.quiet) as console, ExitStack() as outputs:
        # opened first, so that a file that cannot be written ends the command before anything is computed
        values_file, picture_file = (
            outputs.enter_context(open_output(path, console.warn)) if path else None
            for path in (options.per_query, options.plot)
        )
        judgments, name = judgments_of(options.qrels, options.dataset)
        runs = [read_run(path) for path in options.runs]
        for run in runs:
            check_match(run, judgments, name, console)
        least = [threshold.measure for threshold in thresholds]
        all_values = judge(judgments, runs, list(dict.fromkeys([*chosen, *plotted, *least])))
        evaluation = replace(all_values, measures=[str(measure) for measure in chosen])
        if values_file and values_format:
            values_file.write(tables.PER_QUERY[values_format](evaluation))
        if picture_file and picture_format:
            picture_file.write(plot.plot(all_values, curves(plotted), plot.ENDINGS[picture_format]))
        warn_coverage(evaluation, console)
        text = _text(evaluation, options.format)
    typer.echo(text, nl=False)
    check_thresholds(thresholds, all_values)


def _text(evaluation: Evaluation, format_: str) -> str:
    if format_ == "table":
        styled = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if styled else None
        return tables.as_table(evaluation, width=width, styled=styled)
    return {"json": tables.as_json, "tsv": tables.as_tsv, "markdown": tables.as_markdown}[format_](evaluation)


def _check_paths(options: EvaluateOptions) -> None:
    """Raise UsageError for inputs that cannot be read together, and for outputs that would overwrite an input."""
    for path in options.runs:
        if is_measure(path) and not os.path.exists(path):
            raise UsageError(f"{path}: file not found", hint='several measures go into one --measures: "nDCG@10 RR"')
    written = WrittenFiles({"--per-query": options.per_query, "--plot": options.plot, PRINTED: STDOUT})
    check_inputs({"qrels": [options.qrels], "run": options.runs}, written)
