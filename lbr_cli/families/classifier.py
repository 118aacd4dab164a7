"""Models that read query and document together and give one number: the score is that number, as it comes.

Scale: the model's own. Nothing is squashed, so that no two scores become equal on the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.core import Answer, Pair, Request, Score


@dataclass(frozen=True, slots=True)
class Classifier:
    name: ClassVar[str] = "classifier"
    asks: ClassVar[type[Request]] = Pair

    def requests(self, query: str, document: str) -> tuple[Request, ...]:
        return (Pair(query, document),)

    def score(self, answers: Sequence[Answer]) -> Score:
        return Score(float(answers[0].values[0]))
