"""The family of `--engine overlap`, which has no model: the share of the query's words that are in the document.

Scale: 0 to 1. For testing files, not for ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Document, Pair, Request, Score


@dataclass(frozen=True, slots=True)
class SharedWords:
    name: ClassVar[str] = "shared-words"
    scale: ClassVar[str] = "share of words, 0 to 1"
    request_type: ClassVar[type[Request]] = Pair
    shares: ClassVar[Literal["query", "document"]] = "query"

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        return (Pair(query, document.contents),)

    def score(self, answers: Sequence[Answer]) -> Score:
        return Score(answers[0].values[0])

    def probability(self, score: float) -> float | None:
        return None
