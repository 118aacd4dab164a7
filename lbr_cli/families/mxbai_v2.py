"""mxbai-rerank-v2: a Qwen2.5 that answers 1 for relevant and 0 for not, with an optional instruction.

    score = z(1) - z(0)

equal to ln p(1) - ln p(0). Scale: log-odds, unbounded; the score of a borderline document depends on the size of the
model. Its authors' normalised score is sigmoid(score - m / 2), with m = 9 for mixedbread-ai/mxbai-rerank-base-v2 and 12
for -large-v2. Prompt and formula are those of their library mxbai-rerank, which tokenizes the parts of the prompt
separately; `probability` is the softmax over the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.core import Answer, Document, NextToken, RawTemplate, Request, Score
from lbr_cli.families.odds import LogitFamily

TEMPLATE = RawTemplate(
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n",
    "<|im_end|>\n<|im_start|>assistant\n",
)
TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
LABELS = ("1", "0")


@dataclass(frozen=True, slots=True)
class MxbaiV2(LogitFamily):
    name: ClassVar[str] = "mxbai-v2"
    scale: ClassVar[str] = "logit of 1 less that of 0"
    instruction: str = ""

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        instruction = f"instruction: {self.instruction}\n" if self.instruction else ""
        before = ("", f"{instruction}query: {query}", "\n", "document: ")
        return (NextToken(TEMPLATE, before, document.contents, ("", "\n", TASK, ""), LABELS),)

    def score(self, answers: Sequence[Answer]) -> Score:
        relevant, other = answers[0].values
        score = relevant - other
        return Score(score, {"probability": self.probability(score)})
