"""Texts -> scores: look them up, ask the family, let the engine answer, read the answers, keep the scores.

Equal questions are asked once. In which order an engine computes never shows in what is returned.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lbr_cli.cache.scores import Asked, Scores
from lbr_cli.core import Answer, Document, Engine, Family, Listener, NextToken, Query, Request, Score
from lbr_cli.errors import RequestError, RunError, UsageError

AT_ONCE = 1000  # pairs that are looked up together


@dataclass(slots=True)
class Tally:
    """What a job has done so far; `tokens` are those that the model has read.

    `candidates` have got a score, made of one of the `pairs` or, cut into passages, of several.
    """

    queries: int = 0
    candidates: int = 0
    pairs: int = 0
    cached: int = 0
    truncated: int = 0
    tokens: int = 0
    doubts: Counter[str] = field(default_factory=Counter)


class Scorer:
    """Scores pairs with one family on one engine and tells `listener` of each that is done.

    What `scores` holds is not computed, and what is computed is kept in it batch by batch. Queries that were announced
    are to be scored in that order.
    """

    def __init__(self, family: Family, engine: Engine, listener: Listener, scores: Scores | None = None) -> None:
        self.family = family
        self.engine = engine
        self.listener = listener
        self.scores = scores or Scores()
        self.tally = Tally()
        self._early = _Early()
        self._known = bytearray()  # of the announced pairs that are still to come, whether they were known

    def expect(self, pairs: Callable[[], Iterator[tuple[Query, Document]]]) -> tuple[int, int]:
        """Announce the pairs of a whole job, which `pairs` gives anew at each call.

        Tells how many there are, and how many computations they take. An engine hears only of those that are not
        known, and nothing if all are.

        Raises RequestError, with the ids, if one of them cannot be scored.
        """
        announced = _Announced(self._requests, pairs)
        context = self.scores.context
        if self.scores.on:
            announced.look_up(self.scores)
            self._known = announced.known[:]
            if all(announced.known):
                return len(announced.known), 0
        try:
            work = self.engine.expect(announced)
        except RequestError as error:
            raise named(error, *announced.current) from error
        if self.scores.context != context:  # the engine computes otherwise than it did when that was remembered
            return self.expect(pairs)
        count = announced.count
        if self.scores.on:
            self._early.expect(announced.each())
        return count, work

    def score(self, query: Query, documents: Sequence[Document]) -> list[Score]:
        """A score for each document, in their order. `query.text` must be known.

        Raises RequestError for a pair that cannot be scored, RunError for one whose score is not finite and UsageError
        where that is for want of a label, all with its ids. `detail` of each score says whether the document was
        `truncated`.
        """
        asked = [self._requests(query, document) for document in documents]
        scores = {pair: score for pair, score in enumerate(self.scores.find(asked)) if score is not None}
        cached = len(scores)
        if self._known:  # what has come into the cache since then was computed by this job, or is asked a second time
            cached = min(cached, sum(self._known[: len(documents)]))
            del self._known[: len(documents)]
        if scores:
            self.listener.advance(pairs=len(scores), cached=cached)
        if len(scores) < len(documents):
            self._compute(query, documents, asked, scores)
        self.tally.pairs += len(documents)
        self.tally.cached += cached
        for score in scores.values():
            self.tally.truncated += score.detail["truncated"]
            if score.doubt:
                self.tally.doubts[score.doubt] += 1
        return [scores[pair] for pair in range(len(documents))]

    def _compute(
        self, query: Query, documents: Sequence[Document], asked: Sequence[Asked], scores: dict[int, Score]
    ) -> None:
        """Put into `scores` what is not in it yet, by the places of the pairs."""
        waiting: dict[Request, list[int]] = {}  # each question once, with the pairs that wait for it
        for pair, requests in enumerate(asked):
            if pair not in scores:
                for request in dict.fromkeys(requests):
                    waiting.setdefault(request, []).append(pair)
        shared = self._early.shared()
        questions = list(dict.fromkeys([*shared, *waiting]))
        answers: dict[Request, Answer] = {}
        try:
            for batch in self.engine.answer(questions):
                done = len(scores)
                answers.update(batch)
                fresh: dict[Asked, Score] = {}
                try:
                    for request, _ in batch:
                        for pair in waiting.get(request, ()):
                            requests = asked[pair]
                            if pair not in scores and all(part in answers for part in requests):
                                parts = [answers[part] for part in requests]
                                scores[pair] = fresh[requests] = self._read(parts, query, documents[pair])
                finally:
                    self.scores.keep(fresh | self._in_passing(batch, waiting, fresh))
                tokens = sum(answer.tokens for _, answer in batch)
                self.tally.tokens += tokens
                self.listener.advance(
                    pairs=len(scores) - done, tokens=tokens, work=sum(answer.work for _, answer in batch)
                )
        except RequestError as error:
            whose = waiting.get(questions[error.place])
            raise named(error, query, documents[whose[0]]) if whose else error from error

    def _in_passing(
        self, batch: Sequence[tuple[Request, Answer]], asked: Mapping[Request, object], fresh: Mapping[Asked, Score]
    ) -> dict[Asked, Score]:
        """The scores of other queries' pairs that a batch completes."""
        if not self.scores.on:
            return {}
        pairs = self._early.complete(batch, asked)
        scores = {pair: _whole(self.family, parts) for pair, parts in pairs if pair not in fresh}
        return {pair: score for pair, score in scores.items() if math.isfinite(score.value)}

    def _requests(self, query: Query, document: Document) -> Asked:
        return self.family.requests(query.text or "", document)

    def _read(self, answers: Sequence[Answer], query: Query, document: Document) -> Score:
        score = _whole(self.family, answers)
        if not math.isfinite(score.value):
            pair = f"query {query.query_id}, document {document.doc_id}"
            if self.family.asks is NextToken and any(-math.inf in answer.values for answer in answers):
                raise UsageError(f"{pair}: the engine does not tell of each label, and this score needs them all")
            raise RunError(f"{pair}: the score is {score.value}")
        return score


def _whole(family: Family, answers: Sequence[Answer]) -> Score:
    """The family's score, and whether a text was shortened for it."""
    score = family.score(answers)
    truncated = any(answer.truncated for answer in answers)
    return Score(score.value, {**score.detail, "truncated": truncated}, score.doubt)


class _Announced:
    """The requests of a job's pairs that are not known, as often as they are asked for; knows where it stands."""

    def __init__(
        self,
        requests: Callable[[Query, Document], Asked],
        pairs: Callable[[], Iterator[tuple[Query, Document]]],
    ) -> None:
        self.current = (Query(""), Document("", ""))
        self.count = 0
        self.known = bytearray()  # for each pair whether it is; empty if none is
        self._requests = requests
        self._pairs = pairs

    def look_up(self, scores: Scores) -> None:
        known = bytearray()
        some: list[Asked] = []
        for pair in self._pairs():
            some.append(self._requests(*pair))
            if len(some) == AT_ONCE:
                known += bytes(scores.holds(some))
                some.clear()
        self.known = known + bytes(scores.holds(some))

    def each(self) -> Iterator[Asked]:
        """What is asked about each pair that is not known."""
        self.count = 0
        for pair in self._pairs():
            self.count += 1
            if not (self.known and self.known[self.count - 1]):
                self.current = pair
                yield self._requests(*pair)

    def __iter__(self) -> Iterator[Request]:
        for requests in self.each():
            yield from requests


class _Early:
    """Pairs of a job that are complete before it comes to them, because an engine computes across queries.

    A pair of a single request is, once that is answered; for others, answers are held as long as the job lasts.
    """

    def __init__(self) -> None:
        self._several = False
        self._waiting: dict[Request, list[Asked]] = {}
        self._answers: dict[Request, Answer] = {}
        self._shared: dict[Request, None] = {}

    def expect(self, pairs: Iterable[Asked]) -> None:
        for requests in pairs:
            if len(requests) == 1:
                return
            self._several = True
            self._shared[requests[0]] = None
            for request in requests:
                self._waiting.setdefault(request, []).append(requests)

    def shared(self) -> list[Request]:
        """What is best asked first, and once: without it no pair of several requests is complete."""
        shared, self._shared = list(self._shared), {}
        return shared

    def complete(
        self, batch: Sequence[tuple[Request, Answer]], asked: Mapping[Request, object]
    ) -> Iterator[tuple[Asked, list[Answer]]]:
        """The pairs that a batch completes, and their answers; those of one request that was `asked` are left out."""
        for request, answer in batch:
            pairs = self._waiting.pop(request, None)
            if pairs is None:
                if not self._several and request not in asked:
                    yield (request,), [answer]
                continue
            self._answers[request] = answer
            for pair in pairs:
                if all(part in self._answers for part in pair):
                    yield pair, [self._answers[part] for part in pair]


def named(error: RequestError, query: Query, document: Document) -> RequestError:
    """The error with the ids of its pair."""
    return error.at(error.place, f"query {query.query_id}, document {document.doc_id}: ")
