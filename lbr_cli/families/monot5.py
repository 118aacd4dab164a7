"""monoT5: a sequence-to-sequence model that answers a query and a document with one of two words.

    score = z(true) - z(false)

where z are the logits of the first generated token. Scale: log-odds, unbounded; `probability` is the softmax over the
two, whose logarithm is the score of pygaggle and pyterrier_t5. Prompt and labels are those of these libraries: "true"
and "false" for the checkpoints of castorini, "yes" and "no" for most mT5 of unicamp-dl, "sim" and "não" for its ptT5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lbr_cli.core import Answer, Document, NextToken, RawTemplate, Request, Score
from lbr_cli.families.odds import LogitFamily, log_odds

TRUE_FALSE = ("▁true", "▁false")
YES_NO = ("▁yes", "▁no")
SIM_NAO = ("▁sim", "▁não")


@dataclass(frozen=True, slots=True)
class MonoT5(LogitFamily):
    """`labels` are the tokens for relevant and not relevant."""

    name: ClassVar[str] = "monot5"
    scale: ClassVar[str] = "log-odds of true against false"
    labels: tuple[str, str] = TRUE_FALSE

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        before, after = (f"Query: {query} Document: ",), (" Relevant:",)
        return (NextToken(RawTemplate(special_tokens="all"), before, document.contents, after, self.labels),)

    def score(self, answers: Sequence[Answer]) -> Score:
        return log_odds(answers[0], self.labels)
