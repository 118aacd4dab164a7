"""Requests of a job -> chunks in a fixed sequence, a few of them at work at any time, ahead of the query that is asked.

For engines that are best kept busy beyond the end of a query: a server, a cluster, vLLM. What is computed together is
fixed by what was announced and never by who is quick, so the same job gives the same chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait

from lbr_cli.core import Answer, Answered, Embedding, Request
from lbr_cli.engines.announced import around, document
from lbr_cli.errors import LbrError, RequestError

Chunk = tuple[Request, ...]
Compute = Callable[[Chunk], "Future[Sequence[Answer]]"]

REACH = 1024  # requests that may be computed before they are asked, or as many as are at work if that is more


class Window:
    """Answers requests chunk by chunk. `compute` starts a chunk of about `size` requests, `flight` are at work at most.

    Chunks follow the order in which requests are announced and asked, and end where a query ends if that is near. Where
    order cannot help, because documents stand before queries or answers are shared between queries, the sequence goes
    by documents, and its answers are kept as long as the job lasts.
    """

    def __init__(self, compute: Compute, size: int, flight: int) -> None:
        self._compute = compute
        self._size = size
        self._flight = flight
        self._reach = max(REACH, size * flight)
        self._coming: Iterator[Chunk] = iter(())
        self._expected: set[Request] | None = None  # all that is to come, where the sequence goes by documents
        self._started = 0  # chunks
        self._pulled = 0  # requests that were started since the last question, and not asked by it
        self._at_work: dict[Future[Sequence[Answer]], tuple[int, Chunk]] = {}
        self._pending: dict[Request, int] = {}  # the number of the chunk
        self._held: dict[Request, tuple[int, Answer | RequestError]] = {}

    def expect(self, requests: Iterable[Request], *, document_first: bool) -> int:
        """Fix the sequence of chunks; tells how many requests are going to be computed."""
        first = next(iter(requests), None)
        if document_first or isinstance(first, Embedding):
            distinct = sorted(set(requests), key=_by_document)
            self._expected = set(distinct)
            self._coming = self._cut(distinct)
            return len(distinct)
        self._expected = None
        self._coming = self._cut(requests)
        return sum(1 for _ in requests)

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        """Yield what each chunk gave until all of `requests` are answered; see `Engine.answer`."""
        wanted = {request: place for place, request in reversed(list(enumerate(requests)))}
        self._forget(wanted)
        known: list[tuple[Request, Answer]] = []
        failure: RequestError | None = None
        for request in wanted:
            if request in self._held:
                _, outcome = self._held[request]
                if isinstance(outcome, RequestError):
                    failure = failure or outcome.at(wanted[request])
                else:
                    known.append((request, outcome))
        for request, _ in known:
            del wanted[request]
            if self._expected is None:
                del self._held[request]
        if known:
            yield known
        if failure:
            yield from self._finished(wanted, failure)
        self._pulled = 0
        while wanted:
            self._fill(wanted)
            yield from self._finished(wanted)

    def _fill(self, wanted: Iterable[Request]) -> None:
        """Start as much as may be at work: what is wanted, then what comes after it."""
        absent = {request: None for request in wanted if request not in self._pending}
        while len(self._at_work) < self._flight:
            chunk = next(self._coming, None) if self._comes(absent) else None
            if chunk is None:  # nobody announced it
                chunk = tuple(absent)[: self._size]
            if not chunk:
                return
            self._start(chunk)
            self._pulled += sum(request not in absent for request in chunk)
            for request in chunk:
                absent.pop(request, None)

    def _comes(self, absent: dict[Request, None]) -> bool:
        """Whether the next chunk of the sequence is the one to start."""
        if self._expected is not None:
            return not absent or any(request in self._expected for request in absent)
        return self._pulled <= self._reach if absent else len(self._pending) + len(self._held) < self._reach

    def _finished(self, wanted: dict[Request, int], failure: LbrError | None = None) -> Iterator[Answered]:
        """What the chunks gave that are done. After a failure, what is at work is waited for before that is raised."""
        done = wait(self._at_work, return_when=ALL_COMPLETED if failure else FIRST_COMPLETED).done
        while done:
            for future in sorted(done, key=lambda future: self._at_work[future][0]):
                try:
                    yield self._settle(future, wanted)
                except LbrError as error:
                    failure = failure or error
            done = wait(self._at_work).done if failure else set()
        if failure:
            raise failure

    def _settle(self, future: Future[Sequence[Answer]], wanted: dict[Request, int]) -> Answered:
        """What a chunk gave. A request that cannot be answered fails when it is asked, and the rest of it goes on."""
        number, chunk = self._at_work.pop(future)
        for request in chunk:
            self._pending.pop(request, None)
        try:
            answers = future.result()
        except RequestError as error:
            failed = chunk[error.place]
            self._held[failed] = (number, error)
            rest = tuple(request for request in chunk if request != failed)
            if rest:
                self._start(rest)
            if failed in wanted:
                raise error.at(wanted[failed]) from error
            return []
        given = list(zip(chunk, answers, strict=True))
        for request, answer in given:
            if wanted.pop(request, None) is None or self._expected is not None:
                self._held[request] = (number, Answer(answer.values, answer.truncated, 0, 0))
        return given

    def _start(self, chunk: Chunk) -> None:
        self._pending.update(dict.fromkeys(chunk, self._started))
        self._at_work[self._compute(chunk)] = (self._started, chunk)
        self._started += 1

    def _forget(self, wanted: dict[Request, int]) -> None:
        """Drop what was computed ahead and is not going to be asked: it was found in a cache before."""
        if self._expected is not None:
            return
        numbers = [self._held[request][0] for request in wanted if request in self._held]
        numbers += [self._pending[request] for request in wanted if request in self._pending]
        oldest = min(numbers, default=self._started)
        self._held = {request: held for request, held in self._held.items() if held[0] >= oldest}

    def _cut(self, requests: Iterable[Request]) -> Iterator[Chunk]:
        chunk: dict[Request, None] = {}
        kind = None
        for request in requests:
            new_kind = document(request) if self._expected is not None else around(request)
            if len(chunk) >= self._size or (new_kind != kind and len(chunk) >= (self._size + 1) // 2):
                yield tuple(chunk)
                chunk.clear()
            chunk[request] = None
            kind = new_kind
        if chunk:
            yield tuple(chunk)


def _by_document(request: Request) -> tuple[int, str, str]:
    text = document(request)
    return len(text), text, repr(request)
