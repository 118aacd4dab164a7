"""Qwen3-Reranker: a causal model that answers, given an instruction, whether a document meets a query: yes or no.

    score = ln p(yes) - ln p(no)

Scale: log-odds, unbounded, 0 if both are equally probable; `probability` is the softmax over the two, its authors'
score. Prompt and formula are those of the model cards of Qwen/Qwen3-Reranker-0.6B, -4B and -8B; the prompt ends with an
empty thought.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.core import Answer, Document, NextToken, RawTemplate, Request, Score
from lbr_cli.families.odds import LogitFamily, log_odds

TEMPLATE = RawTemplate(
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
)
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
LABELS = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Qwen3(LogitFamily):
    name: ClassVar[str] = "qwen3"
    scale: ClassVar[str] = "log-odds of yes against no"
    instruction: str = INSTRUCTION

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        before = f"<Instruct>: {self.instruction}\n<Query>: {query}\n<Document>: "
        return (NextToken(TEMPLATE, (before,), document.contents, ("",), LABELS),)

    def score(self, answers: Sequence[Answer]) -> Score:
        return log_odds(answers[0], LABELS)
