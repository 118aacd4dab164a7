"""Rotation of a linear layer's input, after which int8 represents it better.

A few channels of a transformer have values far above the others, and one scale per token leaves the others few steps.
Multiplying runs of channels by a Hadamard matrix H spreads each value over its run. H is orthogonal and symmetric, so
(x H) (H W) = x W: a layer whose weights are rotated as well gives the same output. The idea and its measurements with
language models: QuaRot, Ashkboos et al. 2024, arXiv:2404.00456.
"""

from __future__ import annotations

from functools import cache

import torch

LARGEST_RUN = 128  # channels; longer runs cost in proportion to their length, and errors hardly fall


def rotate(values: torch.Tensor) -> torch.Tensor:
    """Return [rows, size], float32, with each run of channels of a row multiplied by the Hadamard matrix.

    A run has the largest power of two of channels that divides `size`, at most 128 and half of `size`. Rotating twice
    gives the values again, up to rounding. A row of the result does not depend on the other rows.
    """
    size = values.shape[1]
    run = min(LARGEST_RUN, size & -size, size // 2)  # two runs at least: the product of a vector has another order
    if run < 2:
        return values
    return (values.reshape(-1, run) @ _hadamard(run)).view(values.shape)


@cache
def _hadamard(size: int) -> torch.Tensor:
    """Return the symmetric orthogonal matrix of Sylvester's construction, for a power of two."""
    matrix = torch.ones(1, 1)
    for _ in range(size.bit_length() - 1):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    scaled: torch.Tensor = matrix / size**0.5
    return scaled
