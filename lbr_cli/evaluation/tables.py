"""An evaluation as text: a table for the terminal, Markdown, TSV, JSON, and the values of each query.

The table and Markdown have four decimals, as trec_eval; TSV and JSON have all digits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from lbr_cli.evaluation import TOP, Evaluation
from lbr_cli.evaluation.significance import Comparison

if TYPE_CHECKING:
    from rich.table import Column, Table

ONE_RUN = ("measure", "run", "value")
SEVERAL_RUNS = (*ONE_RUN, "change", "p", "wins", "ties", "losses")
COVERAGE = ("run", "judged queries", "missing", "unjudged", f"judged in top {TOP}")
NUMERIC = {"weight", "value", "change", "p", "wins", "ties", "losses", *COVERAGE[1:]}
VALUE_COLUMNS = ("value", "change", "p", "p_holm", "wins", "ties", "losses")
NAME_WIDTH = 12  # minimum width of the names of runs
UNLIMITED = 10_000  # columns of a terminal


def _rows(evaluation: Evaluation) -> Iterator[list[str]]:
    """Yield the cells of each measure and run; those of the first run have no comparison."""
    for measure in evaluation.measures:
        digits = 0 if measure in evaluation.counts else 4
        for run in evaluation.runs:
            row = [measure, run.run, f"{run.means[measure]:.{digits}f}"]
            if run is not evaluation.runs[0]:
                comparison = run.comparisons[measure]
                counts = (comparison.wins, comparison.ties, comparison.losses)
                row += [signed(evaluation.change(run, measure), digits), _p(comparison), *map(str, counts)]
            yield row + [""] * (len(_header(evaluation)) - len(row))


def signed(difference: float, digits: int = 4) -> str:
    """Return a difference with its sign; one that rounds to 0 has none."""
    text = f"{difference:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def _p(comparison: Comparison) -> str:
    if comparison.p_holm is None:
        return "-"
    return "<0.0001" if comparison.p_holm < 0.0001 else f"{comparison.p_holm:.4f}"


def _coverage(evaluation: Evaluation) -> Iterator[list[str]]:
    for run in evaluation.runs:
        counts = (len(evaluation.queries), run.coverage.missing, run.coverage.unjudged)
        yield [run.run, *map(str, counts), f"{run.coverage.judged_share:.1%}"]


def _header(evaluation: Evaluation) -> tuple[str, ...]:
    return SEVERAL_RUNS if len(evaluation.runs) > 1 else ONE_RUN


def _legend(evaluation: Evaluation) -> str:
    others = len(evaluation.runs) - 1
    if not others:
        return ""
    corrected = f", Holm's correction for {others} runs" if others > 1 else ""
    return (
        f"change, p and wins: against {evaluation.runs[0].run}; "
        f"p of a paired t-test, queries: {len(evaluation.queries)}{corrected}"
    )


def as_table(evaluation: Evaluation, width: int | None, *, styled: bool) -> str:
    """Return tables of at most `width` columns, None for no limit; `styled` prints the best value of a measure in bold.

    Numbers are never truncated: in a narrower terminal, lines wrap.
    """
    from rich.console import Console
    from rich.text import Text

    runs = evaluation.runs
    name_width = min(NAME_WIDTH, max(len(run.run) for run in runs))

    measures, coverage = empty_table(_header(evaluation), name_width), empty_table(COVERAGE, name_width)
    for number, row in enumerate(_rows(evaluation)):
        measure, run = row[0], runs[number % len(runs)]
        cells = [Text(cell) for cell in row]
        if run is not runs[0]:
            cells[0] = Text("")
        if len(runs) > 1 and run.means[measure] == max(other.means[measure] for other in runs):
            cells[2].stylize("bold")
        measures.add_row(*cells, end_section=len(runs) > 1 and run is runs[-1])
    for row in _coverage(evaluation):
        coverage.add_row(*map(Text, row))
    out = io.StringIO()
    console = Console(file=out, width=width or UNLIMITED, force_terminal=styled, no_color=True)
    for part in (measures, coverage):
        needed = sum((name_width if column.header == "run" else _longest(column)) + 3 for column in part.columns)
        console.width = max(width or UNLIMITED, needed)
        console.print(part)
        if part is measures:
            legend = _legend(evaluation)
            console.print(Text(f"\n{legend}\n" if legend else ""), soft_wrap=width is None)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().strip("\n").splitlines())


def empty_table(header: Sequence[str], name_width: int = NAME_WIDTH) -> Table:
    """Return a table of rich without rows. Only names of runs may wrap, at `name_width` or more columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in header:
        if name == "run":
            table.add_column(name, overflow="fold", min_width=name_width)
        else:
            table.add_column(name, justify="right" if name in NUMERIC else "left", no_wrap=True)
    return table


def _longest(column: Column) -> int:
    return max(len(str(cell)) for cell in (column.header, *column.cells))


def as_markdown(evaluation: Evaluation) -> str:
    legend = _legend(evaluation)
    parts = [
        markdown_rows(_header(evaluation), _rows(evaluation)),
        *([f"{_markdown_cell(legend)}\n"] if legend else []),
        markdown_rows(COVERAGE, _coverage(evaluation)),
    ]
    return "\n".join(parts)


def markdown_rows(header: Sequence[str], rows: Iterable[list[str]]) -> str:
    rules = ["---:" if name in NUMERIC else "---" for name in header]
    return "".join(f"| {' | '.join(map(_markdown_cell, row))} |\n" for row in (header, rules, *rows))


def _markdown_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def as_json(evaluation: Evaluation) -> str:
    runs = [
        {
            "run": run.run,
            "queries_missing": run.coverage.missing,
            "queries_unjudged": run.coverage.unjudged,
            f"judged_in_top_{TOP}": run.coverage.judged_share,
            "measures": {measure: _values(evaluation, number, measure) for measure in evaluation.measures},
        }
        for number, run in enumerate(evaluation.runs)
    ]
    about = {"queries": len(evaluation.queries), "baseline": evaluation.runs[0].run}
    values = {**about, "measures": evaluation.measures, "runs": runs}
    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def as_tsv(evaluation: Evaluation) -> str:
    lines: list[list[str]] = [["measure", "run", *VALUE_COLUMNS]]
    for measure in evaluation.measures:
        for number, run in enumerate(evaluation.runs):
            values = map(_values(evaluation, number, measure).get, VALUE_COLUMNS)
            lines.append([measure, _field(run.run), *("" if value is None else repr(value) for value in values)])
    return tsv_rows(lines)


def tsv_rows(lines: Iterable[Sequence[str]]) -> str:
    return "".join("\t".join(line) + "\n" for line in lines)


def _field(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")


def _values(evaluation: Evaluation, number: int, measure: str) -> dict[str, Any]:
    """Return the values of a run by name: those of `VALUE_COLUMNS`, without comparisons for the first run."""
    run = evaluation.runs[number]
    values: dict[str, Any] = {"value": run.means[measure]}
    if number:
        comparison = run.comparisons[measure]
        values |= {"change": evaluation.change(run, measure), "p": comparison.p, "p_holm": comparison.p_holm}
        values |= {"wins": comparison.wins, "ties": comparison.ties, "losses": comparison.losses}
    return values


def _per_query(evaluation: Evaluation) -> Iterator[tuple[str, str, dict[str, float]]]:
    """Yield the name of each run, each judged query, and its values by measure."""
    for run in evaluation.runs:
        for query_id in evaluation.queries:
            yield run.run, query_id, {name: run.values[name][query_id] for name in evaluation.measures}


def per_query_jsonl(evaluation: Evaluation) -> bytes:
    """Return one JSON object for each run and judged query."""
    objects = ({"run": run, "query_id": query_id, **values} for run, query_id, values in _per_query(evaluation))
    return b"".join(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE) for values in objects)


def per_query_tsv(evaluation: Evaluation) -> bytes:
    """Return a header, and one line for each run and judged query."""
    lines = [[_field(run), query_id, *map(repr, values.values())] for run, query_id, values in _per_query(evaluation)]
    return tsv_rows([["run", "query_id", *evaluation.measures], *lines]).encode()


PER_QUERY: dict[str, Callable[[Evaluation], bytes]] = {".jsonl": per_query_jsonl, ".tsv": per_query_tsv}
