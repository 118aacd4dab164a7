"""An evaluation as text: a table for people, Markdown, TSV and JSON for machines, and the values of each query.

Numbers for people have four decimals, as trec_eval's; those for machines have all their digits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from lbr_cli.evaluation import TOP, Evaluation
from lbr_cli.evaluation.significance import Comparison

if TYPE_CHECKING:
    from rich.table import Column

FOR_ONE = ("measure", "run", "value")
FOR_SEVERAL = (*FOR_ONE, "change", "p", "wins", "ties", "losses")
COVERAGE = ("run", "judged queries", "missing", "unjudged", f"judged in top {TOP}")
NAME_WIDTH = 12  # of a run, at least
NUMERIC = {"value", "change", "p", "wins", "ties", "losses", *COVERAGE[1:]}


def _rows(evaluation: Evaluation) -> Iterator[tuple[str, ...]]:
    """Measure by measure, the runs in each; as many cells as the evaluation needs."""
    for measure in evaluation.measures:
        for run in evaluation.runs:
            digits = 0 if measure in evaluation.counts else 4
            row = [measure, run.run, f"{run.means[measure]:.{digits}f}"]
            if run is not evaluation.runs[0]:
                compared = run.comparisons[measure]
                counts = (compared.wins, compared.ties, compared.losses)
                row += [_change(evaluation.change(run, measure), digits), _p(compared), *map(str, counts)]
            elif len(evaluation.runs) > 1:
                row += [""] * (len(FOR_SEVERAL) - len(FOR_ONE))
            yield tuple(row)


def _change(difference: float, digits: int) -> str:
    text = f"{difference:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def _p(compared: Comparison) -> str:
    if compared.p_holm is None:
        return "-"
    return "<0.0001" if compared.p_holm < 0.0001 else f"{compared.p_holm:.4f}"


def _coverage(evaluation: Evaluation) -> Iterator[tuple[str, ...]]:
    for run in evaluation.runs:
        told = run.coverage
        yield run.run, str(len(evaluation.queries)), str(told.missing), str(told.unjudged), f"{told.judged_share:.1%}"


def _header(evaluation: Evaluation) -> tuple[str, ...]:
    return FOR_SEVERAL if len(evaluation.runs) > 1 else FOR_ONE


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
    """For people: at most `width` columns, or as many as it takes; the best value of a measure stands out."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    least = min(NAME_WIDTH, max(len(run.run) for run in evaluation.runs))

    def table(header: Sequence[str]) -> Table:
        made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
        for name in header:
            if name == "run":
                made.add_column(name, overflow="fold", min_width=least)
            else:
                made.add_column(name, justify="right" if name in NUMERIC else "left", no_wrap=True)
        return made

    header = _header(evaluation)
    measures = table(header)
    per_measure = len(evaluation.runs)
    for place, row in enumerate(_rows(evaluation)):
        measure = evaluation.measures[place // per_measure]
        run = evaluation.runs[place % per_measure]
        best = per_measure > 1 and run.means[measure] == max(other.means[measure] for other in evaluation.runs)
        cells = [Text(cell) for cell in row]
        if run is not evaluation.runs[0]:
            cells[0] = Text("")
        if best:
            cells[2].stylize("bold")
        measures.add_row(*cells, end_section=per_measure > 1 and place % per_measure == per_measure - 1)
    coverage = table(COVERAGE)
    for row in _coverage(evaluation):
        coverage.add_row(*map(Text, row))
    out = io.StringIO()
    console = Console(file=out, width=width or 10_000, force_terminal=styled, no_color=True)
    for part in (measures, coverage):
        # no number is ever cut: on a terminal that is too narrow lines run over instead
        needed = sum((least if column.header == "run" else _longest(column)) + 3 for column in part.columns)
        console.width = max(width or 10_000, needed)
        console.print(part)
        if part is measures:
            legend = _legend(evaluation)
            console.print(Text(f"\n{legend}\n" if legend else ""), soft_wrap=width is None)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().strip("\n").splitlines())


def _longest(column: Column) -> int:
    return max(len(str(cell)) for cell in (column.header, *column.cells))


def as_markdown(evaluation: Evaluation) -> str:
    parts = [_markdown(_header(evaluation), _rows(evaluation))]
    legend = _legend(evaluation)
    if legend:
        parts.append(f"{_cell(legend)}\n")
    parts.append(_markdown(COVERAGE, _coverage(evaluation)))
    return "\n".join(parts)


def _markdown(header: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    rules = ["---:" if name in NUMERIC else "---" for name in header]
    return "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in (header, rules, *rows))


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def as_json(evaluation: Evaluation) -> str:
    runs = [
        {
            "run": run.run,
            "queries_missing": run.coverage.missing,
            "queries_unjudged": run.coverage.unjudged,
            f"judged_in_top_{TOP}": run.coverage.judged_share,
            "measures": {measure: _machine(evaluation, place, measure) for measure in evaluation.measures},
        }
        for place, run in enumerate(evaluation.runs)
    ]
    told = {
        "queries": len(evaluation.queries),
        "baseline": evaluation.runs[0].run,
        "measures": evaluation.measures,
        "runs": runs,
    }
    return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


def as_tsv(evaluation: Evaluation) -> str:
    columns = ("value", "change", "p", "p_holm", "wins", "ties", "losses")
    lines = [["measure", "run", *columns]]
    for measure in evaluation.measures:
        for place, run in enumerate(evaluation.runs):
            values = _machine(evaluation, place, measure)
            lines.append([measure, _field(run.run), *(_number(values.get(name)) for name in columns)])
    return "".join("\t".join(line) + "\n" for line in lines)


def _machine(evaluation: Evaluation, place: int, measure: str) -> dict[str, Any]:
    """What there is to say of a run in a measure."""
    run = evaluation.runs[place]
    told: dict[str, Any] = {"value": run.means[measure]}
    if place:
        compared = run.comparisons[measure]
        told |= {"change": evaluation.change(run, measure), "p": compared.p, "p_holm": compared.p_holm}
        told |= {"wins": compared.wins, "ties": compared.ties, "losses": compared.losses}
    return told


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _field(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")


def per_query_jsonl(evaluation: Evaluation) -> bytes:
    """A line for each run and judged query: its values by measure."""
    lines = []
    for run in evaluation.runs:
        for query_id in evaluation.queries:
            values = {name: run.values[name][query_id] for name in evaluation.measures}
            lines.append(
                orjson.dumps({"run": run.run, "query_id": query_id, **values}, option=orjson.OPT_APPEND_NEWLINE)
            )
    return b"".join(lines)


def per_query_tsv(evaluation: Evaluation) -> bytes:
    """The same with a header and a column for each measure."""
    lines = [["run", "query_id", *evaluation.measures]]
    for run in evaluation.runs:
        for query_id in evaluation.queries:
            values = (repr(run.values[name][query_id]) for name in evaluation.measures)
            lines.append([_field(run.run), query_id, *values])
    return "".join("\t".join(line) + "\n" for line in lines).encode()


PER_QUERY: dict[str, Callable[[Evaluation], bytes]] = {".jsonl": per_query_jsonl, ".tsv": per_query_tsv}
