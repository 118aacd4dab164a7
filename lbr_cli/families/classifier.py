"""Models that read query and document together and end in a head of one or two numbers.

    score = z            of one label
    score = z1 - z0      of two: the log-odds of label 1, or z0 - z1 if the names of the labels say that 0 is relevant

Scale: the model's own logit, unbounded; nothing is squashed, so that no two scores become equal on the way.
`probability` is sigmoid(score): what mxbai-rerank-v1 is published with, what FlagEmbedding normalises bge-reranker to,
and for two labels the softmax of monoBERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Document, Pair, Request, Score
from lbr_cli.families.odds import sigmoid


@dataclass(frozen=True, slots=True)
class Classifier:
    """`relevant` is the one of two labels that means "relevant", as the folder's `id2label` names it.

    `without_prompt` says that a causal model may be given the bare pair: only its user knows that it was trained so.
    """

    name: ClassVar[str] = "classifier"
    scale: ClassVar[str] = "logit of one label, log-odds of two"
    request_type: ClassVar[type[Request]] = Pair
    shares: ClassVar[Literal["query", "document"]] = "query"
    relevant: int = 1
    without_prompt: bool = False

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        return (Pair(query, document.contents),)

    def score(self, answers: Sequence[Answer]) -> Score:
        values = [float(value) for value in answers[0].values]
        logit = values[0] if len(values) == 1 else values[self.relevant] - values[1 - self.relevant]
        return Score(logit, {"probability": sigmoid(logit)})
