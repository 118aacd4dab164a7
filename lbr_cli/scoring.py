"""Score query-document pairs: look up the cache, compute the other pairs with the engine, store them batch by batch."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from lbr_cli.cache.scores import KEY_BYTES, PairRequests, ScoreCache
from lbr_cli.computation import Computation, Entry, Item, Missing, WaitingPair
from lbr_cli.core import Answer, Batch, Document, Engine, Family, NextToken, Progress, Query, Score
from lbr_cli.errors import InputError, RequestError, RunError, UsageError

Pairs = Callable[[], Iterable[tuple[Query, Document]]]  # the same pairs at each call
LOOKUP_SIZE = 1000  # pairs that are looked up in the cache at once
# shared by all scores without further details, which saves memory
TRUNCATED: Mapping[bool, Mapping[str, Any]] = {truncated: {"truncated": truncated} for truncated in (False, True)}


@dataclass(frozen=True, slots=True)
class QueryDocuments:
    """A query and the documents to score for it."""

    query: Query
    documents: Sequence[Document]


@dataclass(slots=True)
class Counts:
    """The totals of a job. `tokens` counts those that the model read.

    `candidates` counts those with a score, which comes from one of the `pairs` or, for passages, from several.
    `written` counts the candidates of the output, and `empty` the queries without one.
    """

    queries: int = 0
    empty: int = 0
    written: int = 0
    candidates: int = 0
    pairs: int = 0
    cached: int = 0
    truncated: int = 0
    tokens: int = 0
    warnings: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Plan:
    """Which pairs of a job are cached: `cached` has 1 for a cached pair, else 0, in the order of the job.

    `keys` are the joined cache keys of all pairs, `KEY_BYTES` each; empty if no scores are stored.
    """

    cached: bytes
    keys: bytes | bytearray = b""

    @property
    def pairs(self) -> int:
        return len(self.cached)

    @property
    def hits(self) -> int:
        return self.cached.count(1)

    @property
    def missing(self) -> int:
        return self.cached.count(0)


class Scorer:
    """Scores pairs with one family on one engine.

    `load` returns the engine. It is called once, with the number of pairs to compute (0 if unknown), when the first
    pair is not in `scores`.
    """

    def __init__(
        self, family: Family, load: Callable[[int], Engine], progress: Progress, scores: ScoreCache | None = None
    ) -> None:
        self.family = family
        self.progress = progress
        self.scores = scores or ScoreCache()
        self.counts = Counts()
        self._load = load
        self._engine: Engine | None = None

    @property
    def description(self) -> str:
        """Where and how the engine computes."""
        return self._engine.description if self._engine else "nothing computed"

    def plan(self, pairs: Pairs) -> Plan:
        """Look up the pairs of a job and check those without a score."""
        plan = look_up(pairs(), self.family, self.scores)
        self.check(plan, pairs)
        return plan

    def check(self, plan: Plan, pairs: Pairs) -> None:
        """Check all pairs without a score before any is computed. The engine is loaded only if a score is missing.

        Raises RequestError, with the ids of the pair, for one that cannot be scored.
        """
        if not plan.missing:
            return
        with naming_pair(self.family, pairs()):
            self._loaded(plan.missing).check(
                request
                for is_cached, pair in zip(plan.cached, pairs(), strict=True)
                if not is_cached
                for request in requests_of(self.family, *pair)
            )

    def score(self, items: Iterable[Item], plan: Plan | None = None) -> Iterator[tuple[Item, list[Score]]]:
        """Yield each query with the scores of its documents, in the order of the input, as soon as it is complete.

        With a `plan` of the same pairs, the engine receives many queries at once. Without one, each query is scored
        before the next is read, as a stream needs. The text of each query must be known.

        Raises RequestError for a pair that cannot be scored, RunError for a score that is not finite, and UsageError
        if a label has no log-probability; all with the ids of the pair. The detail `truncated` of a score is True if
        the document was truncated.
        """
        entries = _entries(items, plan)
        for entry in entries:
            yield from self._scores(entry, entries if plan else iter(()))

    def score_query(self, query: Query, documents: Sequence[Document]) -> list[Score]:
        """Return the scores of one query's documents."""
        ((_, scores),) = self.score([QueryDocuments(query, documents)])
        return scores

    def _loaded(self, pairs: int) -> Engine:
        if self._engine is None:
            self._engine = self._load(pairs)
        return self._engine

    def _scores(self, entry: Entry[Item], following: Iterator[Entry[Item]]) -> Iterator[tuple[Item, list[Score]]]:
        """Yield an entry with its scores, and the following entries that the same call of the engine completes."""
        missing = self._look_up(entry)
        if not missing:
            yield self._result(entry)
            return
        computation = Computation(self.family, entry, missing, following, self._look_up)
        for batch in self._batches(computation):
            self._score_batch(computation, batch)
            yield from self._finished(computation)
        yield from self._finished(computation)

    def _batches(self, computation: Computation[Item]) -> Iterator[Batch]:
        """Yield the answers of the engine, batch by batch. Add the ids of the pair to a RequestError."""
        engine = self._loaded(0)
        try:
            yield from engine.answer(computation.windows(engine.window))
        except RequestError as error:
            raise error.of_pair(*computation.pair_of(error.request).ids) from error

    def _look_up(self, entry: Entry[Item]) -> Missing:
        """Fill in the cached scores of an entry. Return the requests of its other pairs."""
        query, documents = entry.item.query, entry.item.documents
        if self.scores.enabled and not entry.keys:
            entry.keys = b"".join(self.scores.key(requests_of(self.family, query, document)) for document in documents)
        entry.is_looked_up = True
        entry.scores = self.scores.get([entry.key(position) for position in range(len(documents))])
        hits = [score is not None for score in entry.scores]
        # scores that entered the cache after the plan were computed by this job
        cached = sum(hits) if entry.cached is None else sum(map(min, hits, entry.cached))
        self.counts.cached += cached
        if any(hits):
            self.progress.advance(pairs=sum(hits), cached=cached)
        family, text = instructed(self.family, query), query.text or ""
        missing = {
            position: family.requests(text, documents[position]) for position, is_hit in enumerate(hits) if not is_hit
        }
        entry.missing = len(missing)
        return missing

    def _score_batch(self, computation: Computation[Item], batch: Batch) -> None:
        """Compute and store the scores that a batch completes. If a pair fails, those before it are stored."""
        stored: dict[bytes, Score] = {}
        done = 0
        try:
            for pair, answers in computation.completed(batch):
                entry = pair.entry
                entry.scores[pair.position] = score = self._score(answers, pair)
                if self.scores.enabled:
                    stored[entry.key(pair.position)] = score
                entry.missing -= 1
                done += 1
        finally:
            self.scores.put(stored)
        self.counts.tokens += batch.tokens
        self.progress.advance(pairs=done, tokens=batch.tokens)

    def _finished(self, computation: Computation[Item]) -> Iterator[tuple[Item, list[Score]]]:
        """Yield the leading entries that are complete; cached ones are looked up now."""
        for entry in computation.finished():
            if entry.is_looked_up:
                yield self._result(entry)
            else:
                yield from self._scores(entry, iter(()))

    def _result(self, entry: Entry[Item]) -> tuple[Item, list[Score]]:
        """Add a complete entry to the counts, and return it with its scores."""
        scores = [score for score in entry.scores if score is not None]
        self.counts.pairs += len(scores)
        for score in scores:
            self.counts.truncated += score.details["truncated"]
            if score.warning:
                self.counts.warnings[score.warning] += 1
        return entry.item, scores

    def _score(self, answers: Sequence[Answer], pair: WaitingPair) -> Score:
        """Return the family's score, with `truncated` among its details."""
        score = self.family.score(answers)
        if not math.isfinite(score.value):
            if self.family.request_type is NextToken and any(-math.inf in answer.values for answer in answers):
                raise UsageError(f"{pair.name}: the server did not return a log-probability for every label")
            raise RunError(f"{pair.name}: the score is {score.value}")
        truncated = TRUNCATED[any(answer.truncated for answer in answers)]
        return Score(score.value, {**score.details, **truncated} if score.details else truncated, score.warning)


def look_up(pairs: Iterable[tuple[Query, Document]], family: Family, scores: ScoreCache) -> Plan:
    """Return the plan of a job. InputError for an instruction that the family does not take."""
    if not scores.enabled:
        count, checked = 0, None
        for query, _ in pairs:
            if query is not checked:
                instructed(family, query)
                checked = query
            count += 1
        return Plan(bytes(count))
    cached, joined = bytearray(), bytearray()
    remaining = iter(pairs)
    while chunk := [scores.key(requests_of(family, *pair)) for pair in itertools.islice(remaining, LOOKUP_SIZE)]:
        cached += bytes(scores.contains(chunk))
        joined += b"".join(chunk)
    return Plan(bytes(cached), joined)  # without a copy, which would double the memory


def requests_of(family: Family, query: Query, document: Document) -> PairRequests:
    """Return the requests of a pair. InputError for an instruction that the family does not take."""
    return instructed(family, query).requests(query.text or "", document)


@contextmanager
def naming_pair(family: Family, pairs: Iterable[tuple[Query, Document]]) -> Iterator[None]:
    """Add the ids of the pair to a RequestError in this block; its request is that of one of the pairs."""
    try:
        yield
    except RequestError as error:
        query, document = next(pair for pair in pairs if error.request in requests_of(family, *pair))
        raise error.of_pair(query.query_id, document.doc_id) from error


def instructed(family: Family, query: Query) -> Family:
    """Return the family with the instruction of a query, if it has one. InputError if the family takes none."""
    if query.instruction is None:
        return family
    if "instruction" not in family.__dataclass_fields__:
        message = f"query {query.query_id} has an instruction, and models of the family {family.name} take none"
        hint = "remove the key, for example with: jq -c 'del(.instruction)'"
        raise InputError(message, query.instruction_at, hint=hint)
    return replace(family, **{"instruction": query.instruction})


def _entries(items: Iterable[Item], plan: Plan | None) -> Iterator[Entry[Item]]:
    start = 0
    for item in items:
        if plan is None:
            yield Entry(item, b"", None)
            continue
        end = start + len(item.documents)
        if end > plan.pairs:
            raise ValueError("the pairs are not those of the plan")
        yield Entry(item, bytes(plan.keys[start * KEY_BYTES : end * KEY_BYTES]), plan.cached[start:end])
        start = end
