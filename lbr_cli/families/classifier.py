"""Cross-encoders with a classification head of one or two labels.

    score = z            one label
    score = z1 - z0      two labels: the log-odds of label 1, or z0 - z1 if label 0 is the one that means "relevant"

Scale: the model's logit, unbounded. `probability` is sigmoid(score): the published score of mxbai-rerank-v1, the
normalised score of FlagEmbedding for bge-reranker, and for two labels the softmax of monoBERT.

The model reads the pair as its tokenizer joins it, after the prompts of a folder of sentence-transformers, or in a chat
template with a message for each text if the folder has one, or in the prompt of the user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from lbr_cli.core import Answer, Classification, Document, Pair, PairChat, Request, Score
from lbr_cli.families.next_token import Template
from lbr_cli.families.odds import sigmoid


@dataclass(frozen=True, slots=True)
class Classifier:
    """Of two labels, `relevant` is the number of the one whose name in the folder's `id2label` means "relevant".

    `query_prompt` and `document_prompt` precede the texts of a pair; None means the prompt of the folder, if any. In
    `chat`, the model's own chat template, `query_prompt` is the system message. `prompt` replaces both.
    `without_prompt` lets a causal model read the bare pair: only the user knows how the model was trained.
    """

    name: ClassVar[str] = "classifier"
    scale: ClassVar[str] = "logit of one label, log-odds of two"
    relevant: int = 1
    without_prompt: bool = False
    query_prompt: str | None = None
    document_prompt: str | None = None
    prompt: Template | None = None
    chat: PairChat | None = None

    @property
    def request_type(self) -> type[Request]:
        return Classification if self.prompt or self.chat else Pair

    @property
    def shares(self) -> Literal["query", "document"]:
        return self.prompt.shares if self.prompt else "query"

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        if self.prompt:
            before, between, after = self.prompt.parts(query, document)
            return (Classification(self.prompt.template, (before,), between, (after,)),)
        if self.chat:
            template = replace(self.chat, system=self.query_prompt or "")
            return (Classification(template, (query,), document.contents, ("",)),)
        return (Pair((self.query_prompt or "") + query, (self.document_prompt or "") + document.contents),)

    def score(self, answers: Sequence[Answer]) -> Score:
        values = [float(value) for value in answers[0].values]
        logit = values[0] if len(values) == 1 else values[self.relevant] - values[1 - self.relevant]
        return Score(logit, {"probability": self.probability(logit)})

    def probability(self, score: float) -> float | None:
        return sigmoid(score)
