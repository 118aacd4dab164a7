"""How work is cut into batches, and what becomes of it when memory runs out."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.engines.local.plan import Budget, ahead, in_batches
from lbr_cli.errors import ComputeError

SIZES = st.lists(st.integers(1, 50), max_size=40)


def taken(batch: list[int], sizes: list[int], padded: bool) -> int:
    lengths = [sizes[place] for place in batch]
    return max(lengths) * len(lengths) if padded else sum(lengths)


@given(SIZES, st.integers(1, 120), st.booleans())
def test_batches_hold_every_place_once_in_order_and_keep_to_the_budget(
    sizes: list[int], tokens: int, padded: bool
) -> None:
    order = list(range(len(sizes)))[::-1]
    planned = list(in_batches(order, sizes, Budget(tokens), sum, to_longest=padded))
    assert [place for batch, _ in planned for place in batch] == order
    assert [answer for _, answer in planned] == [sum(batch) for batch, _ in planned]
    for batch, _ in planned:
        assert len(batch) == 1 or taken(batch, sizes, padded) <= tokens
    for (batch, _), (following, _) in itertools.pairwise(planned):
        assert taken([*batch, following[0]], sizes, padded) > tokens


@given(SIZES, st.integers(1, 1000), st.integers(50, 400), st.booleans())
def test_out_of_memory_loses_and_repeats_nothing(sizes: list[int], tokens: int, memory: int, padded: bool) -> None:
    budget = Budget(tokens)

    def compute(batch: list[int]) -> None:
        if taken(batch, sizes, padded) > memory:
            raise torch.OutOfMemoryError

    done = [
        place
        for batch, _ in in_batches(range(len(sizes)), sizes, budget, compute, to_longest=padded)
        for place in batch
    ]
    assert done == list(range(len(sizes)))
    assert budget.tokens <= tokens


def test_what_fails_is_named_by_its_place() -> None:
    def compute(batch: list[int]) -> None:
        if 2 in batch:
            raise ValueError("odd\nand more")

    batches = in_batches([0, 1, 2, 3], [1] * 4, Budget(2), compute, to_longest=False)
    assert next(batches) == ([0, 1], None)
    with pytest.raises(ComputeError, match=r"^the model failed on it or on the 1 computed with it: odd$") as caught:
        next(batches)
    assert caught.value.place == 2


def test_ahead_makes_one_item_while_the_one_before_is_used() -> None:
    made = [threading.Event() for _ in range(3)]

    def make() -> Iterator[object]:
        for event in made:
            event.set()
            yield event

    for place, _ in enumerate(ahead(make())):
        if place < 2:
            assert made[place + 1].wait(5)
    assert list(ahead(iter([]))) == []


def test_ahead_passes_errors_on() -> None:
    def make() -> Iterator[object]:
        yield 1
        raise KeyError("two")

    items = ahead(make())
    assert next(items) == 1
    with pytest.raises(KeyError, match="two"):
        next(items)
