"""Whether runs differ significantly: the paired t-test over queries, with Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SAMPLES = 2000  # bootstrap samples
TOLERANCE = 1e-9  # smaller differences are ties: they come from the order of additions


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of a run from the first one in one measure.

    `wins`, `ties` and `losses` count judged queries. `p` is the two-sided p-value of the paired t-test; `p_holm` is
    corrected for the number of runs that are compared with the first. Both are 1 if no query differs, and None if
    there is no test: for a single query that differs, or if all queries differ by the same amount.
    """

    wins: int
    ties: int
    losses: int
    p: float | None
    p_holm: float | None


def compare(values: Sequence[Sequence[float]]) -> list[Comparison]:
    """Compare each run with the first, from the values of the same queries in the same order."""
    first, *others = values
    p_values = [paired_t_test(first, other) for other in others]
    corrected = iter(holm([p for p in p_values if p is not None]))
    comparisons = []
    for other, p in zip(others, p_values, strict=True):
        differences = [b - a for a, b in zip(first, other, strict=True)]
        wins = sum(difference > TOLERANCE for difference in differences)
        losses = sum(difference < -TOLERANCE for difference in differences)
        p_holm = None if p is None else next(corrected)
        comparisons.append(Comparison(wins, len(differences) - wins - losses, losses, p, p_holm))
    return comparisons


def paired_t_test(first: Sequence[float], other: Sequence[float]) -> float | None:
    """Return the two-sided p-value of Student's t-test on the differences (scipy's `ttest_rel`).

    Return 1 if no query differs. Return None if all differences are equal, as for a single query: there is no test
    without variance.
    """
    differences = [b - a for a, b in zip(first, other, strict=True)]
    if all(abs(difference) <= TOLERANCE for difference in differences):
        return 1.0
    if max(differences) - min(differences) <= TOLERANCE:
        return None
    from scipy.stats import ttest_rel

    return float(ttest_rel(other, first).pvalue)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the mean, by the percentile bootstrap with a fixed seed.

    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7 (1979).
    """
    import numpy as np

    array = np.asarray(values)
    source = np.random.default_rng(0)
    means = [array[source.integers(0, len(array), len(array))].mean() for _ in range(SAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return corrected p-values: in ascending order, p times the number of hypotheses left, at most 1, never falling.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rejected, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rejected) * p_values[index]))
        corrected[index] = least
    return corrected
