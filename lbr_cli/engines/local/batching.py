"""Batches under a token budget, which shrinks when memory runs out, and work that a thread prepares ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch

from lbr_cli.core import Request
from lbr_cli.engines.local.loading import recompute_nonfinite
from lbr_cli.errors import ComputeError, first_line

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
WINDOW = 1024  # requests
CHUNK_CHARACTERS = 1 << 21  # of the texts that are tokenized at once: a few hundred megabytes of tokens

T = TypeVar("T")
R = TypeVar("R")


class Input(Protocol):
    """The input of a model for a request."""

    @property
    def request(self) -> Request: ...


class TokenIds(Input, Protocol):
    """The token ids of a request, and whether its document was truncated."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def truncated(self) -> bool: ...


I = TypeVar("I", bound=Input)  # noqa: E741 - the item type
Row = TypeVar("Row", bound=TokenIds)


@dataclass(slots=True)
class TokenBudget:
    """The most tokens of a batch, during one call of `answer`. It never grows."""

    tokens: int


def window_size(batch_tokens: int) -> int:
    """Return the number of requests among which batches are chosen: enough for some thirty batches of short prompts."""
    return max(WINDOW, batch_tokens // 8)


def batches(
    inputs: Sequence[I],
    sizes: Sequence[int],
    budget: TokenBudget,
    compute: Callable[[list[I]], T],
    *,
    padded: bool,
) -> Iterator[tuple[list[I], T]]:
    """Cut inputs into batches within the budget; yield each with what `compute` returns for it.

    `sizes` are in tokens. A batch takes the sum of its sizes or, if `padded`, its largest size for each of its inputs;
    a batch with a single input may exceed the budget. If memory runs out, the budget becomes half of the tokens that
    the batch took, and the batch is cut again. Raises ComputeError for an input that does not fit into memory alone,
    and for the first input of a batch that fails for another reason.
    """
    waiting = deque(zip(inputs, sizes, strict=True))
    while waiting:
        cut = [waiting.popleft()]
        largest = total = cut[0][1]
        while waiting:
            size = waiting[0][1]
            more = max(largest, size) * (len(cut) + 1) if padded else total + size
            if more > budget.tokens:
                break
            largest, total = max(largest, size), more
            cut.append(waiting.popleft())
        batch = [item for item, _ in cut]
        try:
            result = compute(batch)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            if not _is_out_of_memory(error):
                others = f" or on the {len(batch) - 1} computed with it" if batch[1:] else ""
                message = f"the model failed on it{others}: {first_line(error)}"
                raise ComputeError(message, batch[0].request) from error
            if len(batch) == 1:
                message = f"out of memory: {total} tokens do not fit, even alone"
                raise ComputeError(message, batch[0].request) from error
            budget.tokens = max(1, total // 2)
            waiting.extendleft(reversed(cut))
            continue
        yield batch, result


def padded_batches(
    inputs: Iterable[Row], budget: TokenBudget, model: Any, compute: Callable[[list[Row]], torch.Tensor]
) -> Iterator[tuple[list[Row], int, torch.Tensor]]:
    """Cut inputs into batches of similar lengths, the longest first; see `batches`.

    Yield each batch, its number of tokens, and the rows that `compute` returns for it. Non-finite rows are computed
    again with `model` in float32.
    """

    def finite(batch: list[Row]) -> torch.Tensor:
        return recompute_nonfinite(compute(batch), model, lambda number: compute([batch[number]]))

    ordered = sorted(inputs, key=lambda row: -len(row.ids))
    for batch, values in batches(ordered, [len(row.ids) for row in ordered], budget, finite, padded=True):
        yield batch, sum(len(row.ids) for row in batch), values


def padded_rows(
    rows: Sequence[list[int]], device: torch.device, fill: int = 0, width: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows padded on the right, and their attention mask: [rows, longest] each, or at least `width` columns."""
    longest = max(width, *map(len, rows))
    ids = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids, mask


def chunks(windows: Iterable[Sequence[Request]], size: int) -> Iterator[Sequence[Request]]:
    """Cut windows that are longer than `size` requests, or whose texts are too long to be tokenized at once."""
    for window in windows:
        chunk: list[Request] = []
        characters = 0
        for request in window:
            characters += len(request.document)
            if chunk and (len(chunk) == size or characters > CHUNK_CHARACTERS):
                yield chunk
                chunk, characters = [], len(request.document)
            chunk.append(request)
        if chunk:
            yield chunk


def prepared_ahead(items: Iterable[T], prepare: Callable[[T], R]) -> Iterator[R]:
    """Yield what `prepare` returns for each item: a thread prepares the next item while the last result is used.

    Items are read in the thread of the caller. Only `prepare` may call the tokenizer, which keeps its truncation and
    its treatment of special tokens from call to call, so that two threads must not share it.
    """
    with ThreadPoolExecutor(1) as thread:
        ahead: deque[Future[R]] = deque()
        for item in items:
            ahead.append(thread.submit(prepare, item))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out: CUDA and MPS raise OutOfMemoryError, the allocator of a CPU a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in NO_MEMORY)
