"""Causal cross-encoders of sentence-transformers: a folder with the modules Transformer and LogitScore.

    score = z(true)               one token
    score = z(true) - z(false)    two tokens, equal to ln p(true) - ln p(false)

where z are the logits of the token after the prompt. Scale: a logit or log-odds, unbounded; `probability` is
sigmoid(score), the score of sentence-transformers unless the folder names another activation. The tokens are those of
the folder's LogitScore module; the prompt is the folder's chat template around two messages of the roles "query" and
"document", after a system message if the folder has a default prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from lbr_cli.core import Answer, Document, NextToken, PairChat, Request, Score
from lbr_cli.families.odds import LogitFamily


@dataclass(frozen=True, slots=True)
class LogitScore(LogitFamily):
    """`tokens` are the ids for relevant and, in most folders, not relevant. `instruction` is the system message.

    Options are those of the model's folder, except an `instruction` that is not None.
    """

    name: ClassVar[str] = "logit-score"
    scale: ClassVar[str] = "logit of one token, log-odds of two"
    instruction: str | None = None
    tokens: tuple[int, ...] = ()
    chat: PairChat = PairChat()

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        template = replace(self.chat, system=self.instruction or "")
        one_token = len(self.tokens) == 1
        return (NextToken(template, (query,), document.contents, ("",), self.tokens, logits=one_token),)

    def score(self, answers: Sequence[Answer]) -> Score:
        relevant, *other = answers[0].values
        score = float(relevant) - float(other[0]) if other else float(relevant)
        return Score(score, {"probability": self.probability(score)})
