"""`lbr tune`: find the weight of the first stage."""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import typer

from lbr_cli.commands.command import OptionGroup, command, option
from lbr_cli.commands.options.diagnostics import QUIET
from lbr_cli.commands.options.extensions import checked_extension
from lbr_cli.commands.options.inputs import check_inputs
from lbr_cli.errors import UsageError
from lbr_cli.evaluation import plot, tuning_tables
from lbr_cli.evaluation import tuning as tuner
from lbr_cli.evaluation.measures import parse_measures
from lbr_cli.evaluation.reranked import read_reranked
from lbr_cli.evaluation.runs import check_match, read_judgments
from lbr_cli.formats.files import display_name
from lbr_cli.formats.output import STDOUT, check_stdout, open_output
from lbr_cli.formats.overwrite import PRINTED, WrittenFiles
from lbr_cli.progress import Console

FORMATS = {"json": tuning_tables.as_json, "tsv": tuning_tables.as_tsv, "markdown": tuning_tables.as_markdown}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOptions(OptionGroup):
    """The run and its judgments, the measure, and the weights."""

    run: str = typer.Argument(..., metavar="RUN", help="A run in JSONL, written by lbr rerank.")
    qrels: str = option("FILE", "Relevance judgments: TREC or BEIR.", ...)
    measure: str = option("NAME", "Measure in the notation of ir_measures.", "nDCG@10")
    step: float = option("X", "Step between two weights.", tuner.STEP, min=tuner.MIN_STEP, max=1)
    folds: int = option("N", "Folds of the cross-validation over queries.", tuner.FOLDS, min=2)
    format: Literal["table", "json", "tsv", "markdown"] = option(None, "Format of standard output.", "table")
    plot: str | None = option("FILE", "Plot the measure over the weights: .png or .svg.")
    quiet: bool = QUIET

    def __post_init__(self) -> None:
        if math.isnan(self.step):
            raise UsageError("--step nan: not a number from 0 to 1")

    def parsed_measure(self) -> Any:
        """Return the measure of ir_measures. UsageError for several measures, and for one that is a count."""
        measures = parse_measures([self.measure], "--measure")
        if len(measures) != 1:
            raise UsageError(f"--measure {self.measure}: {len(measures)} measures, and one is needed")
        if measures[0].NAME.startswith("Num"):
            raise UsageError(f"--measure {self.measure}: a count; choose a measure that has a mean")
        return measures[0]


@command
def tune(options: TuneOptions) -> None:
    """Find the best weight for --interpolate.

    Each weight from 0 to 1 is evaluated from the scores of both stages, without a model. Cross-validation estimates
    the measure for other queries.

    Examples:
        lbr rerank run.trec -c docs.jsonl -o reranked.jsonl
        lbr tune reranked.jsonl --qrels qrels.txt
        lbr tune reranked.jsonl --qrels qrels.txt --measure AP --plot weights.svg
    """
    check_stdout()
    picture_format = None
    if options.plot is not None:
        picture_format = plot.ENDINGS[checked_extension("--plot", options.plot, plot.ENDINGS)]
        plot.check_matplotlib()
    measure = options.parsed_measure()
    written = WrittenFiles({"--plot": options.plot, PRINTED: STDOUT})
    check_inputs({"qrels": [options.qrels], "run": [options.run]}, written)
    with Console(bar=False, quiet=options.quiet) as console, ExitStack() as outputs:
        # opened first, so that a file that cannot be written ends the command before anything is computed
        picture = outputs.enter_context(open_output(options.plot, console.warn)) if options.plot else None
        judgments = read_judgments(options.qrels)
        run = read_reranked(options.run, console)
        check_match(run.interpolated(0.0), judgments, display_name(options.qrels), console)
        tuning = tuner.tune(run, judgments, measure, tuner.grid(options.step), options.folds, console)
        weight_0 = tuning.means[0.0]
        if tuning.best and tuning.held_out <= weight_0:
            value = f"{tuning.measure} is {tuning.held_out:.4f} with tuned weights, and {weight_0:.4f} with weight 0"
            console.warn(f"the best weight may be due to chance: on held-out queries {value}")
        if picture and picture_format:
            picture.write(plot.plot_weights(tuning, picture_format))
        if options.format == "table":
            text = tuning_tables.as_table(tuning, styled=sys.stdout.isatty())
        else:
            text = FORMATS[options.format](tuning)
    typer.echo(text, nl=False)
