"""Bi-encoders: query and document become vectors, each without seeing the other.

    score = q · d / (|q| |d|)

the cosine of the two, as sentence-transformers/all-MiniLM-L6-v2 was trained for. Scale: -1 to 1. A text is encoded
once however many pairs it occurs in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lbr_cli.core import Answer, Embedding, Request, Score


@dataclass(frozen=True, slots=True)
class BiEncoder:
    name: ClassVar[str] = "bi-encoder"
    asks: ClassVar[type[Request]] = Embedding

    def requests(self, query: str, document: str) -> tuple[Request, ...]:
        return Embedding(query), Embedding(document)

    def score(self, answers: Sequence[Answer]) -> Score:
        query: Any = answers[0].values
        document: Any = answers[1].values
        lengths = float(query @ query) * float(document @ document)
        return Score(float(query @ document) / math.sqrt(lengths) if lengths else 0.0)
