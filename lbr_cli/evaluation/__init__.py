"""Runs and judgments -> what each measure says, and how sure it is that a run is better than the first.

Thin over ir_measures, whose measures come from trec_eval's own code (pytrec_eval) where it has them; `ours` has those
that trec_eval 10 computes otherwise. Averages are over
all judged queries, and one that a run lacks counts 0, as with trec_eval's -c.

ir_measures is loaded when measures are read, scipy where there is more than one run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lbr_cli.errors import UsageError
from lbr_cli.evaluation.measures import alike
from lbr_cli.evaluation.ours import OURS
from lbr_cli.evaluation.runs import Judgments, Run
from lbr_cli.evaluation.significance import Comparison, compare

NOWHERE = "\n"  # an id that no line can hold
TOP = 10  # documents of a query whose share of judged ones is told


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well a run and the judgments fit together: numbers of queries, and a share from 0 to 1.

    `missing` are judged and not in the run, `unjudged` in the run and not judged. `judged_share` is that of judged
    documents among the first `TOP` of the queries that are both.
    """

    missing: int
    unjudged: int
    judged_share: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the measures say of a run.

    `means` by measure; `values` by measure and judged query; `comparisons` by measure, against the first run and empty
    for itself.
    """

    run: str
    coverage: Coverage
    means: Mapping[str, float]
    values: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Several runs on the same judgments: `queries` are the judged ones, `measures` in the order asked for."""

    queries: Sequence[str]
    measures: Sequence[str]
    runs: Sequence[Evaluated]

    def change(self, run: Evaluated, measure: str) -> float:
        """How far a run is above the first."""
        return run.means[measure] - self.runs[0].means[measure]


def evaluate(judgments: Judgments, runs: Sequence[Run], measures: Sequence[Any]) -> Evaluation:
    """Judge each run by each measure of ir_measures. Raises UsageError for a measure that nothing here computes."""
    own = [measure for measure in measures if measure.NAME in OURS]
    others = [measure for measure in measures if measure.NAME not in OURS]
    evaluators = [_evaluator(group, judgments) for group in alike(others)]
    values = [_values(evaluators, run, judgments) | _own_values(own, run, judgments) for run in runs]
    names = [str(measure) for measure in measures]
    compared = {name: compare([list(of_run[name].values()) for of_run in values]) for name in names}
    evaluated = [
        Evaluated(
            run.name,
            _coverage(run, judgments),
            {str(measure): _mean(measure, values[place][str(measure)].values()) for measure in measures},
            values[place],
            {name: compared[name][place - 1] for name in names} if place else {},
        )
        for place, run in enumerate(runs)
    ]
    return Evaluation(list(judgments), names, evaluated)


def _evaluator(measures: Sequence[Any], judgments: Judgments) -> Any:
    import ir_measures

    # trec_eval's code never comes back from a query with negative grades alone: it gets a document that nobody finds
    safe = {
        query_id: grades if any(grade >= 0 for grade in grades.values()) else {**grades, NOWHERE: 0}
        for query_id, grades in judgments.items()
    }
    try:
        return ir_measures.evaluator(measures, safe)
    except ValueError as error:
        names = ", ".join(map(str, measures))
        reason = " ".join(str(error).split())
        raise UsageError(f"--measures: nothing here computes all of {names}: {reason}") from error


def _values(evaluators: Iterable[Any], run: Run, judgments: Judgments) -> dict[str, dict[str, float]]:
    """Each measure of each judged query, in the order of the judgments.

    Scores are made anew from the order, falling by one: so no two are equal, and whatever computes a measure sees the
    order that trec_eval would.
    """
    scores = {
        query_id: {doc_id: float(len(ranking) - place) for place, doc_id in enumerate(ranking)}
        for query_id, ranking in run.rankings.items()
        if query_id in judgments
    }
    found: dict[str, dict[str, float]] = {}
    for evaluator in evaluators:
        for metric in evaluator.iter_calc(scores):
            found.setdefault(str(metric.measure), {})[metric.query_id] = float(metric.value)
    return {name: {query_id: of_query[query_id] for query_id in judgments} for name, of_query in found.items()}


def _own_values(measures: Sequence[Any], run: Run, judgments: Judgments) -> dict[str, dict[str, float]]:
    """The same of measures that are computed here."""
    return {
        str(measure): {
            query_id: float(OURS[measure.NAME](measure, run.rankings.get(query_id, ()), grades))
            for query_id, grades in judgments.items()
        }
        for measure in measures
    }


def _mean(measure: Any, values: Iterable[float]) -> float:
    """The mean, or the sum of what is counted."""
    aggregator = measure.aggregator()
    for value in values:
        aggregator.add(value)
    return float(aggregator.result())


def _coverage(run: Run, judgments: Judgments) -> Coverage:
    both = [query_id for query_id in judgments if query_id in run.rankings]
    first = [(query_id, doc_id) for query_id in both for doc_id in run.rankings[query_id][:TOP]]
    judged = sum(doc_id in judgments[query_id] for query_id, doc_id in first)
    return Coverage(len(judgments) - len(both), len(run.rankings) - len(both), judged / len(first) if first else 0.0)
