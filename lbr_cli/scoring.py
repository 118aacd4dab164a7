"""Texts -> scores: ask the family, let the engine answer, read the answers.

Equal questions are asked once. In which order an engine computes never shows in what is returned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

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

    def expect(self, pairs: Callable[[], Iterator[tuple[Query, Document]]]) -> tuple[int, int]:
        """Announce the pairs of a whole job, which `pairs` gives anew at each call.

        Tells how many there are, and how many computations they take.

        Raises RequestError, with the ids, if one of them cannot be scored.
        """
        announced = _Announced(self._requests, pairs)
        try:
            work = self.engine.expect(announced)
        except RequestError as error:
            raise named(error, *announced.current) from error
        return announced.count, work

    def score(self, query: Query, documents: Sequence[Document]) -> list[Score]:
        """A score for each document, in their order. `query.text` must be known.

        Raises RequestError for a pair that cannot be scored and RunError for one whose score is not finite, both
        with its ids. `detail` of each score says whether the document was `truncated`.
        """
        questions: dict[Request, int] = {}  # each once, with its place
        asked = [
            [questions.setdefault(request, len(questions)) for request in self._requests(query, document)]
            for document in documents
        ]
        waiting: list[list[int]] = [[] for _ in questions]
        for pair, places in enumerate(asked):
            for place in dict.fromkeys(places):
                waiting[place].append(pair)
        unanswered = [len(set(places)) for places in asked]
        answers: dict[int, Answer] = {}
        scores: dict[int, Score] = {}
        try:
            for place, answer in self.engine.answer(list(questions)):
                answers[place] = answer
                done = len(scores)
                for pair in waiting[place]:
                    unanswered[pair] -= 1
                    if not unanswered[pair]:
                        scores[pair] = self._read([answers[other] for other in asked[pair]], query, documents[pair])
                self.listener.advance(pairs=len(scores) - done, tokens=answer.tokens, work=answer.work)
        except RequestError as error:
            raise named(error, query, documents[waiting[error.place][0]]) from error
        return [scores[pair] for pair in range(len(documents))]

    def _requests(self, query: Query, document: Document) -> tuple[Request, ...]:
        return self.family.requests(query.text or "", document)

    def _read(self, answers: Sequence[Answer], query: Query, document: Document) -> Score:
        score = self.family.score(answers)
        if not math.isfinite(score.value):
            raise RunError(f"query {query.query_id}, document {document.doc_id}: the score is {score.value}")
        truncated = any(answer.truncated for answer in answers)
        self.tally.pairs += 1
        self.tally.truncated += truncated
        if score.doubt:
            self.tally.doubts[score.doubt] += 1
        return Score(score.value, {**score.detail, "truncated": truncated}, score.doubt)


class _Announced:
    """The requests of a job's pairs, as often as they are asked for; knows where it stands."""

    def __init__(
        self,
        requests: Callable[[Query, Document], tuple[Request, ...]],
        pairs: Callable[[], Iterator[tuple[Query, Document]]],
    ) -> None:
        self.current = (Query(""), Document("", ""))
        self.count = 0
        self._requests = requests
        self._pairs = pairs

    def __iter__(self) -> Iterator[Request]:
        self.count = 0
        for pair in self._pairs():
            self.current = pair
            self.count += 1
            yield from self._requests(*self.current)


def named(error: RequestError, query: Query, document: Document) -> RequestError:
    """The error with the ids of its pair."""
    return error.at(error.place, f"query {query.query_id}, document {document.doc_id}: ")
