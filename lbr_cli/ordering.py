"""Order candidates by the first stage or by scores; interpolate and fuse scores.

An index is a position in first-stage order, from 0; a rank counts from 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter

from lbr_cli.core import Candidate

SCORE, RANK = attrgetter("score"), attrgetter("rank")
RRF_K = 60  # the constant of reciprocal rank fusion
FUSION_UNITS = 2**100  # units in a fused score of 1: sums of integers are exact, whatever the order of the runs


def first_stage_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates by score, descending, if all have one; else by rank if all have one; else unchanged."""
    if None not in map(SCORE, candidates):
        return sorted(candidates, key=SCORE, reverse=True)  # which leaves ties in their order, too
    if None not in map(RANK, candidates):
        return sorted(candidates, key=RANK)
    return list(candidates)


def reciprocal_rank(rank: int, k: int) -> int:
    """Return 1 / (k + rank) in `FUSION_UNITS`; reciprocal rank fusion adds it up over the runs.

    The units are far smaller than the precision of a float, so sums that are equal as fractions are equal as floats.

    G. Cormack, C. Clarke and S. Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods", SIGIR 2009.
    """
    return (2 * FUSION_UNITS // (k + rank) + 1) // 2


def score_order(scores: Mapping[int, float], total: int) -> list[int]:
    """Return `total` indices by score, descending, ties by index; those without a score follow."""
    order = sorted(sorted(scores), key=scores.__getitem__, reverse=True)  # equal ones stay in their order
    return order + [index for index in range(total) if index not in scores]


def interpolated(first_stage: Sequence[float], model: Sequence[float], weight: float) -> list[float]:
    """Return weight · first-stage score + (1 - weight) · model score, each scaled to 0 … 1 over the query."""
    pairs = zip(normalised(first_stage), normalised(model), strict=True)
    return [weight * first + (1 - weight) * second for first, second in pairs]


def normalised(values: Sequence[float]) -> list[float]:
    """Return (v - min) / (max - min) for each value, or 0 if all are equal."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low == high:
        return [0.0] * len(values)
    unit = 1.0 if math.isfinite(high - low) else 0.5  # the difference of two floats may exceed the largest float
    return [(value * unit - low * unit) / (high * unit - low * unit) for value in values]
