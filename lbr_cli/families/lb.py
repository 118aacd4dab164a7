"""The LB reranker: a chat model that rates how related a query and a text are, with a digit from 1 to 7.

    score = sum over i = 1..7 of i * p(i)

where p is the softmax of the next token over the whole vocabulary, not renormalised over the seven digits. Scale: 0 to
7; a model trained for it gives 1 (unrelated) to 7. Prompt and formula are those of lightblue/lb-reranker-0.5B-v1.0,
whose scripts count a digit outside the 14 most probable tokens as 0; here all seven are read. For
lightblue/lb-reranker-0.5B-v1.0-rev, the text precedes the query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Chat, Document, NextToken, Request, Score

SYSTEM = (
    "Given a query and a piece of text, output a score of 1-7 based on how related the query is to the text. "
    "1 means least related and 7 is most related."
)
REVERSED_SYSTEM = (
    "Given a piece of text and a query, output a score of 1-7 based on how related the query is to the text. "
    "1 means least related and 7 is most related."
)
DIGITS = ("1", "2", "3", "4", "5", "6", "7")
MIN_MASS = 0.5


@dataclass(frozen=True, slots=True)
class Lb:
    name: ClassVar[str] = "lb"
    scale: ClassVar[str] = "expectation of a digit from 1 to 7"
    request_type: ClassVar[type[Request]] = NextToken
    shares: ClassVar[Literal["query", "document"]] = "query"

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        before = f"<<<Query>>>\n{query}\n\n<<<Context>>>\n"
        return (NextToken(Chat(SYSTEM), (before,), document.contents, ("",), DIGITS),)

    def score(self, answers: Sequence[Answer]) -> Score:
        """Return the score, with the details `digits`, the probabilities p(1) to p(7), and `mass`, their sum."""
        digits = [math.exp(log_probability) for log_probability in answers[0].values]
        mass = math.fsum(digits)
        value = math.fsum(digit * p for digit, p in enumerate(digits, 1))
        warning = "the digits 1 to 7 have less than half of the probability: the model does not answer in digits"
        return Score(value, {"digits": digits, "mass": mass}, warning if mass < MIN_MASS else "")

    def probability(self, score: float) -> float | None:
        return None


@dataclass(frozen=True, slots=True)
class LbRev(Lb):
    name: ClassVar[str] = "lb-rev"
    scale: ClassVar[str] = "expectation of a digit from 1 to 7, text before query"
    shares: ClassVar[Literal["query", "document"]] = "document"

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        after = f"\n\n<<<Query>>>\n{query}"
        return (NextToken(Chat(REVERSED_SYSTEM), ("<<<Context>>>\n",), document.contents, (after,), DIGITS),)
