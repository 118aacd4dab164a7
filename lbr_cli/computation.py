"""One call of an engine: which pairs wait for which request, and which queries are complete.

An engine receives windows of requests, answers each request once, in any order, and keeps nothing. This module keeps
each answer until all pairs that need it are scored.
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

GROWTH = 4  # ratio of successive window sizes: small at first, so that the first query appears early
MAX_CACHED = 10_000  # successive cached pairs, after which the engine receives no more windows in this call


class Scorable(Protocol):
    """A query and the documents to score for it. `documents` may be built anew each time, to save memory."""

    @property
    def query(self) -> Query: ...

    @property
    def documents(self) -> Sequence[Document]: ...


Item = TypeVar("Item", bound=Scorable)
Missing = Mapping[int, PairRequests]  # position in an entry -> the requests of a pair without a score


@dataclass(slots=True)
class Entry(Generic[Item]):
    """A query and its documents. After the cache lookup, `scores` has one item a document; `missing` of them are None.

    `keys` are the joined cache keys of its pairs, empty if nothing is cached. `cached` is the part of the plan for this
    query: 1 for a cached pair, else 0; None without a plan.
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
class _PendingRequest:
    """A distinct request, its answer, and the pairs that need it; `waiting` counts those that have no score yet."""

    request: Request
    answer: Answer | None = None
    pairs: list[WaitingPair] = field(default_factory=list)
    waiting: int = 0


@dataclass(slots=True, eq=False)
class WaitingPair:
    """The pair at `position` of an entry, which needs the answers to all of `pending`."""

    entry: Entry[Any]
    position: int
    pending: tuple[_PendingRequest, ...]

    @property
    def ids(self) -> tuple[str, str]:
        """Query id and document id."""
        return self.entry.item.query.query_id, self.entry.item.documents[self.position].doc_id

    @property
    def name(self) -> str:
        return pair_name(*self.ids)


class Computation(Generic[Item]):
    """An entry with missing scores, and as many of the following entries as the engine reads.

    `look_up` fills in the cached scores of an entry and returns the requests of the other pairs. The engine receives
    each request once, even if several pairs need its answer. An answer is dropped with the last pair that needs it.
    Pairs with several requests are all registered before the first answer, so no answer is dropped too early.
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
        self._pending: dict[Request, _PendingRequest] = {}
        self._shared: dict[Request, None] = {}  # requests that the pairs of a query share
        self._first = self._add(entry, missing)

    def windows(self, size: int) -> Iterator[list[Request]]:
        """Yield windows of whole queries: the first entry, then `GROWTH` times as many requests each time up to `size`.

        If the family shares documents between queries, two windows have the requests of all entries: first those that
        the pairs of a query share, because every pair needs one, then the others, longest document first.
        """
        window = self._first
        minimum = math.inf if self._shares_documents else 0
        cached_pairs = 0
        while True:
            if window and len(window) >= minimum:
                yield window
                minimum = min(GROWTH * len(window), size)
                window = []
            entry = next(self._following, None) if self._shares_documents or cached_pairs < MAX_CACHED else None
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
        return self._pending[request].pairs[0]

    def completed(self, batch: Batch) -> Iterator[tuple[WaitingPair, list[Answer]]]:
        """Yield the pairs that a batch completes, with their answers. The caller scores each before the next."""
        for request, answer in batch.answers:
            pending = self._pending[request]
            pending.answer = answer
            for pair in pending.pairs:
                answers = [part.answer for part in pair.pending if part.answer is not None]
                if len(answers) == len(pair.pending):
                    yield pair, answers
                    self._drop(pair)

    def finished(self) -> Iterator[Entry[Item]]:
        """Yield the leading entries without a missing score. Those that the plan found cached are not looked up yet."""
        while self._entries and not self._entries[0].missing:
            yield self._entries.popleft()

    def _add(self, entry: Entry[Item], missing: Missing) -> list[Request]:
        """Register the pairs of an entry. Return the requests that the engine has not received yet."""
        new = []
        for position, requests in missing.items():
            needed = []
            for request in requests:
                pending = self._pending.get(request)
                if pending is None:
                    pending = self._pending[request] = _PendingRequest(request)
                    new.append(request)
                needed.append(pending)
            pair = WaitingPair(entry, position, tuple(needed))
            if len(requests) > 1:
                self._shared[requests[0]] = None
            for pending in {*needed}:
                pending.pairs.append(pair)
                pending.waiting += 1
        return new

    def _drop(self, pair: WaitingPair) -> None:
        """Drop the answers that no other pair needs."""
        for pending in {*pair.pending}:
            pending.waiting -= 1
            if not pending.waiting:
                del self._pending[pending.request]
                pending.pairs = []  # ends the cycle of references


def _longest_document_first(request: Request) -> tuple[int, str, str]:
    return -len(request.document), request.document, repr(request)
