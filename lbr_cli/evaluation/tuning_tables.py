"""The values of each weight as text: a table for the terminal, Markdown, TSV and JSON.

The table and Markdown have four decimals; TSV and JSON have all digits.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import orjson

from lbr_cli.evaluation.tables import UNLIMITED, empty_table, markdown_rows, signed, tsv_rows
from lbr_cli.evaluation.tuning import Tuning, weight_text

HEADER = ("weight", "value", "change", "")
BEST = "best"


def _rows(tuning: Tuning) -> Iterator[list[str]]:
    """Yield the cells of each weight; changes are against weight 0."""
    digits = max(len(weight_text(weight).partition(".")[2]) for weight in tuning.means)
    for weight, mean in tuning.means.items():
        change = signed(mean - tuning.means[0.0]) if weight else ""
        yield [f"{weight:.{digits}f}", f"{mean:.4f}", change, BEST if weight == tuning.best else ""]


def _summary(tuning: Tuning) -> list[str]:
    chosen = [fold.weight for fold in tuning.folds]
    low, high = weight_text(min(chosen)), weight_text(max(chosen))
    weights = f"the weight {low}" if low == high else f"weights from {low} to {high}"
    best = weight_text(tuning.best)
    return [
        f"{tuning.measure} of {tuning.run} by weight of the first stage; change: against weight 0, the model alone",
        f"best weight: {best}, {tuning.measure} {tuning.means[tuning.best]:.4f} over {tuning.judged} judged queries",
        f"cross-validation: {len(chosen)} folds choose {weights}, {tuning.measure} {tuning.held_out:.4f} if held out",
        f"command: {tuning.command}",
    ]


def as_table(tuning: Tuning, *, styled: bool) -> str:
    """Return the table and the summary; `styled` prints the best weight in bold."""
    from rich.console import Console

    table = empty_table(HEADER)
    for row in _rows(tuning):
        table.add_row(*row, style="bold" if styled and row[-1] else None)
    out = io.StringIO()
    Console(file=out, width=UNLIMITED, force_terminal=styled, no_color=True).print(table)
    lines = [*out.getvalue().strip("\n").splitlines(), "", *_summary(tuning)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def as_markdown(tuning: Tuning) -> str:
    summary = "".join(f"- {line}\n" for line in _summary(tuning))
    return f"{markdown_rows(HEADER, _rows(tuning))}\n{summary}"


def as_tsv(tuning: Tuning) -> str:
    rows = [[weight_text(weight), repr(mean), str(int(weight == tuning.best))] for weight, mean in tuning.means.items()]
    return tsv_rows([["weight", tuning.measure, BEST], *rows])


def as_json(tuning: Tuning) -> str:
    values = {
        "run": tuning.run,
        "measure": tuning.measure,
        "queries": tuning.judged,
        "queries_missing": tuning.judged - len(tuning.queries),
        "weights": [{"weight": weight, "value": mean} for weight, mean in tuning.means.items()],
        "best": {"weight": tuning.best, "value": tuning.means[tuning.best]},
        "folds": [{"queries": list(fold.queries), "weight": fold.weight, "value": fold.mean} for fold in tuning.folds],
        "held_out": tuning.held_out,
        "command": tuning.command,
    }
    return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
