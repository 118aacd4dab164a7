"""What is computed together, under a budget of tokens that gives way when memory runs out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from lbr_cli.errors import ComputeError

T = TypeVar("T")
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(slots=True)
class Budget:
    """How many tokens may be computed at once. Only ever gets smaller."""

    tokens: int


def in_batches(
    order: Sequence[int], sizes: Sequence[int], budget: Budget, compute: Callable[[list[int]], T], *, to_longest: bool
) -> Iterator[tuple[list[int], T]]:
    """Cut `order`, places in `sizes`, into batches that keep within the budget; yield each with what `compute` says.

    A batch takes as many tokens as its texts have together or, `to_longest`, as if all were as long as its longest; one
    that holds a single text may exceed the budget. When memory runs out, the budget becomes half of what the batch
    took, for good, and the batch is cut again. Raises ComputeError with the place of a text that does not fit into
    memory alone, and with the first place of a batch that fails otherwise.
    """
    waiting = deque(order)
    while waiting:
        batch = [waiting.popleft()]
        longest = total = sizes[batch[0]]
        while waiting:
            size = sizes[waiting[0]]
            more = max(longest, size) * (len(batch) + 1) if to_longest else total + size
            if more > budget.tokens:
                break
            longest, total = max(longest, size), more
            batch.append(waiting.popleft())
        try:
            answer = compute(batch)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            if not _is_about_memory(error):
                raise ComputeError(_failed(batch, error), batch[0]) from error
            if len(batch) == 1:
                raise ComputeError(f"{total} tokens do not fit into memory, even alone", batch[0]) from error
            budget.tokens = max(1, total // 2)
            waiting.extendleft(reversed(batch))
            continue
        yield batch, answer


def longest_first(sizes: Sequence[int]) -> list[int]:
    """The places of `sizes`, so that neighbours are of similar length and the largest batch comes first."""
    return sorted(range(len(sizes)), key=lambda place: -sizes[place])


def padded(rows: Sequence[list[int]], device: torch.device, fill: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows -> [rows, longest], filled up on the right, and the mask that says which are the rows' own."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made in a thread while the one before is used."""
    with ThreadPoolExecutor(1) as maker:
        end = object()
        coming = maker.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = maker.submit(next, items, end)
            yield item  # type: ignore[misc]


def _is_about_memory(error: Exception) -> bool:
    """CUDA and MPS have an error of their own for it, a CPU's allocator a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in NO_MEMORY)


def _failed(batch: list[int], error: Exception) -> str:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"the model failed on it{f' or on the {len(batch) - 1} computed with it' if batch[1:] else ''}: {reason}"
