"""ctxl-rerank-v2: a causal model; the score is its logit of the first token of the vocabulary.

    score = z(token 0)

Scale: logit, unbounded; `probability` is its sigmoid. Prompt and formula are those of
ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b and its siblings: no chat template, the document before the query,
and the instruction, if any, after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Document, NextToken, RawTemplate, Request, Score
from lbr_cli.families.odds import LogitFamily

TASK = "Check whether a given document contains information helpful to answer the query.\n<Document> "


@dataclass(frozen=True, slots=True)
class Ctxl(LogitFamily):
    name: ClassVar[str] = "ctxl"
    scale: ClassVar[str] = "logit of token 0"
    shares: ClassVar[Literal["query", "document"]] = "document"
    instruction: str = ""

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        instruction = f" {self.instruction}" if self.instruction else ""
        after = f"\n<Query> {query}{instruction} ??"
        return (NextToken(RawTemplate(special_tokens="all"), (TASK,), document.contents, (after,), (0,), logits=True),)

    def score(self, answers: Sequence[Answer]) -> Score:
        logit = float(answers[0].values[0])
        return Score(logit, {"probability": self.probability(logit)})
