"""Whether a run is better than another by more than chance: the paired t-test over queries, corrected after Holm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAMPLES = 2000  # of the bootstrap
SAME = 1e-9  # values that differ by less are equal: sums of the same terms in another order


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a run differs from the first in one measure, over the judged queries.

    On so many queries it `wins`, `ties`, `losses`. `p` is the two-sided p-value of the paired t-test, and `p_holm` the
    same corrected for the runs that are tested against the first in this measure. Both are 1 where no query differs,
    and None where there is no test: with a single query, or where all differ by the same.
    """

    wins: int
    ties: int
    losses: int
    p: float | None
    p_holm: float | None


def compare(values: Sequence[Sequence[float]]) -> list[Comparison]:
    """Each run but the first against the first, from the values of the same queries in the same order."""
    if len(values) < 2:
        return []
    first, *others = values
    p_values = [paired_t_test(first, other) for other in others]
    known = [p for p in p_values if p is not None]
    corrected = iter(holm(known))
    return [
        _comparison(first, other, p, None if p is None else next(corrected))
        for other, p in zip(others, p_values, strict=True)
    ]


def _comparison(first: Sequence[float], other: Sequence[float], p: float | None, p_holm: float | None) -> Comparison:
    differences = [b - a for a, b in zip(first, other, strict=True)]
    wins = sum(difference > SAME for difference in differences)
    losses = sum(difference < -SAME for difference in differences)
    return Comparison(wins, len(differences) - wins - losses, losses, p, p_holm)


def paired_t_test(first: Sequence[float], other: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's t-test on the differences (scipy's `ttest_rel`).

    1 where there is no difference; None where there is one on a single query, or the same on all: without a spread
    there is no test.
    """
    differences = [b - a for a, b in zip(first, other, strict=True)]
    if all(abs(difference) <= SAME for difference in differences):
        return 1.0
    if max(differences) - min(differences) <= SAME:
        return None
    from scipy.stats import ttest_rel

    return float(ttest_rel(other, first).pvalue)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean, by the bootstrap: percentiles of the means of 2,000 samples.

    The same for the same values. B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7
    (1979).
    """
    import numpy as np

    found = np.asarray(values)
    source = np.random.default_rng(0)
    means = [found[source.integers(0, len(found), len(found))].mean() for _ in range(SAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, each times the number of hypotheses not yet rejected, and none less than one before it.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rejected, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rejected) * p_values[place]))
        corrected[place] = least
    return corrected
