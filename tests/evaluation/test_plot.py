"""Plots depend on their values alone, not on the user's settings of matplotlib."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import matplotlib as mpl
import pytest

from lbr_cli.evaluation.plot import plot_weights
from lbr_cli.evaluation.tuning import Tuning
from support.paths import ROOT

TUNING = Tuning("a_b.trec", "nDCG(dcg='exp_log2')@10", 1, ["q"], {0.0: 0.5, 1.0: 0.6}, 1.0, [], 0.6)


@pytest.mark.parametrize(("name", "value"), [("text.usetex", True), ("axes.facecolor", "red"), ("font.size", 30)])
def test_settings_of_the_user_do_not_change_a_plot(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    """A matplotlibrc for papers has text.usetex, which fails on names with underscores; SNEWS2/snewpy #147."""
    expected = plot_weights(TUNING, "svg")
    monkeypatch.setitem(mpl.rcParams, name, value)
    assert plot_weights(TUNING, "svg") == expected


@pytest.mark.slow  # starts an interpreter
def test_a_backend_that_does_not_exist_is_ignored() -> None:
    code = "from lbr_cli.evaluation.plot import plot_weights\n"
    code += f"from lbr_cli.evaluation.tuning import Tuning\nprint(len(plot_weights({TUNING!r}, 'svg')))"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"MPLBACKEND": "GTKAgg"}, cwd=ROOT, capture_output=True
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
