"""Plots as PNG or SVG: measures over their cut-offs, with a line for each run, and a measure over weights."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lbr_cli.errors import MissingError, UsageError
from lbr_cli.evaluation import Evaluation
from lbr_cli.evaluation.measures import INSTALL, Curve
from lbr_cli.evaluation.tuning import Tuning, weight_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

ENDINGS = {".png": "png", ".svg": "svg"}
CURVES = ("nDCG@{1,3,5,10,20,50,100}", "P@{1,3,5,10,20,50,100}", "R@{1,3,5,10,20,50,100}")  # the default
PANELS_PER_ROW = 3
PANEL_SIZE, LEGEND_LINE = (4.0, 3.2), 0.2  # inches
MARKERS = "osD^vPX*"  # colours alone do not distinguish lines for everyone


def check_matplotlib() -> None:
    """Raise MissingError without matplotlib."""
    if find_spec("matplotlib") is None:
        raise MissingError("--plot needs matplotlib, which is not installed", hint=INSTALL)


def check_curves(curves: Sequence[Curve]) -> None:
    """Raise UsageError if there is nothing to plot, MissingError without matplotlib."""
    check_matplotlib()
    if not curves:
        hint = "use several cut-offs: --measures 'nDCG@{1,3,5,10,100}'"
        raise UsageError("--plot: no measure has more than one cut-off", hint=hint)


def plot(evaluation: Evaluation, curves: Sequence[Curve], kind: str) -> bytes:
    """Return the image, the same bytes for the same evaluation and version of matplotlib."""
    columns = min(len(curves), PANELS_PER_ROW)
    rows = math.ceil(len(curves) / columns)
    size = (PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows + LEGEND_LINE * len(evaluation.runs))
    with _settings():
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        lines: list[Line2D] = []
        for axes, curve in zip(panels, curves, strict=False):
            lines = _draw(axes, curve, evaluation)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        # with a space before, because matplotlib hides names that begin with _
        names = [f" {run.run}" for run in evaluation.runs]
        legend = figure.legend(lines, names, loc="outside lower left", frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        return _image(figure, kind)


def plot_weights(tuning: Tuning, kind: str) -> bytes:
    """Return the image of a measure over the weights, the same bytes for the same values and version of matplotlib."""
    with _settings():
        from matplotlib.figure import Figure

        figure = Figure(figsize=PANEL_SIZE, layout="constrained")
        axes = figure.subplots()
        axes.plot([*tuning.means], [*tuning.means.values()], marker="o", markersize=3)
        axes.axvline(tuning.best, linestyle=":", color="black", label=f"best weight {weight_text(tuning.best)}")
        axes.axhline(tuning.held_out, linestyle="--", color="grey", label="cross-validation")
        axes.set_xlabel("weight of the first stage")
        axes.set_title(tuning.measure, parse_math=False)
        axes.legend(frameon=False)
        _style(axes)
        return _image(figure, kind)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Make images reproducible and matplotlib quiet in this block.

    The user's own settings are ignored: with `text.usetex` in a matplotlibrc, a name such as a_b is an error of LaTeX,
    and a backend of MPLBACKEND that is not installed is an error of the import.
    """
    os.environ.pop("MPLBACKEND", None)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # lower levels log fonts and folders
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "lbr", "svg.fonttype": "none"})
        warnings.simplefilter("ignore", UserWarning)  # characters without a glyph in the font
        yield


def _image(figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    metadata = {"Date" if kind == "svg" else "Software": None}
    figure.savefig(out, format=kind, dpi=150, metadata=metadata, bbox_inches="tight")
    return out.getvalue()


def _style(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _draw(axes: Axes, curve: Curve, evaluation: Evaluation) -> list[Line2D]:
    """Draw one measure, with its cut-offs at equal distances. Return the line of each run."""
    from matplotlib import color_sequences

    positions = range(len(curve.measures))
    colours = color_sequences["tab10" if len(evaluation.runs) <= 10 else "tab20"]
    lines = []
    for number, run in enumerate(evaluation.runs):
        values = [run.means[measure] for measure in curve.measures.values()]
        marker, colour = MARKERS[number % len(MARKERS)], colours[number % len(colours)]
        lines += axes.plot(positions, values, marker=marker, markersize=4, color=colour)
    axes.set_xticks(positions, [f"{cutoff:g}" for cutoff in curve.measures])
    axes.set_xlabel(curve.axis)
    axes.set_title(curve.name, parse_math=False)
    _style(axes)
    return lines
