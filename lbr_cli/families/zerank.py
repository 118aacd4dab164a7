"""zerank: a Qwen3 that answers Yes; the score is the logit of Yes.

    score = z(Yes)

Scale: logit, unbounded; `probability` is sigmoid(score / 5), the score that its authors published at first; since
May 2026 their own `predict` returns the logit. Prompt and formula are those of zeroentropy/zerank-1-small-reranker and
its siblings: the model's chat template with the query as system message and the document as user message, both without
white space at their ends, and the opening of the assistant's answer. zerank-2 reads an instruction beside the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.core import Answer, Document, NextToken, PairChat, Request, Score
from lbr_cli.families.odds import LogitFamily, sigmoid

TEMPLATE = PairChat(query_role="system", document_role="user", variables=(("add_generation_prompt", True),))
TEMPERATURE = 5.0


@dataclass(frozen=True, slots=True)
class Zerank(LogitFamily):
    name: ClassVar[str] = "zerank"
    scale: ClassVar[str] = "logit of Yes"
    instruction: str = ""

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        text = query.strip()
        if self.instruction:
            text = f"<query>{text}</query>\n<instruction>{self.instruction}</instruction>"
        return (NextToken(TEMPLATE, (text,), document.contents.strip(), ("",), ("Yes",), logits=True),)

    def score(self, answers: Sequence[Answer]) -> Score:
        logit = float(answers[0].values[0])
        return Score(logit, {"probability": self.probability(logit)})

    def probability(self, score: float) -> float | None:
        return sigmoid(score / TEMPERATURE)
