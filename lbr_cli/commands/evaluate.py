"""`lbr evaluate`: compute the measures of runs and compare them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated, Literal

import typer

from lbr_cli.commands.command import command
from lbr_cli.commands.files import check_inputs
from lbr_cli.commands.options.diagnostics import Quiet
from lbr_cli.errors import UsageError
from lbr_cli.evaluation import Evaluation, plot, tables, warn_coverage
from lbr_cli.evaluation import evaluate as judge
from lbr_cli.evaluation.measures import DEFAULTS, curves, is_measure, parse_measures
from lbr_cli.evaluation.runs import check_match, read_judgments, read_run
from lbr_cli.formats.files import display_name
from lbr_cli.formats.output import STDOUT, check_stdout, open_output
from lbr_cli.formats.overwrite import PRINTED, WrittenFiles
from lbr_cli.progress import Console


@command
def evaluate(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Runs: TREC, MS MARCO or JSONL; all are compared with the first.")
    ],
    qrels: Annotated[str, typer.Option(metavar="FILE", help="Relevance judgments: TREC or BEIR.")],
    measures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help='Measures in the notation of ir_measures, as in "nDCG@{1,3,5} P(rel=2)@5".',
            show_default=" ".join(DEFAULTS),
        ),
    ] = None,
    format_: Annotated[
        Literal["table", "json", "tsv", "markdown"], typer.Option("--format", help="Format of standard output.")
    ] = "table",
    per_query: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the values of each query to FILE: .jsonl or .tsv, also .gz and .zst."),
    ] = None,
    plot_: Annotated[
        str | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Plot the measures over their cut-offs, by default nDCG, P and R at 1 to 100: .png or .svg.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compute measures of runs and compare them with the first.

    Differences are tested for significance.

    Examples:
        lbr evaluate --qrels qrels.txt run.trec reranked.trec
        lbr evaluate --qrels qrels.txt run.trec --measures "AP P@1" --format json
        lbr evaluate --qrels qrels.txt run.trec reranked.trec --plot curves.svg
    """
    check_stdout()
    as_lines = picture = None
    if per_query is not None:
        as_lines = tables.PER_QUERY[_ending("--per-query", per_query, tables.PER_QUERY, packed=True)]
    if plot_ is not None:
        picture = plot.ENDINGS[_ending("--plot", plot_, plot.ENDINGS)]
    chosen = parse_measures(measures or DEFAULTS)
    drawn = (chosen if measures else parse_measures(plot.CURVES)) if picture else []
    if picture:
        plot.check_curves(curves(drawn))
    _check_paths(qrels, runs, {"--per-query": per_query, "--plot": plot_})
    with Console(bar=False, quiet=quiet) as console, ExitStack() as outputs:
        # opened first, so that a file that cannot be written ends the command before anything is computed
        lines_out = outputs.enter_context(open_output(per_query, console.warn)) if per_query else None
        picture_out = outputs.enter_context(open_output(plot_, console.warn)) if plot_ else None
        judgments = read_judgments(qrels)
        read = [read_run(path) for path in runs]
        for run in read:
            check_match(run, judgments, display_name(qrels), console)
        everything = judge(judgments, read, list(dict.fromkeys([*chosen, *drawn])))
        evaluation = replace(everything, measures=[str(measure) for measure in chosen])
        if lines_out and as_lines:
            lines_out.write(as_lines(evaluation))
        if picture_out and picture:
            picture_out.write(plot.plot(everything, curves(drawn), picture))
        warn_coverage(evaluation, console)
        text = _text(evaluation, format_)
    typer.echo(text, nl=False)


def _text(evaluation: Evaluation, format_: str) -> str:
    if format_ == "table":
        terminal = sys.stdout.isatty()
        return tables.as_table(
            evaluation, width=shutil.get_terminal_size().columns if terminal else None, styled=terminal
        )
    return {"json": tables.as_json, "tsv": tables.as_tsv, "markdown": tables.as_markdown}[format_](evaluation)


def _ending(option: str, path: str, known: Iterable[str], *, packed: bool = False) -> str:
    """The ending of a file that says what is written into it; one that is `packed` may be compressed."""
    plain = path
    for compression in (".gz", ".zst") if packed else ():
        plain = plain.removesuffix(compression)
    ending = os.path.splitext(plain)[1]
    if ending not in known:
        raise UsageError(f"{option} {path}: its ending has to be {' or '.join(known)}")
    return ending


def _check_paths(qrels: str, runs: list[str], outputs: dict[str, str | None]) -> None:
    """UsageError for inputs that cannot be read together, and for outputs that would overwrite an input."""
    for path in runs:
        if is_measure(path) and not os.path.exists(path):
            raise UsageError(f"{path}: no such file", hint='several measures go into one --measures: "nDCG@10 RR"')
    check_inputs({"qrels": [qrels], "run": runs}, WrittenFiles({**outputs, PRINTED: STDOUT}))
