"""Evaluate runs against judgments: the value of each measure, and the significance of differences from the first run.

A thin layer over ir_measures, which uses trec_eval's own code (pytrec_eval) if possible; `own_measures` has the
measures that trec_eval 10 computes differently. Means are over all judged queries; a query that is missing from a run
counts 0, as with trec_eval's -c.

ir_measures is imported when measures are parsed, scipy if there are several runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lbr_cli.core import Progress
from lbr_cli.errors import UsageError
from lbr_cli.evaluation.measures import group_by_parameters
from lbr_cli.evaluation.own_measures import OWN
from lbr_cli.evaluation.runs import Judgments, Run
from lbr_cli.evaluation.significance import Comparison, compare

TOP = 10  # documents of a query that count for `Coverage.judged_share`
PROVIDERS = ("pytrec_eval", "compat", "judged", "msmarco")  # of ir_measures: those without further dependencies
UNUSED_ID = "unused"  # differs from all document ids, which are numbers here

Values = dict[str, dict[str, float]]  # measure -> judged query -> value


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well a run and the judgments match.

    `missing` counts the judged queries that are not in the run, `unjudged` the queries of the run that are not judged.
    `judged_share` is the mean share of judged documents among the first `TOP`, over the queries of both, from 0 to 1.
    """

    missing: int
    unjudged: int
    judged_share: float


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """The measures of a run.

    `means` are by measure, and sums for measures that count; `values` are by measure and judged query; `comparisons`
    with the first run are by measure, and empty for the first run.
    """

    run: str
    coverage: Coverage
    means: Mapping[str, float]
    values: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Several runs with the same judgments.

    `queries` are the judged ones, `measures` in the order of the command line; `counts` are the measures that are sums
    of whole numbers.
    """

    queries: Sequence[str]
    measures: Sequence[str]
    counts: frozenset[str]
    runs: Sequence[RunEvaluation]

    def change(self, run: RunEvaluation, measure: str) -> float:
        """Return the difference between the mean of a run and that of the first run."""
        return run.means[measure] - self.runs[0].means[measure]


def evaluate(judgments: Judgments, runs: Sequence[Run], measures: Sequence[Any]) -> Evaluation:
    """Compute measures of ir_measures for each run. Raises UsageError for an unsupported measure."""
    own = [measure for measure in measures if measure.NAME in OWN]
    others = [measure for measure in measures if measure.NAME not in OWN]
    evaluators = [_Evaluator(group, judgments) for group in group_by_parameters(others)]
    values: list[Values] = []
    for run in runs:
        values.append(_own_values(own, run, judgments))
        for evaluator in evaluators:
            values[-1] |= evaluator.values(run)
    names = [str(measure) for measure in measures]
    compared = {name: compare([list(of_run[name].values()) for of_run in values]) for name in names}
    evaluated = []
    for number, (run, of_run) in enumerate(zip(runs, values, strict=True)):
        means = {str(measure): _mean(measure, of_run[str(measure)].values()) for measure in measures}
        comparisons = {name: compared[name][number - 1] for name in names} if number else {}
        evaluated.append(RunEvaluation(run.name, _coverage(run, judgments), means, of_run, comparisons))
    counts = frozenset(str(measure) for measure in measures if measure.NAME.startswith("Num"))
    return Evaluation(list(judgments), names, counts, evaluated)


class _Evaluator:
    """Computes measures with equal parameters, for any run, with ir_measures.

    ir_measures receives numbers instead of ids, because some providers cannot store every id, and scores that fall by
    one along the ranking: without ties, every provider sees the order that trec_eval would.
    """

    def __init__(self, measures: Sequence[Any], judgments: Judgments) -> None:
        import ir_measures

        providers = [ir_measures.providers.registry[name] for name in PROVIDERS]
        for measure in measures:
            if not any(provider.supports(measure) and provider.is_available() for provider in providers):
                hint = "supported are the measures of trec_eval, Judged and Compat"
                raise UsageError(f"{measure}: unsupported measure", hint=hint)
        self._queries = {query_id: str(number) for number, query_id in enumerate(judgments)}
        self._documents = {
            query_id: {doc_id: str(number) for number, doc_id in enumerate(grades)}
            for query_id, grades in judgments.items()
        }
        # gains are applied here, because ir_measures would apply the gain of grade 0 to `UNUSED_ID`, too
        gains = measures[0].params.get("gains", {})
        plain = [_without_gains(measure) for measure in measures]
        self._names = {str(bare): str(measure) for bare, measure in zip(plain, measures, strict=True)}
        numbered = {}
        for query_id, grades in judgments.items():
            values = numbered[self._queries[query_id]] = {
                self._documents[query_id][doc_id]: gains.get(grade, grade) for doc_id, grade in grades.items()
            }
            if all(grade < 0 for grade in values.values()):
                values[UNUSED_ID] = 0  # trec_eval's code never returns from a query with negative grades alone
        fallback: Any = ir_measures.providers.FallbackProvider
        self._evaluator = fallback(providers).evaluator(plain, numbered)

    def values(self, run: Run) -> Values:
        """Return the values of each measure and judged query, in the order of the judgments."""
        scores = {}
        for query_id, number in self._queries.items():
            judged, ranking = self._documents[query_id], run.rankings.get(query_id)
            if ranking:  # numbers of unjudged documents follow those of judged ones
                scores[number] = {
                    judged.get(doc_id) or str(len(judged) + index): float(len(ranking) - index)
                    for index, doc_id in enumerate(ranking)
                }
        computed: Values = {}
        for metric in self._evaluator.iter_calc(scores):
            computed.setdefault(self._names[str(metric.measure)], {})[metric.query_id] = float(metric.value)
        return {
            name: {query_id: of_query[number] for query_id, number in self._queries.items()}
            for name, of_query in computed.items()
        }


def _without_gains(measure: Any) -> Any:
    return type(measure)(**{name: value for name, value in measure.params.items() if name != "gains"})


def _own_values(measures: Sequence[Any], run: Run, judgments: Judgments) -> Values:
    """Return the values of the measures in `OWN`, in the order of the judgments."""
    return {
        str(measure): {
            query_id: float(OWN[measure.NAME](measure, run.rankings.get(query_id, ()), grades))
            for query_id, grades in judgments.items()
        }
        for measure in measures
    }


def _mean(measure: Any, values: Iterable[float]) -> float:
    """Return the mean, or the sum for a measure that counts."""
    aggregator = measure.aggregator()
    for value in values:
        aggregator.add(value)
    return float(aggregator.result())


def _coverage(run: Run, judgments: Judgments) -> Coverage:
    shares = []
    for query_id, grades in judgments.items():
        if query_id in run.rankings:
            top = run.rankings[query_id][:TOP]
            shares.append(sum(doc_id in grades for doc_id in top) / len(top))
    share = sum(shares) / len(shares) if shares else 0.0
    return Coverage(len(judgments) - len(shares), len(run.rankings) - len(shares), share)


def warn_coverage(evaluation: Evaluation, progress: Progress) -> None:
    """Report judged queries that are missing from a run, unjudged queries, and runs without judged documents."""
    for run in evaluation.runs:
        coverage = run.coverage
        if coverage.missing:
            queries = f"{coverage.missing} of {len(evaluation.queries)} judged queries"
            progress.warn(f"{run.run}: {queries} are missing, and count 0")
        if coverage.unjudged:
            progress.note(f"{run.run}: queries without judgments, which are ignored: {coverage.unjudged}")
        if not coverage.judged_share:
            progress.warn(f"{run.run}: none of the documents in its top {TOP} is judged")
