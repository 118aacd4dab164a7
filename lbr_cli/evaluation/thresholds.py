"""Thresholds for the measures of runs: a check before a ranking is published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lbr_cli.errors import RunError, UsageError
from lbr_cli.evaluation import Evaluation
from lbr_cli.evaluation.measures import parse_measures

EXAMPLE = 'example: --fail-below "nDCG@10=0.4"'


@dataclass(frozen=True, slots=True)
class Threshold:
    """A measure of ir_measures, and the least mean that a run has to reach."""

    measure: Any
    least: float


def parse_threshold(text: str) -> Threshold:
    """Parse `measure=value`. UsageError for another form, an unknown measure, or several cut-offs."""
    name, _, number = text.rpartition("=")
    try:
        least = float(number)
    except ValueError:
        least = math.nan
    if not name or not math.isfinite(least):
        raise UsageError(f"--fail-below {text}: invalid threshold, not measure=number", hint=EXAMPLE)
    measures = parse_measures([name])
    if len(measures) != 1:
        raise UsageError(f"--fail-below {text}: {len(measures)} measures, and one is needed", hint="repeat the option")
    return Threshold(measures[0], least)


def check_thresholds(thresholds: Sequence[Threshold], evaluation: Evaluation) -> None:
    """Raise RunError for the first run with a mean below its threshold."""
    for run in evaluation.runs:
        for threshold in thresholds:
            value = run.means[str(threshold.measure)]
            if not value >= threshold.least:
                raise RunError(f"{run.run}: {threshold.measure} is {value:.6g}, below {threshold.least:.6g}")
