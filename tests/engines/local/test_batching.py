"""Batches under a token budget, what happens if memory runs out, and work that is prepared ahead."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Embedding, Request
from lbr_cli.engines.local import batching
from lbr_cli.engines.local.batching import TokenBudget, batches, chunks, prepared_ahead
from lbr_cli.engines.prompts import Prompt
from lbr_cli.errors import ComputeError

SIZES = st.lists(st.integers(1, 50), max_size=40)


def prompts(sizes: Sequence[int]) -> list[Prompt]:
    return [Prompt(Embedding(str(number)), [number] * size, False) for number, size in enumerate(sizes)]


def tokens(batch: Sequence[Prompt], padded: bool) -> int:
    lengths = [len(prompt.ids) for prompt in batch]
    return max(lengths) * len(lengths) if padded else sum(lengths)


@given(SIZES, st.integers(1, 120), st.booleans())
def test_batches_contain_every_input_once_within_the_budget(sizes: list[int], budget: int, padded: bool) -> None:
    inputs = prompts(sizes)
    planned = list(batches(inputs, sizes, TokenBudget(budget), len, padded=padded))
    assert [one for batch, _ in planned for one in batch] == inputs
    assert [result for _, result in planned] == [len(batch) for batch, _ in planned]
    for batch, _ in planned:
        assert len(batch) == 1 or tokens(batch, padded) <= budget
    for (batch, _), (following, _) in itertools.pairwise(planned):
        assert tokens([*batch, following[0]], padded) > budget


@given(SIZES, st.integers(1, 1000), st.integers(50, 400), st.booleans())
def test_after_out_of_memory_each_input_is_yielded_once(
    sizes: list[int], first: int, memory: int, padded: bool
) -> None:
    budget = TokenBudget(first)

    def compute(batch: list[Prompt]) -> None:
        if tokens(batch, padded) > memory:
            raise torch.OutOfMemoryError

    inputs = prompts(sizes)
    done = [one for batch, _ in batches(inputs, sizes, budget, compute, padded=padded) for one in batch]
    assert done == inputs
    assert budget.tokens <= first


def test_the_error_of_a_batch_has_the_request_of_its_first_input() -> None:
    def compute(batch: list[Prompt]) -> None:
        if Embedding("2") in [one.request for one in batch]:
            raise ValueError("odd\nand more")

    inputs = prompts([1] * 4)
    planned = batches(inputs, [1] * 4, TokenBudget(2), compute, padded=False)
    assert next(planned) == (inputs[:2], None)
    with pytest.raises(ComputeError, match=r"^the model failed on it or on the 1 computed with it: odd$") as caught:
        next(planned)
    assert caught.value.request == Embedding("2")


@given(st.lists(st.lists(st.integers(0, 30), max_size=8), max_size=5), st.integers(1, 6))
def test_chunks_contain_the_requests_of_one_window_in_order(windows: list[list[int]], size: int) -> None:
    requests: list[list[Request]] = [[Embedding("x" * length) for length in window] for window in windows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "CHUNK_CHARACTERS", 40)
        cut = list(chunks(requests, size))
    assert [one for chunk in cut for one in chunk] == [one for window in requests for one in window]
    for chunk in cut:
        assert 0 < len(chunk) <= size
        assert len(chunk) == 1 or sum(len(one.document) for one in chunk) <= 40
    assert len(cut) >= sum(bool(window) for window in windows)


def test_the_next_item_is_prepared_while_one_is_used() -> None:
    prepared = [threading.Event() for _ in range(3)]

    def prepare(number: int) -> threading.Event:
        assert threading.current_thread() is not threading.main_thread()
        prepared[number].set()
        return prepared[number]

    for number, event in enumerate(prepared_ahead(range(3), prepare)):
        assert event is prepared[number]
        if number < 2:
            assert prepared[number + 1].wait(5)
    assert list(prepared_ahead([], prepare)) == []


def test_an_error_while_preparing_an_item_is_raised_at_that_item() -> None:
    items = prepared_ahead([1, 0], lambda number: 1 // number)
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)
