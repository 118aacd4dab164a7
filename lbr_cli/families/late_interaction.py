"""Late interaction (ColBERT): each token of a query is compared with each token of a document.

    maxsim       Σ_i max_j q_i · d_j, over the tokens i of the query and j of the document
    meanmaxsim   the same, divided by the number of tokens of the query

as in sentence-transformers and PyLate; most models normalise the vectors of tokens, so that each product is a cosine.
Each text is encoded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lbr_cli.core import Answer, Document, Expansion, Request, Score, Token, TokenEmbeddings

MAXSIM, MEAN_MAXSIM = "maxsim", "meanmaxsim"
# OpenBLAS uses several threads for products of more multiplications. While a model keeps the processors busy, waking
# these threads takes longer than such a product.
THREADED = 1 << 18
WITHOUT_TOKENS = -1e9  # the score of a document without a token to compare, as in sentence-transformers


@dataclass(frozen=True, slots=True)
class LateInteraction:
    """Options are those of the model's folder, except prompts that are not None.

    `query_length` and `document_length` limit the tokens of queries and of documents. `with_matches` adds to the
    details of a score which token of the document each token of the query matches.
    """

    name: ClassVar[str] = "late-interaction"
    scale: ClassVar[str] = "sum over the query's tokens of the best similarity"
    request_type: ClassVar[type[Request]] = TokenEmbeddings
    shares: ClassVar[Literal["query", "document"]] = "document"
    query_prompt: str | None = None
    document_prompt: str | None = None
    similarity: str = MAXSIM
    query_length: int | None = None
    document_length: int | None = None
    expansion: Expansion | None = None
    with_matches: bool = False

    def requests(self, query: str, document: Document) -> tuple[Request, ...]:
        before_query, before_document = self.query_prompt or "", self.document_prompt or ""
        shown = self.with_matches
        return (
            TokenEmbeddings(query, True, before_query, self.query_length, self.expansion, shown),
            TokenEmbeddings(document.contents, False, before_document, self.document_length, None, shown),
        )

    def score(self, answers: Sequence[Answer]) -> Score:
        query: Any = answers[0].values
        document: Any = answers[1].values
        if not len(document):
            return Score(WITHOUT_TOKENS, {"matches": []} if self.with_matches else {})
        blocks = _similarities(query, document)
        # for each token of the query, the maximum in each block
        maxima = [*zip(*(block.max(axis=0).tolist() for block in blocks), strict=True)]
        best = [_largest(of_blocks) for of_blocks in maxima]
        value = sum(best, 0.0)
        if self.similarity == MEAN_MAXSIM:
            value /= max(len(query), 1)
        if not self.with_matches:
            return Score(value)
        numbers = [of_blocks.index(similarity) for of_blocks, similarity in zip(maxima, best, strict=True)]
        indexes = [block.argmax(axis=0).tolist() for block in blocks]
        matched = [
            answers[1].tokens[number * len(blocks[0]) + indexes[number][token]] for token, number in enumerate(numbers)
        ]
        matches = [_match(*row) for row in zip(answers[0].tokens, matched, best, strict=True)]
        return Score(value, {"matches": matches})

    def probability(self, score: float) -> float | None:
        return None


def _similarities(query: Any, document: Any) -> list[Any]:
    """Return the products of all tokens in blocks, [document tokens, query tokens], each computed in one thread."""
    rows = max(THREADED // max(query.size, 1), 1)
    return [document[start : start + rows] @ query.T for start in range(0, len(document), rows)]


def _largest(values: Sequence[float]) -> float:
    """Return the largest value, or NaN if any value is NaN."""
    return next(filter(math.isnan, values), max(values))


def _match(query: Token, document: Token, similarity: float) -> dict[str, Any]:
    offsets = {} if document.start is None else {"start": document.start, "end": document.end}
    return {"query_token": query.text, "document_token": document.text, **offsets, "similarity": round(similarity, 6)}
