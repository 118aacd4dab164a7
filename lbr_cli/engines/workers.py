"""Several copies of one engine, each in its own process: requests are cut into chunks, which the processes share.

The processes are those of Ray (`ray/`) or one for each device of this machine (`local/processes.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from lbr_cli.core import Answer, Batch, Embedding, Engine, Request, TokenEmbeddings
from lbr_cli.engines.in_flight import in_flight
from lbr_cli.engines.prompts import distinct_prompts, prefix_keys
from lbr_cli.errors import RequestError

CHUNK_SIZE = 64  # requests that a worker receives at once
QUEUED = 2  # chunks of each worker: one in computation, one that waits
CHECK_SIZE = 4096  # requests that a worker checks at once

Chunk = Sequence[Request]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a chunk: the answers, up to the first request that could not be answered."""

    answers: list[tuple[Request, Answer]]
    tokens: int
    failure: RequestError | None


def answer_chunk(engine: Engine, chunk: Chunk) -> Outcome:
    """Return the answers of an engine to a chunk. A request that cannot be answered ends the chunk, not the worker."""
    answers: list[tuple[Request, Answer]] = []
    tokens = 0
    try:
        for batch in engine.answer([chunk]):
            answers += batch.answers
            tokens += batch.tokens
    except RequestError as error:
        return Outcome(answers, tokens, error)
    return Outcome(answers, tokens, None)


class Worker(Protocol):
    """An engine in another process."""

    def check(self, requests: Chunk) -> None:
        """Raise RequestError for a request that cannot be answered."""

    def answer(self, chunk: Chunk) -> Future[Outcome]:
        """Start to answer a chunk. The future raises LbrError if the worker is lost."""


class WorkerEngine:
    """Answers all requests that its workers answer."""

    def __init__(self, workers: Sequence[Worker], description: str) -> None:
        self.description = description
        self.window = CHUNK_SIZE * QUEUED * len(workers)
        self._workers = workers

    def check(self, requests: Iterable[Request]) -> None:
        """Let a worker, which has the tokenizer, check one request of each kind, without its document."""
        unchecked = (Embedding, TokenEmbeddings)  # any text can be encoded
        distinct = (request for request in distinct_prompts(requests) if not isinstance(request, unchecked))
        for first in distinct:
            chunk = [first, *islice(distinct, CHECK_SIZE - 1)]
            by_kind: dict[Request, Request] = {replace(request, document=""): request for request in chunk}
            try:
                self._workers[0].check(list(by_kind))
            except RequestError as error:
                raise type(error)(str(error), by_kind[error.request], hint=error.hint) from error

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Send each chunk to the worker with the fewest chunks, and yield its batch. After a failure, send no more."""
        failure: RequestError | None = None

        def chunks() -> Iterator[Chunk]:
            for window in windows:
                for chunk in cut(window, CHUNK_SIZE):
                    if failure:
                        return
                    yield chunk

        busy: list[set[Future[Outcome]]] = [set() for _ in self._workers]

        def start(chunk: Chunk) -> Future[Outcome]:
            for futures in busy:
                futures.difference_update([future for future in futures if future.done()])
            worker, futures = min(zip(self._workers, busy, strict=True), key=lambda pair: len(pair[1]))
            future = worker.answer(chunk)
            futures.add(future)
            return future

        for finished in in_flight(chunks(), start, QUEUED * len(self._workers)):
            for _, outcome in finished:
                failure = failure or outcome.failure
                yield Batch(outcome.answers, outcome.tokens)
        if failure:
            raise failure


def cut(requests: Sequence[Request], size: int) -> Iterator[Chunk]:
    """Cut requests into chunks of at most `size`; a chunk ends at a change of prefix if its second half has one."""
    keys = prefix_keys(requests)
    start = 0
    while start < len(requests):
        end = min(start + size, len(requests))
        if end < len(requests):
            ends = range(end, start + (size + 1) // 2 - 1, -1)
            end = next((index for index in ends if keys[index] != keys[index - 1]), end)
        yield requests[start:end]
        start = end
