"""Rerank: choose the candidates to score, score them, and order all candidates of each query.

First-stage order is by score, descending, if all candidates of a query have one; else by rank if all have one; else by
position. Scores are compared as the float32 values that are written; ties keep first-stage order. Candidates without a
score (below the depth, or without a text) follow in first-stage order. With a threshold, only candidates whose model
score reaches it are kept.

Here an index is a position in first-stage order, from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbr_cli.core import Candidate, Document, Family, Query, RankedCandidate, Ranking, Score
from lbr_cli.errors import InputError, UsageError
from lbr_cli.float32 import float32, round_trip_number
from lbr_cli.ordering import first_stage_order, interpolated, score_order
from lbr_cli.passages import Passages
from lbr_cli.scoring import Plan, Scorer
from lbr_cli.wording import pair_name


@dataclass(frozen=True, slots=True)
class Method:
    """The options of reranking.

    At most `depth` candidates of a query are scored, and at most `top_k` are written; None means all. If `passages` is
    None, documents are scored as a whole. `interpolate` is the weight of the first-stage score, from 0 to 1, or None.
    `min_score` and `min_probability` are thresholds for the score of the model, before it is interpolated.
    """

    depth: int | None = None
    top_k: int | None = None
    passages: Passages | None = None
    interpolate: float | None = None
    min_score: float | None = None
    min_probability: float | None = None

    @property
    def threshold(self) -> str:
        """The threshold as an option of the command line; empty if there is none."""
        for option, value in (("--min-score", self.min_score), ("--min-probability", self.min_probability)):
            if value is not None:
                return f"{option} {value:.9g}"
        return ""

    def check(self, family: Family) -> None:
        """Raise UsageError for a threshold that the scores of a family do not have."""
        if self.min_probability is not None and family.probability(0.0) is None:
            message = f"{self.threshold}: scores of the family {family.name} have no probability ({family.scale})"
            raise UsageError(message, hint="--min-score is a threshold on the scale of the model")

    def keeps(self, score: float, family: Family) -> bool:
        """Return whether a score of the model reaches the threshold. Scores are compared as they are written."""
        if self.min_score is not None and float32(score) < float32(self.min_score):
            return False
        if self.min_probability is None:
            return True
        probability = family.probability(score)
        return probability is not None and probability >= self.min_probability


def rerank(
    rankings: Iterable[Ranking], scorer: Scorer, method: Method = Method(), plan: Plan | None = None
) -> Iterator[tuple[Query, list[RankedCandidate]]]:
    """Yield each query with its candidates in their new order, in the order of `rankings`, as soon as it is complete.

    `plan` is that of `pairs_to_score` for the same arguments; without it, each query is complete before the next one is
    read. Raises InputError for a candidate without the first-stage score that `method` needs, and UsageError for a
    threshold that the family does not have.
    """
    method.check(scorer.family)
    for selection, scores in scorer.score((_select(ranking, method) for ranking in rankings), plan):
        model_scores = final_scores = selection.aggregate(scores)
        if method.interpolate is not None:
            final_scores = _interpolated(selection.first_stage_scores(), model_scores, method.interpolate)
        if method.threshold:
            kept = (index for index, score in model_scores.items() if method.keeps(score.value, scorer.family))
            final_scores = {index: final_scores[index] for index in kept}
        rows = new_order(selection.ordered, final_scores)
        if method.threshold:
            rows = rows[: len(final_scores)]  # candidates without a score that reaches the threshold come last
        rows = rows[: method.top_k]
        scorer.counts.candidates += len(selection.chosen)
        scorer.counts.written += len(rows)
        scorer.counts.empty += not rows
        yield selection.query, rows
        scorer.counts.queries += 1
        scorer.progress.advance(queries=1)


def pairs_to_score(rankings: Iterable[Ranking], method: Method) -> Iterator[tuple[Query, Document]]:
    """Yield the pairs that `rerank` scores, in its order; each passage is one pair."""
    for ranking in rankings:
        for document in _select(ranking, method).documents:
            yield ranking.query, document


def check_first_stage_scores(ranking: Ranking, method: Method, file: str) -> None:
    """Raise InputError for a candidate without the first-stage score that `method` needs."""
    if method.interpolate is not None:
        _select(ranking, method).first_stage_scores(file)


@dataclass(frozen=True, slots=True)
class _Selection:
    """The candidates of a query in first-stage order, and the documents to score by index."""

    query: Query
    ordered: Sequence[Candidate]
    chosen: Mapping[int, Document]
    passages: Passages | None

    @property
    def documents(self) -> list[Document]:
        """The documents that the model reads: those of `chosen`, or all passages of each."""
        if self.passages is None:
            return list(self.chosen.values())
        return [passage.document for document in self.chosen.values() for passage in self.passages.split(document)]

    def aggregate(self, scores: Sequence[Score]) -> dict[int, Score]:
        """Return the score of each chosen document by index, from the scores of `documents`."""
        if self.passages is None:
            return dict(zip(self.chosen, scores, strict=True))
        remaining = iter(scores)
        by_index = {}
        for index, document in self.chosen.items():
            passages = self.passages.split(document)
            by_index[index] = self.passages.aggregate(passages, [next(remaining) for _ in passages])
        return by_index

    def first_stage_scores(self, file: str = "") -> list[float]:
        """Return the first-stage scores of the chosen documents. InputError if one is missing."""
        scores = []
        for candidate in (self.ordered[index] for index in self.chosen):
            if candidate.score is None:
                pair = pair_name(self.query.query_id, candidate.doc_id)
                hint = 'an MS MARCO run has ranks and no scores; JSONL has them as "score"'
                raise InputError(f"{pair}: no first-stage score, and --interpolate needs one", file, hint=hint)
            scores.append(candidate.score)
        return scores


def _select(ranking: Ranking, method: Method) -> _Selection:
    """Select the first `depth` candidates that have a text; none if the query has no text."""
    ordered = first_stage_order(ranking.candidates)
    chosen: dict[int, Document] = {}
    if ranking.query.text is not None:
        documents = [candidate.document for candidate in ordered]
        with_text = [(index, document) for index, document in enumerate(documents) if document is not None]
        chosen = dict(with_text[: method.depth])
    return _Selection(ranking.query, ordered, chosen, method.passages)


def _interpolated(first_stage: Sequence[float], scores: Mapping[int, Score], weight: float) -> dict[int, Score]:
    """Return the interpolated scores; the score of the model becomes the detail `reranker_score`."""
    values = interpolated(first_stage, [float32(score.value) for score in scores.values()], weight)
    result = {}
    for (index, score), value in zip(scores.items(), values, strict=True):
        details = {"reranker_score": round_trip_number(score.value), **score.details}
        result[index] = Score(value, details, score.warning)
    return result


def new_order(ordered: Sequence[Candidate], scores: Mapping[int, Score]) -> list[RankedCandidate]:
    """Return the candidates in their new order, with ranks; `scores` are by index."""
    values = {index: float32(score.value) for index, score in scores.items()}
    return [
        RankedCandidate(
            ordered[index], index + 1, rank, values.get(index), scores[index].details if index in scores else {}
        )
        for rank, index in enumerate(score_order(values, len(ordered)), 1)
    ]
