"""Causal attention on a CPU in blocks of queries at fixed positions of a prompt.

A block reads the keys up to its end and no others, so it is faster than one masked call over all keys. And its result
does not depend on the batch: the order of the sums in a kernel depends on the numbers of its queries and keys, and for
a token these depend on its position alone. In float32 the order changes a result by about 1e-7, which matters in int8:
it changes the rounding of some activations, and by the last layer the score in its third digit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby

import torch
from torch.nn.functional import scaled_dot_product_attention

BLOCK = 32  # queries; the kernel of torch divides up to 192 queries into blocks of this size anyway


def padded_length(tokens: int) -> int:
    """Return the end of the block that holds the last of so many tokens."""
    return -(-tokens // BLOCK) * BLOCK


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], scale: float
) -> torch.Tensor:
    """Return causal attention, [prompts, heads, queries, size], for the prompts of `lengths`.

    Arguments are [prompts, heads, tokens, size] each: keys and values from position 0, queries from a position that
    begins a block, all to `padded_length` of the longest prompt. Keys past the end of a prompt have to be finite.
    Blocks past the end of a prompt are not computed: their result is undefined.
    """
    out = query.new_empty(*query.shape[:3], value.shape[3])
    start = key.shape[2] - query.shape[2]
    for begin in range(start, key.shape[2], BLOCK):
        prompts = max(number for number, length in enumerate(lengths, 1) if length > begin)
        rows, end = slice(begin - start, begin - start + BLOCK), begin + BLOCK
        keys, values = (part[:prompts, :, :end] for part in (key, value))
        out[:prompts, :, rows] = _attend_block(query[:prompts, :, rows], keys, values, scale)
    return out


def attend_last(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], scale: float
) -> torch.Tensor:
    """Return the attention of the last token of each prompt, [prompts, heads, size], for queries of this shape.

    Keys and values are those of `attend`, and so are the results.
    """
    parts = []
    first = 0
    for end, alike in groupby(map(padded_length, lengths)):
        prompts = slice(first, first + len([*alike]))
        first = prompts.stop
        numbers = torch.arange(first - prompts.start)
        rows = torch.tensor(lengths[prompts]) - 1 - (end - BLOCK)
        block = query.new_zeros(len(numbers), query.shape[1], BLOCK, query.shape[2])
        block[numbers, :, rows] = query[prompts]
        keys, values = (part[prompts, :, :end] for part in (key, value))
        parts.append(_attend_block(block, keys, values, scale)[numbers, :, rows])
    return torch.cat(parts)


def _attend_block(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Return causal attention of the block of queries at the end of the keys."""
    mask = _causal_mask(key.shape[2], query.dtype)
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped)


def _causal_mask(keys: int, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to the products of the queries of a block and so many keys up to its end, [BLOCK, keys]."""
    largest = _largest_causal_mask(1 << (keys - 1).bit_length(), dtype)
    return largest[:, largest.shape[1] - keys :]


@cache  # of a few powers of two
def _largest_causal_mask(keys: int, dtype: torch.dtype) -> torch.Tensor:
    attended = torch.ones(BLOCK, keys, dtype=torch.bool).tril(keys - BLOCK)
    return torch.zeros(BLOCK, keys, dtype=dtype).masked_fill(~attended, -torch.inf)
