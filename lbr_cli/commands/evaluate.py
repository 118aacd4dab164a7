"""`lbr evaluate`: whether it helped."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import Annotated, Literal

import typer

from lbr_cli.errors import RunError, UsageError
from lbr_cli.evaluation import TOP, Evaluation, plot, tables
from lbr_cli.evaluation import evaluate as evaluated
from lbr_cli.evaluation.measures import DEFAULTS, parse_measures
from lbr_cli.evaluation.runs import check_match, read_judgments, read_run
from lbr_cli.formats.files import STDIN, display_name
from lbr_cli.formats.output import open_output
from lbr_cli.progress import Console

MEASURES_HELP = f'In the notation of ir_measures, "nDCG@{{1,3,5}} P(rel=2)@5", else {" ".join(DEFAULTS)}.'


def evaluate(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="TREC, MS MARCO or JSONL; all are compared with the first."),
    ],
    qrels: Annotated[str, typer.Option(metavar="FILE", help="Relevance judgments, TREC or BEIR.")],
    measures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help=MEASURES_HELP,
        ),
    ] = None,
    format_: Annotated[
        Literal["table", "json", "tsv", "markdown"], typer.Option("--format", help="What is printed.")
    ] = "table",
    per_query: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the values of each query there: .jsonl or .tsv, also .gz and .zst."),
    ] = None,
    plot_: Annotated[
        str | None,
        typer.Option(
            "--plot", metavar="FILE", help="Draw the measures over their cut-offs, a line a run: .png or .svg."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing on stderr but warnings and errors.")] = False,
) -> None:
    """Judge runs by relevance judgments, and tell whether they differ from the first by more than chance.

    lbr evaluate --qrels qrels.txt run.trec reranked.trec
    """
    if sys.stdout is None:
        raise RunError("standard output is closed")
    if [qrels, *runs].count(STDIN) > 1:
        raise UsageError("only one of --qrels and the runs can be standard input")
    as_lines = tables.PER_QUERY[_ending("--per-query", per_query, tables.PER_QUERY)] if per_query is not None else None
    picture = plot.ENDINGS[_ending("--plot", plot_, plot.ENDINGS)] if plot_ is not None else None
    chosen = parse_measures(measures or DEFAULTS)
    with Console(bar=False, quiet=quiet) as console:
        judgments = read_judgments(qrels)
        read = []
        for path in runs:
            read.append(read_run(path))
            check_match(read[-1], judgments, display_name(qrels))
        evaluation = evaluated(judgments, read, chosen)
        if as_lines and per_query is not None:
            _write(per_query, as_lines(evaluation))
        if picture and plot_ is not None:
            drawn = evaluation if measures else evaluated(judgments, read, parse_measures(plot.CURVES))
            _write(plot_, plot.plot(drawn, picture))
        for run in evaluation.runs:
            if not run.coverage.judged_share:
                console.warn(f"{run.run}: none of the documents in its top {TOP} is judged")
    typer.echo(_text(evaluation, format_), nl=False)


def _text(evaluation: Evaluation, format_: str) -> str:
    if format_ == "table":
        terminal = sys.stdout.isatty()
        return tables.as_table(
            evaluation, width=shutil.get_terminal_size().columns if terminal else None, styled=terminal
        )
    return {"json": tables.as_json, "tsv": tables.as_tsv, "markdown": tables.as_markdown}[format_](evaluation)


def _ending(option: str, path: str, known: Iterable[str]) -> str:
    """The ending of a file that says what is written into it."""
    plain = path
    for compression in (".gz", ".zst"):
        plain = plain.removesuffix(compression)
    ending = os.path.splitext(plain)[1]
    if ending not in known:
        raise UsageError(f"{option} {path}: its ending has to be {' or '.join(known)}")
    return ending


def _write(path: str, data: bytes) -> None:
    with open_output(path) as output:
        output.write(data)
