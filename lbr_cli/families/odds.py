"""What several families make of two answers that exclude each other: relevant, or not."""

from __future__ import annotations

import math

from lbr_cli.core import Answer, Score

LEAST_MASS = 0.5


def log_odds(answer: Answer, labels: tuple[str, str]) -> Score:
    """score = ln p(relevant) - ln p(not), from the log-probabilities of the two labels in this order.

    Details: `probability`, that of the relevant one if only the two could be said, and `mass`, what the two have of
    the whole vocabulary.
    """
    relevant, other = answer.values
    mass = math.exp(relevant) + math.exp(other)
    warning = f"{labels[0]!r} and {labels[1]!r} hold less than half of the probability: this model answers otherwise"
    score = relevant - other
    return Score(score, {"probability": sigmoid(score), "mass": mass}, warning if mass < LEAST_MASS else "")


def sigmoid(x: float) -> float:
    """1 / (1 + e^-x), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
