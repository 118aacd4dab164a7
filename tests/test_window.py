"""What engines that work ahead do with the requests of a job, whoever computes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ALL_COMPLETED, Future
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import answered
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Answer, Embedding, Pair, Request
from lbr_cli.engines import window
from lbr_cli.engines.window import Chunk, Window
from lbr_cli.errors import ComputeError, RequestError, RunError


def value(request: Request) -> float:
    return float(sum(map(ord, repr(request))))


class Slow:
    """Computes chunks in an order of its own choosing: the last that was started is done first, or as `order` says."""

    def __init__(self, size: int, flight: int, order: Sequence[int] = (), failing: frozenset[Request] = frozenset()):
        self.chunks: list[Chunk] = []
        self.most = 0
        self.failing = failing
        self._order = iter(order)
        self._waiting: list[tuple[Future[Sequence[Answer]], Chunk]] = []
        self.window = Window(self._start, size, flight)

    def _start(self, chunk: Chunk) -> Future[Sequence[Answer]]:
        future: Future[Sequence[Answer]] = Future()
        self.chunks.append(chunk)
        self._waiting.append((future, chunk))
        self.most = max(self.most, len(self._waiting))
        return future

    def finish(self, at_work: Any, return_when: str = ALL_COMPLETED) -> Any:
        """In the place of `concurrent.futures.wait`."""
        for _ in range(len(self._waiting) if return_when == ALL_COMPLETED else 1):
            self._finish_one()
        return SimpleNamespace(done={future for future in at_work if future.done()})

    def _finish_one(self) -> None:
        future, chunk = self._waiting.pop(next(self._order, -1) % len(self._waiting))
        failed = next((place for place, request in enumerate(chunk) if request in self.failing), None)
        if failed is None:
            future.set_result([Answer((value(request),), tokens=1) for request in chunk])
        else:
            future.set_exception(ComputeError("it failed", failed))


def rankings(sizes: Sequence[int]) -> list[list[Request]]:
    return [[Pair(f"q{query}", f"d{document}") for document in range(size)] for query, size in enumerate(sizes)]


def ask(slow: Slow, asked: Sequence[Request]) -> list[float]:
    return [answer.values[0] for answer in answered(slow.window, asked)]  # type: ignore[arg-type]


SIZES = st.lists(st.integers(0, 9), max_size=8)
ORDER = st.lists(st.integers(0, 7), max_size=40)


@given(SIZES, st.integers(1, 7), st.integers(1, 5), ORDER, st.booleans())
def test_each_request_is_answered_once_in_whatever_order_chunks_are_done(
    sizes: list[int], size: int, flight: int, order: list[int], announced: bool
) -> None:
    asked = rankings(sizes)
    slow = Slow(size, flight, order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "wait", slow.finish)
        flat = [request for ranking in asked for request in ranking]
        if announced:
            assert slow.window.expect(flat, document_first=False) == len(flat)
        for ranking in asked:
            if ranking:
                assert ask(slow, ranking) == [value(request) for request in ranking]
    assert sorted(map(repr, (request for chunk in slow.chunks for request in chunk))) == sorted(map(repr, flat))
    assert slow.most <= flight
    assert all(len(chunk) <= size for chunk in slow.chunks)


@given(SIZES, st.integers(1, 7), ORDER, ORDER)
def test_chunks_hang_on_what_is_asked_and_never_on_who_is_quick(
    sizes: list[int], size: int, one: list[int], other: list[int]
) -> None:
    made = []
    for order, flight in ((one, 1), (other, 4)):
        slow = Slow(size, flight, order)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(window, "wait", slow.finish)
            slow.window.expect([request for ranking in rankings(sizes) for request in ranking], document_first=False)
            for ranking in rankings(sizes):
                if ranking:
                    ask(slow, ranking)
        made.append(set(slow.chunks))
    assert made[0] == made[1]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=30), st.integers(1, 5), ORDER)
def test_what_several_queries_share_is_computed_once(pairs: list[tuple[int, int]], size: int, order: list[int]) -> None:
    pairs.sort()
    requests = [Embedding(text) for query, text in pairs for text in (f"q{query}", "d" * text)]
    slow = Slow(size, 2, order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "wait", slow.finish)
        assert slow.window.expect(requests, document_first=False) == len(set(requests))
        for query in range(4):
            asked = list(dict.fromkeys(Embedding("d" * text) for number, text in pairs if number == query))
            if asked:
                assert ask(slow, [Embedding(f"q{query}"), *asked]) == [
                    value(request) for request in (Embedding(f"q{query}"), *asked)
                ]
    assert sorted(len(chunk) for chunk in slow.chunks) == sorted(len(set(chunk)) for chunk in slow.chunks)
    flat = [request for chunk in slow.chunks for request in chunk]
    assert len(flat) == len(set(flat))


def test_a_request_that_fails_ahead_fails_when_it_is_asked_and_the_rest_of_its_chunk_goes_on() -> None:
    first, second = rankings([3, 3])
    slow = Slow(6, 3, failing=frozenset([second[1]]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "wait", slow.finish)
        slow.window.expect([*first, *second], document_first=False)
        assert ask(slow, first) == [value(request) for request in first]
        with pytest.raises(RequestError) as error:
            ask(slow, second)
    assert error.value.place == 1


def test_what_is_finished_is_told_before_a_failure_is() -> None:
    first = rankings([4])[0]
    futures: list[Future[Sequence[Answer]]] = []

    def start(chunk: Chunk) -> Future[Sequence[Answer]]:
        future: Future[Sequence[Answer]] = Future()
        if chunk[0] == first[1]:
            future.set_exception(RunError("the server is gone"))
        else:
            future.set_result([Answer((value(chunk[0]),))])
        futures.append(future)
        return future

    made = Window(start, 1, 4)
    told: list[Request] = []

    def hear() -> None:
        for batch in made.answer(first):
            told.extend(request for request, _ in batch)

    with pytest.raises(RunError, match="the server is gone"):
        hear()
    assert set(told) == set(first) - {first[1]}


@given(st.integers(1, 4), st.integers(1, 4))
def test_nothing_is_held_that_was_found_elsewhere_before_it_was_asked(size: int, flight: int) -> None:
    """As a cache does: what is told ahead is kept there and not asked again."""
    asked = rankings([5] * 40)
    slow = Slow(size, flight)
    known: set[Request] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "wait", slow.finish)
        patch.setattr(slow.window, "_reach", 20)
        slow.window.expect([request for ranking in asked for request in ranking], document_first=False)
        for ranking in asked:
            rest = [request for request in ranking if request not in known]
            if rest:
                for batch in slow.window.answer(rest):
                    known.update(request for request, _ in batch)
            assert known >= set(ranking)
            assert len(slow.window._held) <= 20 + size * flight
    assert sum(map(len, slow.chunks)) == 200


def test_a_query_longer_than_the_reach_is_computed_once() -> None:
    asked = rankings([50] * 6)
    slow = Slow(4, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "wait", slow.finish)
        patch.setattr(slow.window, "_reach", 20)
        slow.window.expect([request for ranking in asked for request in ranking], document_first=False)
        for ranking in asked:
            assert ask(slow, ranking) == [value(request) for request in ranking]
    assert sum(map(len, slow.chunks)) == 300


def test_a_request_that_nobody_announced_ends_no_search_at_the_end_of_the_job() -> None:
    asked = rankings([1] * 5000)
    slow = Slow(1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window, "wait", slow.finish)
        slow.window.expect([request for ranking in asked for request in ranking], document_first=False)
        stranger = Pair("who", "is this")
        assert ask(slow, [stranger]) == [value(stranger)]
    assert len(slow.chunks) <= window.REACH + 2
