"""Find the weight of the first-stage score, from a run with the scores of both stages and judgments.

`tune` computes for each weight of a grid the mean of a measure over the judged queries, as `lbr evaluate` does for the
run that `lbr rerank --interpolate` writes. The best weight has the highest mean; of equal ones, it is the lowest.
Cross-validation estimates the mean for other queries: each fold is evaluated with the best weight of the other folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from lbr_cli.core import Progress
from lbr_cli.errors import InputError
from lbr_cli.evaluation import evaluate, warn_coverage
from lbr_cli.evaluation.reranked import RerankedRun
from lbr_cli.evaluation.runs import Judgments

MIN_STEP = 0.001
STEP = 0.05
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Fold:
    """Held-out queries, the best weight of all others, and the mean of the held-out queries with this weight."""

    queries: Sequence[str]
    weight: float
    mean: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """The mean of `measure` by weight, over `judged` queries, of which `queries` are in the run.

    `held_out` is the mean over all judged queries, each with the weight of its fold.
    """

    run: str
    measure: str
    judged: int
    queries: Sequence[str]
    means: Mapping[float, float]
    best: float
    folds: Sequence[Fold]
    held_out: float

    @property
    def command(self) -> str:
        """The command line that uses the best weight."""
        return f"lbr rerank … --interpolate {weight_text(self.best)}"


def weight_text(weight: float) -> str:
    """Return a weight as a user types it."""
    return f"{weight:.15g}"


def grid(step: float) -> list[float]:
    """Return the weights from 0 to 1 in steps, and 1: multiples of the decimal number that the user typed."""
    exact = Decimal(repr(step))
    return [*(float(exact * number) for number in range(math.ceil(1 / exact))), 1.0]


def tune(
    run: RerankedRun, judgments: Judgments, measure: Any, weights: Sequence[float], folds: int, progress: Progress
) -> Tuning:
    """Evaluate each weight. `measure` is one of ir_measures. InputError if the run has fewer than two judged queries.

    The judged queries of the run, sorted by id, are assigned to the folds in turn. A judged query that is missing from
    the run counts 0, as in `lbr evaluate`.
    """
    warn_coverage(evaluate(judgments, [run.interpolated(0.0)], [measure]), progress)
    queries = sorted(query_id for query_id in run.queries if query_id in judgments)
    if len(queries) < 2:
        raise InputError(f"{len(queries)} judged query, and cross-validation needs two or more", run.name)
    values: dict[float, Mapping[str, float]] = {}
    for weight in weights:
        progress.status(f"evaluating weight {weight_text(weight)}")
        (evaluated,) = evaluate(judgments, [run.interpolated(weight, queries)], [measure]).runs
        values[weight] = evaluated.values[str(measure)]

    def total(weight: float, query_ids: Sequence[str]) -> float:
        return math.fsum(values[weight][query_id] for query_id in query_ids)  # exact: equal values have equal sums

    def best(query_ids: Sequence[str]) -> float:
        return max(weights, key=lambda weight: total(weight, query_ids))  # the first of equal ones

    folded = []
    count = min(folds, len(queries))
    for number in range(count):
        held_out = queries[number::count]
        chosen = best([query_id for position, query_id in enumerate(queries) if position % count != number])
        folded.append(Fold(held_out, chosen, total(chosen, held_out) / len(held_out)))
    return Tuning(
        run=run.name,
        measure=str(measure),
        judged=len(judgments),
        queries=queries,
        means={weight: total(weight, queries) / len(judgments) for weight in weights},
        best=best(queries),
        folds=folded,
        held_out=math.fsum(total(fold.weight, fold.queries) for fold in folded) / len(judgments),
    )
