"""Measures over their cut-offs, a line for each run, as a picture: PNG or SVG."""

from __future__ import annotations

import io
import logging
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lbr_cli.errors import MissingError, UsageError
from lbr_cli.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

ENDINGS = {".png": "png", ".svg": "svg"}
CURVES = ("nDCG@{1,3,5,10,20,50,100}", "P@{1,3,5,10,20,50,100}", "R@{1,3,5,10,20,50,100}")  # if none are asked for
PANEL, LINE = (4.0, 3.2), 0.2  # inches: of a panel, and of a run's line in the legend
MARKERS = "osD^vPX*"  # besides colours, for who sees few of them


def curves(evaluation: Evaluation) -> dict[str, dict[float, str]]:
    """The measures that are there with several cut-offs: name without it -> cut-off -> whole name."""
    found: dict[str, dict[float, str]] = {}
    for measure in evaluation.measures:
        name, at, cutoff = measure.rpartition("@")
        if at:
            found.setdefault(name, {})[float(cutoff)] = measure
    return {name: dict(sorted(of_name.items())) for name, of_name in found.items() if len(of_name) > 1}


def plot(evaluation: Evaluation, kind: str) -> bytes:
    """The picture, the same bytes for the same evaluation and version of matplotlib.

    Raises UsageError where no measure has several cut-offs, MissingError without matplotlib.
    """
    if find_spec("matplotlib") is None:
        raise MissingError("--plot needs matplotlib, which is not here", hint="pip install 'lbr-cli[eval]'")
    drawn = curves(evaluation)
    if not drawn:
        hint = "name a measure with several: --measures 'nDCG@{1,3,5,10,100}'"
        raise UsageError("--plot: no measure has more than one cut-off", hint=hint)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of fonts and folders of its own
    import matplotlib as mpl
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "lbr", "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name in letters that its font lacks
        figure = Figure(figsize=(PANEL[0] * len(drawn), PANEL[1] + LINE * len(evaluation.runs)), layout="constrained")
        panels = figure.subplots(1, len(drawn), squeeze=False)[0]
        lines: list[Line2D] = []
        for axes, (name, by_cutoff) in zip(panels, drawn.items(), strict=True):
            lines = _draw(axes, name, by_cutoff, evaluation)
        # a blank before a name: matplotlib hides those that begin with _
        legend = figure.legend(
            lines, [f" {run.run}" for run in evaluation.runs], loc="outside lower left", frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        figure.savefig(out, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return out.getvalue()


def _draw(axes: Axes, name: str, by_cutoff: dict[float, str], evaluation: Evaluation) -> list[Line2D]:
    """A panel: one measure, the cut-offs evenly apart."""
    places = range(len(by_cutoff))
    lines = []
    for number, run in enumerate(evaluation.runs):
        values = [run.means[measure] for measure in by_cutoff.values()]
        lines += axes.plot(places, values, marker=MARKERS[number % len(MARKERS)], markersize=4)
    axes.set_xticks(places, [f"{cutoff:g}" for cutoff in by_cutoff])
    axes.set_xlabel("cut-off")
    axes.set_title(name, parse_math=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return lines
