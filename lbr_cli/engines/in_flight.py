"""Several computations at a time, for engines that compute elsewhere: servers and clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

from lbr_cli.errors import LbrError

C = TypeVar("C")
R = TypeVar("R")


def in_flight(chunks: Iterable[C], start: Callable[[C], Future[R]], limit: int) -> Iterator[list[tuple[C, R]]]:
    """Keep up to `limit` chunks in flight; yield those that have finished, with their results.

    Chunks are started in their order and yielded as they finish. After the first LbrError of a chunk no more are
    started; those in flight are still yielded, and then the error is raised.
    """
    coming = iter(chunks)
    working: dict[Future[R], C] = {}
    done: SimpleQueue[Future[R]] = SimpleQueue()  # cheaper than `concurrent.futures.wait` on many futures
    failure: LbrError | None = None
    while True:
        while not failure and len(working) < limit and (chunk := next(coming, None)) is not None:
            try:
                future = start(chunk)
            except LbrError as error:
                failure = error
            else:
                working[future] = chunk
                future.add_done_callback(done.put)
        if not working:
            break
        finished = []
        ready = [done.get(), *(done.get() for _ in range(done.qsize()))]
        for future in ready:
            chunk = working.pop(future)
            try:
                finished.append((chunk, future.result()))
            except LbrError as error:
                failure = failure or error
        if finished:
            yield finished
    if failure:
        raise failure
