"""Bi-encoders: query and document become vectors, each without seeing the other.

    cosine       q · d / (|q| |d|), -1 to 1        dot          q · d, unbounded
    euclidean    -|q - d|, up to 0                 manhattan    -Σ |q_i - d_i|, up to 0

as sentence-transformers defines its similarities; a folder of that library names its own, and the prompts that go
before queries and documents. A text is encoded once however many pairs it occurs in.
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
    """What is None is left to the model's folder; where that says nothing, there is no prompt, and the cosine."""

    name: ClassVar[str] = "bi-encoder"
    scale: ClassVar[str] = "cosine, or the model's own similarity"
    request_type: ClassVar[type[Request]] = Embedding
    shares: ClassVar[Literal["query", "document"]] = "document"
    query_prompt: str | None = None
    document_prompt: str | None = None
    similarity: str | None = None

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        return (
            Embedding(query, self.query_prompt or ""),
            Embedding(document.contents, self.document_prompt or ""),
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
