"""Texts -> scores: ask the family, let the engine answer, read the answers.

Equal questions are asked once. In which order an engine computes never shows in what is returned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lbr_cli.core import Answer, Document, Engine, Family, Listener, Query, Request, Score
from lbr_cli.errors import RequestError, RunError


@dataclass(slots=True)
class Tally:
    """What a job has done so far."""

    queries: int = 0
    pairs: int = 0
    truncated: int = 0
    doubts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores pairs with one family on one engine and tells `listener` of each that is done."""

    family: Family
    engine: Engine
    listener: Listener
    tally: Tally = field(default_factory=Tally)

    def expect(self, pairs: Iterable[tuple[Query, Document]]) -> int:
        """Announce the pairs of a whole job and hear how many computations they take.

        Raises RequestError, with the ids, if one of them cannot be scored.
        """
        current = (Query(""), Document("", ""))

        def announced() -> Iterator[Request]:
            nonlocal current
            for current in pairs:
                yield from self.family.requests(current[0].text or "", current[1].contents)

        try:
            return self.engine.expect(announced())
        except RequestError as error:
            raise _named(error, *current) from error

    def score(self, query: Query, documents: Sequence[Document]) -> list[Score]:
        """A score for each document, in their order. `query.text` must be known.

        Raises RequestError for a pair that cannot be scored and RunError for one whose score is not finite, both
        with its ids. `detail` of each score says whether the document was `truncated`.
        """
        asked = [self.family.requests(query.text or "", document.contents) for document in documents]
        waiting: dict[Request, list[int]] = {}
        for place, requests in enumerate(asked):
            for request in dict.fromkeys(requests):
                waiting.setdefault(request, []).append(place)
        open_questions = [len(set(requests)) for requests in asked]
        distinct = list(waiting)
        answers: dict[Request, Answer] = {}
        scores: dict[int, Score] = {}
        try:
            for place, answer in self.engine.answer(distinct):
                answers[distinct[place]] = answer
                done = 0
                for pair in waiting[distinct[place]]:
                    open_questions[pair] -= 1
                    if not open_questions[pair]:
                        scores[pair] = self._read([answers[request] for request in asked[pair]], query, documents[pair])
                        done += 1
                self.listener.advance(pairs=done, tokens=answer.tokens, work=answer.work)
        except RequestError as error:
            pair = waiting[distinct[error.place]][0]
            raise _named(error, query, documents[pair]) from error
        return [scores[place] for place in range(len(documents))]

    def _read(self, answers: Sequence[Answer], query: Query, document: Document) -> Score:
        score = self.family.score(answers)
        if not math.isfinite(score.value):
            raise RunError(f"query {query.query_id}, document {document.doc_id}: the score is {score.value}")
        truncated = any(answer.truncated for answer in answers)
        self.tally.pairs += 1
        self.tally.truncated += truncated
        if score.doubt:
            self.tally.doubts[score.doubt] += 1
        return replace(score, detail={**score.detail, "truncated": truncated})


def _named(error: RequestError, query: Query, document: Document) -> RequestError:
    return RequestError(f"query {query.query_id}, document {document.doc_id}: {error}", error.place, hint=error.hint)
