"""Models that read query and document together and end in a head of one or two numbers.

    score = z            of one label
    score = z1 - z0      of two: the log-odds of the second, which says relevant

Scale: the model's own logit, unbounded; nothing is squashed, so that no two scores become equal on the way.
`probability` is sigmoid(score): what mxbai-rerank-v1 is published with, what FlagEmbedding normalises bge-reranker to,
and for two labels the softmax of monoBERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.core import Answer, Document, Pair, Request, Score
from lbr_cli.families.odds import sigmoid


@dataclass(frozen=True, slots=True)
class Classifier:
    name: ClassVar[str] = "classifier"
    scale: ClassVar[str] = "logit of one label, log-odds of two"
    asks: ClassVar[type[Request]] = Pair

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        return (Pair(query, document.contents),)

    def score(self, answers: Sequence[Answer]) -> Score:
        values = answers[0].values
        logit = float(values[0]) if len(values) == 1 else float(values[1]) - float(values[0])
        return Score(logit, {"probability": sigmoid(logit)})
