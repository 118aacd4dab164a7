"""Cross-encoders with a classification head of one or two labels.

    score = z            one label
    score = z1 - z0      two labels: the log-odds of label 1, or z0 - z1 if label 0 is the one that means "relevant"

Scale: the model's logit, unbounded. `probability` is sigmoid(score): the published score of mxbai-rerank-v1, the
normalised score of FlagEmbedding for bge-reranker, and for two labels the softmax of monoBERT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Document, Pair, Request, Score
from lbr_cli.families.odds import sigmoid


@dataclass(frozen=True, slots=True)
class Classifier:
    """`relevant` is the label of two that means "relevant", by the names in the folder's `id2label`.

    `without_prompt` lets a causal model read the pair without a prompt: only the user knows how it was trained.
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
