"""Which texts to compute together: sorted by length, so that little is padded, under a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut the places of `lengths` into batches, longest texts first.

    A batch of n texts, the longest of m tokens, is computed as n * m tokens; that stays within `budget`, or the
    batch holds one text. Equal lengths keep their order, so equal input gives equal batches.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
