"""Bi-encoders: query and document are encoded separately; the score is the similarity of the two vectors.

    cosine       q · d / (|q| |d|), -1 to 1        dot          q · d, unbounded
    euclidean    -|q - d|, up to 0                 manhattan    -Σ |q_i - d_i|, up to 0

as in sentence-transformers. A folder of that library may set the similarity and the prompts. Each text is encoded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lbr_cli.core import Answer, Document, Embedding, Request, Score

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True, slots=True)
class BiEncoder:
    """Options that are None are those of the model's folder; the defaults are no prompt and cosine similarity.

    `query_length` and `document_length` limit the tokens of queries and of documents.
    """

    name: ClassVar[str] = "bi-encoder"
    scale: ClassVar[str] = "cosine, or the model's own similarity"
    request_type: ClassVar[type[Request]] = Embedding
    shares: ClassVar[Literal["query", "document"]] = "document"
    query_prompt: str | None = None
    document_prompt: str | None = None
    similarity: str | None = None
    query_length: int | None = None
    document_length: int | None = None

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        before_query, before_document = self.query_prompt or "", self.document_prompt or ""
        return (
            Embedding(query, before_query, self.query_length),
            Embedding(document.contents, before_document, self.document_length),
        )

    def score(self, answers: Sequence[Answer]) -> Score:
        query: Any = answers[0].values
        document: Any = answers[1].values
        if self.similarity == "euclidean":
            return Score(-math.sqrt(float((query - document) @ (query - document))))
        if self.similarity == "manhattan":
            return Score(-float(abs(query - document).sum()))
        product = float(query @ document)
        if self.similarity == "dot":
            return Score(product)
        lengths = float(query @ query) * float(document @ document)
        return Score(product / math.sqrt(lengths) if lengths else 0.0)

    def probability(self, score: float) -> float | None:
        return None
