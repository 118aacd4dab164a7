"""Runs and judgments -> what each measure says, and how sure it is that a run is better than the first.

Thin over ir_measures, whose measures come from trec_eval's own code (pytrec_eval) where it has them; `ours` has those
that trec_eval 10 computes otherwise. Averages are over all judged queries, and one that a run lacks counts 0, as with
trec_eval's -c.

ir_measures is loaded when measures are read, scipy where there is more than one run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lbr_cli.core import Progress
from lbr_cli.errors import UsageError
from lbr_cli.evaluation.measures import alike
from lbr_cli.evaluation.ours import OURS
from lbr_cli.evaluation.runs import Judgments, Run
from lbr_cli.evaluation.significance import Comparison, compare

TOP = 10  # documents of a query whose share of judged ones is told
PROVIDERS = ("pytrec_eval", "compat", "judged", "msmarco")  # of ir_measures: those that ask for nothing else
NOWHERE = "nowhere"  # no document is called so: ours are called by numbers

Values = dict[str, dict[str, float]]  # by measure and judged query


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well a run and the judgments fit together: numbers of queries, and a share from 0 to 1.

    `missing` are judged and not in the run, `unjudged` in the run and not judged. `judged_share` is the mean share of
    judged documents among the first `TOP`, over the queries that are both.
    """

    missing: int
    unjudged: int
    judged_share: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the measures say of a run.

    `means` by measure, sums for those that count; `values` by measure and judged query; `comparisons` by measure,
    against the first run and empty for itself.
    """

    run: str
    coverage: Coverage
    means: Mapping[str, float]
    values: Mapping[str, Mapping[str, float]]
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Several runs on the same judgments.

    `queries` are the judged ones, `measures` in the order asked for; of these, `counts` are sums of whole numbers.
    """

    queries: Sequence[str]
    measures: Sequence[str]
    counts: frozenset[str]
    runs: Sequence[Evaluated]

    def change(self, run: Evaluated, measure: str) -> float:
        """How far a run is above the first."""
        return run.means[measure] - self.runs[0].means[measure]


def evaluate(judgments: Judgments, runs: Sequence[Run], measures: Sequence[Any]) -> Evaluation:
    """Judge each run by each measure of ir_measures. Raises UsageError for a measure that nothing here computes."""
    own = [measure for measure in measures if measure.NAME in OURS]
    others = [measure for measure in measures if measure.NAME not in OURS]
    judges = [_Judge(group, judgments) for group in alike(others)]
    values: list[Values] = []
    for run in runs:
        values.append({})
        for judge in judges:
            values[-1] |= judge.values(run)
        values[-1] |= _own_values(own, run, judgments)
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
    counts = frozenset(str(measure) for measure in measures if measure.NAME.startswith("Num"))
    return Evaluation(list(judgments), names, counts, evaluated)


class _Judge:
    """Computes measures of equal parameters, for any run, with ir_measures.

    It is given numbers for ids, since what computes some measures cannot hold every id, and scores made anew from the
    order, falling by one: so no two are equal, and whatever computes a measure sees the order that trec_eval would.
    """

    def __init__(self, measures: Sequence[Any], judgments: Judgments) -> None:
        import ir_measures

        providers = [ir_measures.providers.registry[name] for name in PROVIDERS]
        for measure in measures:
            if not any(provider.supports(measure) and provider.is_available() for provider in providers):
                raise UsageError(
                    f"--measures {measure}: nothing here computes it",
                    hint="lbr computes those of trec_eval, Judged and Compat",
                )
        self._queries = {query_id: str(number) for number, query_id in enumerate(judgments)}
        self._documents = {
            query_id: {doc_id: str(number) for number, doc_id in enumerate(grades)}
            for query_id, grades in judgments.items()
        }
        # gains are put in here: what stands for a grade of 0 has to be known
        gains = measures[0].params.get("gains", {})
        plain = [_without_gains(measure) for measure in measures]
        self._names = {str(bare): str(measure) for bare, measure in zip(plain, measures, strict=True)}
        numbered = {
            self._queries[query_id]: {
                self._documents[query_id][doc_id]: gains.get(grade, grade) for doc_id, grade in grades.items()
            }
            for query_id, grades in judgments.items()
        }
        for grades in numbered.values():
            if all(grade < 0 for grade in grades.values()):
                grades[NOWHERE] = 0  # trec_eval's code never comes back from a query with negative grades alone
        together: Any = ir_measures.providers.FallbackProvider
        self._evaluator = together(providers).evaluator(plain, numbered)

    def values(self, run: Run) -> Values:
        """Each measure of each judged query, in the order of the judgments."""
        scores = {}
        for query_id, number in self._queries.items():
            known, ranking = self._documents[query_id], run.rankings.get(query_id, ())
            others = len(known)  # beyond the numbers of judged documents
            if ranking:
                scores[number] = {
                    known.get(doc_id) or str(others + place): float(len(ranking) - place)
                    for place, doc_id in enumerate(ranking)
                }
        found: dict[str, dict[str, float]] = {}
        for metric in self._evaluator.iter_calc(scores):
            found.setdefault(self._names[str(metric.measure)], {})[metric.query_id] = float(metric.value)
        return {
            name: {query_id: of_query[number] for query_id, number in self._queries.items()}
            for name, of_query in found.items()
        }


def _without_gains(measure: Any) -> Any:
    return type(measure)(**{name: value for name, value in measure.params.items() if name != "gains"})


def _own_values(measures: Sequence[Any], run: Run, judgments: Judgments) -> Values:
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
    shares = []
    for query_id in both:
        first = run.rankings[query_id][:TOP]
        shares.append(sum(doc_id in judgments[query_id] for doc_id in first) / len(first))
    share = sum(shares) / len(shares) if shares else 0.0
    return Coverage(len(judgments) - len(both), len(run.rankings) - len(both), share)


def tell_coverage(evaluation: Evaluation, progress: Progress) -> None:
    """Say what the figures do not: which queries count 0 and which do not count, and that nothing is judged."""
    for run in evaluation.runs:
        told = run.coverage
        if told.missing:
            progress.warn(f"{run.run}: lacks {told.missing} of {len(evaluation.queries)} judged queries, which count 0")
        if told.unjudged:
            progress.note(f"{run.run}: queries that are not judged, and do not count: {told.unjudged}")
        if not told.judged_share:
            progress.warn(f"{run.run}: none of the documents in its top {TOP} is judged")
