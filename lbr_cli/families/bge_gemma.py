"""bge-reranker-v2-gemma: a causal model that answers Yes or No; the score is the logit of Yes.

    score = z(Yes)

Scale: logit, unbounded; `probability` is its sigmoid, the normalised score of its authors. Prompt and formula are those
of FlagEmbedding (`inference/reranker/decoder_only/base.py`) for BAAI/bge-reranker-v2-gemma: the parts of the prompt are
tokenized separately, and the label is the first token of "Yes".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.core import Answer, Document, NextToken, RawTemplate, Request, Score
from lbr_cli.families.odds import LogitFamily

TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


@dataclass(frozen=True, slots=True)
class BgeGemma(LogitFamily):
    name: ClassVar[str] = "bge-gemma"
    scale: ClassVar[str] = "logit of Yes"

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        before, after = (f"A: {query}", "\n", "B: "), ("", "\n", TASK)
        return (NextToken(RawTemplate(special_tokens="bos"), before, document.contents, after, ("Yes",), logits=True),)

    def score(self, answers: Sequence[Answer]) -> Score:
        (logit,) = answers[0].values
        return Score(logit, {"probability": self.probability(logit)})
