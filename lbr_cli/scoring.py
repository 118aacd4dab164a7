"""Query-document pairs -> scores: from the cache, and for the rest from the engine, stored batch by batch.

An engine receives the requests of a job in windows of whole queries and keeps nothing between them. What belongs
together (which pairs wait for which request, which query is complete) is held here, as long as one call of the engine
lasts.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from lbr_cli.cache.scores import PairRequests, Scores
from lbr_cli.core import Answer, Batch, Document, Engine, Family, NextToken, Progress, Query, Request, Score
from lbr_cli.errors import RequestError, RunError, UsageError

LOOKUP_SIZE = 1000  # pairs that are looked up in the cache at once
GROWTH = 4  # of a window over the one before: the first query appears early, and few batches are chosen from few pairs
CACHED_RUN = 10_000  # pairs: behind so many cached ones the engine finishes its work before they are passed


class Scorable(Protocol):
    """A query and the documents to score for it. `documents` may be built anew each time, to save memory."""

    @property
    def query(self) -> Query: ...

    @property
    def documents(self) -> Sequence[Document]: ...


Item = TypeVar("Item", bound=Scorable)


@dataclass(frozen=True, slots=True)
class QueryDocuments:
    """The plain `Scorable`."""

    query: Query
    documents: Sequence[Document]


@dataclass(slots=True)
class Counts:
    """What a job has done. `tokens` are those that the model read.

    `candidates` have a score, which was computed from one of the `pairs` or, for passages, from several.
    """

    queries: int = 0
    candidates: int = 0
    pairs: int = 0
    cached: int = 0
    truncated: int = 0
    tokens: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Plan:
    """A job before it begins: for each of its pairs, in order, 1 if its score is cached and else 0."""

    cached: bytes

    @property
    def pairs(self) -> int:
        return len(self.cached)

    @property
    def hits(self) -> int:
        return self.cached.count(1)


class Scorer:
    """Scores pairs with one family on one engine.

    `load` returns the engine; it is called once, with the number of pairs to compute (0 if unknown), when the first
    pair that is not in `scores` is met.
    """

    def __init__(
        self, family: Family, load: Callable[[int], Engine], progress: Progress, scores: Scores | None = None
    ) -> None:
        self.family = family
        self.progress = progress
        self.scores = scores or Scores()
        self.counts = Counts()
        self._load = load
        self._engine: Engine | None = None

    @property
    def description(self) -> str:
        """Where and how the engine computes."""
        return self._engine.description if self._engine else "nothing computed"

    def plan(self, pairs: Callable[[], Iterable[tuple[Query, Document]]]) -> Plan:
        """Look up the pairs of a job, and refuse now what the engine could not answer hours later.

        `pairs` returns the same pairs at each call. The engine is loaded only if a score is missing. Raises
        RequestError, with the ids of the pair, for one that cannot be scored.
        """
        cached = self._look_up(pairs())
        missing = cached.count(0)
        if not missing:
            return Plan(bytes(cached))
        context = self.scores.context
        engine = self._loaded(missing)
        if self.scores.context != context:  # the engine computes in another way than was remembered
            return self.plan(pairs)
        try:
            engine.check(
                request
                for is_cached, pair in zip(cached, pairs(), strict=True)
                if not is_cached
                for request in self.requests(*pair)
            )
        except RequestError as error:
            query, document = next(pair for pair in pairs() if error.request in self.requests(*pair))
            raise error.of_pair(query.query_id, document.doc_id) from error
        return Plan(bytes(cached))

    def score(self, items: Iterable[Item], plan: Plan | None = None) -> Iterator[tuple[Item, list[Score]]]:
        """Yield each query with the scores of its documents, in their order; queries in input order, when complete.

        With a `plan` of the same pairs, the engine receives many queries at once. Without one, each query is answered
        before the next is read: for input that is still arriving. The text of each query must be known.

        Raises RequestError for a pair that cannot be scored, RunError for a score that is not finite, and UsageError
        if that is for want of a label; all with the ids of the pair. `details` of a score say whether its document was
        `truncated`.
        """
        entries = _entries(items, plan)
        for entry in entries:
            yield from self._scores(entry, entries if plan else iter(()))

    def score_query(self, query: Query, documents: Sequence[Document]) -> list[Score]:
        """Return the scores of one query's documents."""
        ((_, scores),) = self.score([QueryDocuments(query, documents)])
        return scores

    def requests(self, query: Query, document: Document) -> PairRequests:
        """Return the requests of a pair."""
        return self.family.requests(query.text or "", document)

    def _look_up(self, pairs: Iterable[tuple[Query, Document]]) -> bytearray:
        """For each pair, 1 if the cache has a row for it."""
        if not self.scores.on:
            return bytearray(sum(1 for _ in pairs))
        cached = bytearray()
        coming = iter(pairs)
        while chunk := [self.requests(*pair) for pair in itertools.islice(coming, LOOKUP_SIZE)]:
            cached += bytes(self.scores.holds(chunk))
        return cached

    def _loaded(self, pairs: int) -> Engine:
        if self._engine is None:
            self._engine = self._load(pairs)
        return self._engine

    def _scores(self, entry: _Entry[Item], following: Iterator[_Entry[Item]]) -> Iterator[tuple[Item, list[Score]]]:
        """An entry with its scores, and those behind it that are computed together with it."""
        missing = self._find(entry)
        if missing:
            yield from _Computation(self, entry, missing, following).run(self._loaded(0))
        else:
            yield self._counted(entry)

    def _find(self, entry: _Entry[Item]) -> dict[int, PairRequests]:
        """Fill in the cached scores of an entry. Return the requests of its other pairs by their places."""
        requests = [self.requests(entry.item.query, document) for document in entry.item.documents]
        entry.is_looked_up = True
        entry.scores = self.scores.find(requests)
        hits = [score is not None for score in entry.scores]
        # scores that entered the cache after the plan were computed by this job
        cached = sum(hits) if entry.cached is None else sum(map(min, hits, entry.cached))
        self.counts.cached += cached
        if any(hits):
            self.progress.advance(pairs=sum(hits), cached=cached)
        missing = {place: asked for place, asked in enumerate(requests) if not hits[place]}
        entry.missing = len(missing)
        return missing

    def _counted(self, entry: _Entry[Item]) -> tuple[Item, list[Score]]:
        """A complete entry, which is added to the counts."""
        scores = [score for score in entry.scores if score is not None]
        self.counts.pairs += len(scores)
        for score in scores:
            self.counts.truncated += score.details["truncated"]
            if score.warning:
                self.counts.warnings[score.warning] += 1
        return entry.item, scores

    def _read(self, answers: Sequence[Answer], pair: _WaitingPair) -> Score:
        """The family's score, and whether a text was truncated for it."""
        score = self.family.score(answers)
        if not math.isfinite(score.value):
            name = "query {}, document {}".format(*pair.ids)
            if self.family.request_type is NextToken and any(-math.inf in answer.values for answer in answers):
                raise UsageError(f"{name}: the server did not return a log-probability for every label")
            raise RunError(f"{name}: the score is {score.value}")
        truncated = any(answer.truncated for answer in answers)
        return Score(score.value, {**score.details, "truncated": truncated}, score.warning)


@dataclass(slots=True)
class _Entry(Generic[Item]):
    """A query, and when they have been looked up, the scores of its documents and how many of them are missing.

    `cached` is the entry's part of the plan, None without a plan.
    """

    item: Item
    cached: bytes | None
    is_looked_up: bool = False
    scores: list[Score | None] = field(default_factory=list)
    missing: int = 0

    @property
    def is_cached(self) -> bool:
        """Whether the plan found all pairs in the cache."""
        return self.cached is not None and 0 not in self.cached


def _entries(items: Iterable[Item], plan: Plan | None) -> Iterator[_Entry[Item]]:
    start = 0
    for item in items:
        if plan is None:
            yield _Entry(item, None)
            continue
        end = start + len(item.documents)
        if end > plan.pairs:
            raise ValueError("the pairs are not those of the plan")
        yield _Entry(item, plan.cached[start:end])
        start = end


@dataclass(slots=True, eq=False)
class _Question:
    """A distinct request, its answer once there is one, and the pairs that need it; `waiting` of them have no score."""

    request: Request
    answer: Answer | None = None
    pairs: list[_WaitingPair] = field(default_factory=list)
    waiting: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _WaitingPair:
    """The pair at `place` of an entry, which needs the answers to all of `questions`."""

    entry: _Entry[Any]
    place: int
    questions: tuple[_Question, ...]

    @property
    def ids(self) -> tuple[str, str]:
        """Query id and document id."""
        return self.entry.item.query.query_id, self.entry.item.documents[self.place].doc_id


def _longest_document_first(request: Request) -> tuple[int, str, str]:
    return -len(request.document), request.document, repr(request)


class _Computation(Generic[Item]):
    """One call of `Engine.answer`: an entry with missing scores, and those behind it as far as the engine reads them.

    A request is asked once, however many pairs need its answer, and an answer is dropped with the last pair that needs
    it. Pairs of several requests are all asked before the first answer, so that none finds one that is already dropped.
    """

    def __init__(
        self,
        scorer: Scorer,
        entry: _Entry[Item],
        missing: Mapping[int, PairRequests],
        following: Iterator[_Entry[Item]],
    ) -> None:
        self._scorer = scorer
        self._following = following
        self._entries = deque([entry])
        self._questions: dict[Request, _Question] = {}
        self._shared: dict[Request, None] = {}  # by the pairs of a query
        self._first = self._add(entry, missing)

    def run(self, engine: Engine) -> Iterator[tuple[Item, list[Score]]]:
        """Yield each entry with its scores, when it and those before it are complete."""
        for batch in self._batches(engine):
            self._take(batch)
            yield from self._complete()
        yield from self._complete()

    def _batches(self, engine: Engine) -> Iterator[Batch]:
        """What the engine yields. Its errors get the ids of their pairs."""
        try:
            yield from engine.answer(self._windows(engine.window))
        except RequestError as error:
            pair = self._questions[error.request].pairs[0]
            raise error.of_pair(*pair.ids) from error

    def _windows(self, size: int) -> Iterator[list[Request]]:
        """Windows of whole queries: the first entry, then `GROWTH` times as many requests each time, up to `size`.

        If the family shares documents between queries, all entries come at once: a window of what the pairs of a query
        share, without which no pair can be complete, then a window of the rest.
        """
        whole_job = self._scorer.family.shares == "document"
        window = self._first
        wanted = math.inf if whole_job else 0
        cached_pairs = 0
        while True:
            if window and len(window) >= wanted:
                yield window
                wanted = min(GROWTH * len(window), size)
                window = []
            entry = next(self._following, None) if whole_job or cached_pairs < CACHED_RUN else None
            if entry is None:
                break
            self._entries.append(entry)
            if entry.is_cached:
                cached_pairs += len(entry.cached or ())
            else:
                cached_pairs = 0
                window += self._add(entry, self._scorer._find(entry))
        if whole_job:
            shared = [*self._shared]
            yield from filter(None, (shared, sorted({*window} - {*shared}, key=_longest_document_first)))
        elif window:
            yield window

    def _add(self, entry: _Entry[Item], missing: Mapping[int, PairRequests]) -> list[Request]:
        """Let the pairs of an entry wait. Return the requests that have not been asked yet."""
        new = []
        for place, requests in missing.items():
            for request in requests:
                if request not in self._questions:
                    self._questions[request] = _Question(request)
                    new.append(request)
            pair = _WaitingPair(entry, place, tuple(self._questions[request] for request in requests))
            if len(requests) > 1:
                self._shared[pair.questions[0].request] = None
            for question in {*pair.questions}:
                question.pairs.append(pair)
                question.waiting += 1
        return new

    def _take(self, batch: Batch) -> None:
        """Compute the scores that a batch completes, and store them."""
        scores: dict[PairRequests, Score] = {}
        done = 0
        try:
            for request, answer in batch.answers:
                question = self._questions[request]
                question.answer = answer
                for pair in question.pairs:
                    answers = [part.answer for part in pair.questions if part.answer is not None]
                    if len(answers) == len(pair.questions):
                        score = self._scorer._read(answers, pair)
                        scores[tuple(part.request for part in pair.questions)] = score
                        pair.entry.scores[pair.place] = score
                        pair.entry.missing -= 1
                        done += 1
                        self._drop(pair)
        finally:
            self._scorer.scores.keep(scores)
        self._scorer.counts.tokens += batch.tokens
        self._scorer.progress.advance(pairs=done, tokens=batch.tokens)

    def _drop(self, pair: _WaitingPair) -> None:
        """Drop the answers that no other pair needs."""
        for question in {*pair.questions}:
            question.waiting -= 1
            if not question.waiting:
                del self._questions[question.request]
                question.pairs = []  # ends the cycle of references

    def _complete(self) -> Iterator[tuple[Item, list[Score]]]:
        """The entries at the front that are complete; cached ones are looked up now."""
        while self._entries and not self._entries[0].missing:
            entry = self._entries.popleft()
            if entry.is_looked_up:
                yield self._scorer._counted(entry)
            else:
                yield from self._scorer._scores(entry, iter(()))
