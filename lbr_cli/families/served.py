"""The family of `--engine rerank-api`: a rerank server scores the pair itself, with a model of its own.

Scale: that of the server, a logit or a value from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Document, Pair, Request, Score


@dataclass(frozen=True, slots=True)
class Served:
    name: ClassVar[str] = "served"
    scale: ClassVar[str] = "as the server returns it"
    request_type: ClassVar[type[Request]] = Pair
    shares: ClassVar[Literal["query", "document"]] = "query"

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        return (Pair(query, document.contents),)

    def score(self, answers: Sequence[Answer]) -> Score:
        return Score(float(answers[0].values[0]))

    def probability(self, score: float) -> float | None:
        return None
