"""What families share: scores that are a logit or log-odds, and their probability."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from lbr_cli.core import Answer, NextToken, Request, Score

MIN_MASS = 0.5


class LogitFamily:
    """A family that asks for the next token after a prompt, query first; its score is a logit or log-odds."""

    __slots__ = ()
    request_type: ClassVar[type[Request]] = NextToken
    shares: ClassVar[Literal["query", "document"]] = "query"

    def probability(self, score: float) -> float | None:
        return sigmoid(score)


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
