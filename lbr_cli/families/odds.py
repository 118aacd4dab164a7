"""Scores from two labels, one for relevant and one for not relevant."""

from __future__ import annotations

import math

from lbr_cli.core import Answer, Score

MIN_MASS = 0.5


def log_odds(answer: Answer, labels: tuple[str, str]) -> Score:
    """Return ln p(relevant) - ln p(not relevant), from the log-probabilities of the two labels in this order.

    Details: `probability`, the softmax over the two labels, and `mass`, their probability in the whole vocabulary.
    """
    relevant, other = answer.values
    mass = math.exp(relevant) + math.exp(other)
    warning = f"{labels[0]!r} and {labels[1]!r} have less than half of the probability: the model gives other answers"
    score = relevant - other
    return Score(score, {"probability": sigmoid(score), "mass": mass}, warning if mass < MIN_MASS else "")


def sigmoid(x: float) -> float:
    """Return 1 / (1 + e^-x), without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
