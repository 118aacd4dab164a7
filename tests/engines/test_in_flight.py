"""`in_flight`: several computations at a time, whichever of them finishes first."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.engines.in_flight import in_flight
from lbr_cli.errors import InputError, RunError


@given(st.integers(0, 40), st.integers(1, 8))
def test_every_chunk_is_yielded_once_with_its_result(count: int, limit: int) -> None:
    with ThreadPoolExecutor(limit) as pool:
        finished = list(in_flight(range(count), lambda chunk: pool.submit(pow, chunk, 2), limit))
    assert sorted(itertools.chain.from_iterable(finished)) == [(chunk, chunk**2) for chunk in range(count)]


def done(result: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(result)
    return future


def test_chunks_are_started_in_their_order_up_to_the_limit_and_before_results_are_awaited() -> None:
    started: list[Future[int]] = []

    def start(chunk: int) -> Future[int]:
        started.append(Future())
        if len(started) == 3:  # the limit is reached: two of them finish, the later one first
            started[2].set_result(2)
            started[0].set_result(0)
        elif len(started) > 3:
            for future in started:
                if not future.done():
                    future.set_result(1)
        return started[-1]

    batches = in_flight(range(4), start, 3)
    assert sorted(next(batches)) == [(0, 0), (2, 2)]
    assert len(started) == 3
    assert sorted(itertools.chain.from_iterable(batches)) == [(1, 1), (3, 1)]


def test_the_next_chunk_is_read_only_when_there_is_room_for_it() -> None:
    read: list[int] = []

    def chunks() -> Iterator[int]:
        for number in range(10):
            read.append(number)
            yield number

    batches = in_flight(chunks(), done, 2)
    next(batches)
    assert read == [0, 1]


@pytest.mark.parametrize("early", [False, True], ids=["while computing", "when started"])
def test_after_a_failure_only_chunks_in_flight_are_yielded(early: bool) -> None:
    started: list[int] = []

    def start(chunk: int) -> Future[int]:
        started.append(chunk)
        if chunk != 2:
            return done(chunk)
        if early:
            raise RunError("the server is gone")
        failed: Future[int] = Future()
        failed.set_exception(RunError("the server is gone"))
        return failed

    batches = in_flight(range(50), start, 4)
    found: list[int] = []
    with pytest.raises(RunError, match="the server is gone"):  # noqa: PT012
        for batch in batches:
            found += [chunk for chunk, _ in batch]
    assert sorted([*found, 2]) == started
    assert len(started) == (3 if early else 4)


def test_errors_of_the_input_are_raised_unchanged() -> None:
    def chunks() -> Iterator[int]:
        yield 1
        raise InputError("no JSON", "f", 2)

    with pytest.raises(InputError, match="f:2: no JSON"):
        list(in_flight(chunks(), done, 4))
