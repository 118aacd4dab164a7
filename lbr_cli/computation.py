"""One call of an engine: which pairs wait for which request, and which queries are complete.

An engine receives windows of requests, answers each request once, in any order, and keeps nothing. This module holds
what belongs together until the call ends.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from lbr_cli.cache.scores import KEY_BYTES, PairRequests
from lbr_cli.core import Answer, Batch, Document, Family, Query, Request, Score
from lbr_cli.wording import pair_name

GROWTH = 4  # of a window over the one before: the first query appears early, and few batches are chosen from few pairs
CACHED_RUN = 10_000  # pairs: the engine finishes its work before so many cached pairs are skipped


class Scorable(Protocol):
    """A query and the documents to score for it. `documents` may be built anew each time, to save memory."""

    @property
    def query(self) -> Query: ...

    @property
    def documents(self) -> Sequence[Document]: ...


Item = TypeVar("Item", bound=Scorable)
Missing = Mapping[int, PairRequests]  # the requests of the pairs of an entry that have no score, by position


@dataclass(slots=True)
class Entry(Generic[Item]):
    """A query, and after its lookup in the cache the scores of its documents and how many of them are missing.

    `keys` are the cache keys of its pairs, one after the other, empty if nothing is cached. `cached` is the part of the
    plan for this query: 1 for each pair that was cached, None without a plan.
    """

    item: Item
    keys: bytes
    cached: bytes | None
    is_looked_up: bool = False
    scores: list[Score | None] = field(default_factory=list)
    missing: int = 0

    @property
    def is_cached(self) -> bool:
        """Whether the plan found all pairs in the cache."""
        return self.cached is not None and 0 not in self.cached

    def key(self, position: int) -> bytes:
        """Return the cache key of the pair at a position."""
        return self.keys[position * KEY_BYTES : (position + 1) * KEY_BYTES]


@dataclass(slots=True, eq=False)
class _Question:
    """A distinct request, its answer once there is one, and the pairs that need it; `waiting` of them have no score."""

    request: Request
    answer: Answer | None = None
    pairs: list[WaitingPair] = field(default_factory=list)
    waiting: int = 0


@dataclass(slots=True, eq=False)
class WaitingPair:
    """The pair at `position` of an entry, which needs the answers to all of `questions`."""

    entry: Entry[Any]
    position: int
    questions: tuple[_Question, ...]

    @property
    def ids(self) -> tuple[str, str]:
        """Query id and document id."""
        return self.entry.item.query.query_id, self.entry.item.documents[self.position].doc_id

    @property
    def name(self) -> str:
        return pair_name(*self.ids)


class Computation(Generic[Item]):
    """An entry with missing scores, and the entries behind it as far as the engine reads them.

    `look_up` fills in the cached scores of an entry and returns the requests of the other pairs. The engine receives
    each request once, even if several pairs need its answer. An answer is dropped with the last pair that needs it.
    The engine receives all pairs of several requests before the first answer, so no answer is dropped too early.
    """

    def __init__(
        self,
        family: Family,
        entry: Entry[Item],
        missing: Missing,
        following: Iterator[Entry[Item]],
        look_up: Callable[[Entry[Item]], Missing],
    ) -> None:
        self._shares_documents = family.shares == "document"
        self._following = following
        self._look_up = look_up
        self._entries = deque([entry])
        self._questions: dict[Request, _Question] = {}
        self._shared: dict[Request, None] = {}  # requests that the pairs of a query share
        self._first = self._add(entry, missing)

    def windows(self, size: int) -> Iterator[list[Request]]:
        """Yield windows of whole queries: the first entry, then `GROWTH` times as many requests each time up to `size`.

        If the family shares documents between queries, all entries come at once: a window of what the pairs of a query
        share, without which no pair can be complete, then a window of the rest.
        """
        window = self._first
        wanted = math.inf if self._shares_documents else 0
        cached_pairs = 0
        while True:
            if window and len(window) >= wanted:
                yield window
                wanted = min(GROWTH * len(window), size)
                window = []
            entry = next(self._following, None) if self._shares_documents or cached_pairs < CACHED_RUN else None
            if entry is None:
                break
            self._entries.append(entry)
            if entry.is_cached:
                cached_pairs += len(entry.cached or ())
            else:
                cached_pairs = 0
                window += self._add(entry, self._look_up(entry))
        if self._shares_documents:
            shared = [*self._shared]
            yield from filter(None, (shared, sorted({*window} - {*shared}, key=_longest_document_first)))
        elif window:
            yield window

    def pair_of(self, request: Request) -> WaitingPair:
        """Return the first pair that waits for a request."""
        return self._questions[request].pairs[0]

    def completed(self, batch: Batch) -> Iterator[tuple[WaitingPair, list[Answer]]]:
        """Yield the pairs that a batch completes, with their answers. The caller scores a pair before the next."""
        for request, answer in batch.answers:
            question = self._questions[request]
            question.answer = answer
            for pair in question.pairs:
                answers = [part.answer for part in pair.questions if part.answer is not None]
                if len(answers) == len(pair.questions):
                    yield pair, answers
                    self._drop(pair)

    def finished(self) -> Iterator[Entry[Item]]:
        """Yield the entries at the front that miss no score; the cached ones among them are not looked up yet."""
        while self._entries and not self._entries[0].missing:
            yield self._entries.popleft()

    def _add(self, entry: Entry[Item], missing: Missing) -> list[Request]:
        """Register the pairs of an entry. Return the requests that the engine has not received yet."""
        new = []
        for position, requests in missing.items():
            questions = []
            for request in requests:
                question = self._questions.get(request)
                if question is None:
                    question = self._questions[request] = _Question(request)
                    new.append(request)
                questions.append(question)
            pair = WaitingPair(entry, position, tuple(questions))
            if len(requests) > 1:
                self._shared[requests[0]] = None
            for question in {*questions}:
                question.pairs.append(pair)
                question.waiting += 1
        return new

    def _drop(self, pair: WaitingPair) -> None:
        """Drop the answers that no other pair needs."""
        for question in {*pair.questions}:
            question.waiting -= 1
            if not question.waiting:
                del self._questions[question.request]
                question.pairs = []  # ends the cycle of references


def _longest_document_first(request: Request) -> tuple[int, str, str]:
    return -len(request.document), request.document, repr(request)
