"""Ranking -> Scored lines: whom to score, in which order they come out, and what becomes of the rest.

First-stage order is by score, descending, where all candidates of a query have one; else by rank where all have one;
else by place. Scores are compared as the float32 values that are written; ties keep first-stage order. What was not
scored (below the depth, or without a text) follows in first-stage order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbr_cli.core import Candidate, Document, Query, Ranking, Score, Scored
from lbr_cli.errors import InputError
from lbr_cli.numbers import as_written, float32
from lbr_cli.passages import Passages
from lbr_cli.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Method:
    """How a ranking is made anew.

    `depth` and `top_k` are how many candidates of a query are scored, and how many are written; None is all.
    `passages` None reads a document as a whole. `interpolate` is the weight, from 0 to 1, that first-stage scores have
    beside those of the model; None leaves them out.
    """

    depth: int | None = None
    top_k: int | None = None
    passages: Passages | None = None
    interpolate: float | None = None


def rerank(
    rankings: Iterable[Ranking], scorer: Scorer, method: Method = Method()
) -> Iterator[tuple[Query, list[Scored]]]:
    """Each query with its candidates in their new order, as soon as it is done, in the order of `rankings`.

    Raises InputError for a candidate without the first-stage score that `method` asks for.
    """
    for ranking in rankings:
        ordered = first_stage_order(ranking.candidates)
        chosen = _to_score(ranking.query, ordered, method)
        first_stage = _first_stage_scores(ranking.query, ordered, chosen) if method.interpolate is not None else []
        scores = _scores(ranking.query, chosen, scorer, method.passages)
        if method.interpolate is not None:
            scores = _interpolated(first_stage, scores, method.interpolate)
        scorer.tally.candidates += len(chosen)
        yield ranking.query, new_order(ordered, scores)[: method.top_k]
        scorer.tally.queries += 1
        scorer.listener.advance(queries=1)


def pairs_to_score(rankings: Iterable[Ranking], method: Method) -> Iterator[tuple[Query, Document]]:
    """The pairs that `rerank` will score; a passage makes one."""
    for ranking in rankings:
        # without a depth all are scored, and their order is of no matter here
        ordered = ranking.candidates if method.depth is None else first_stage_order(ranking.candidates)
        for document in _to_score(ranking.query, ordered, method).values():
            if method.passages is None:
                yield ranking.query, document
            else:
                for passage in method.passages.cut(document):
                    yield ranking.query, passage.document


def check_scores(ranking: Ranking, method: Method, file: str) -> None:
    """InputError for a candidate that lacks the first-stage score which `method` asks for."""
    if method.interpolate is not None:
        ordered = first_stage_order(ranking.candidates)
        _first_stage_scores(ranking.query, ordered, _to_score(ranking.query, ordered, method), file)


def _first_stage_scores(
    query: Query, ordered: Sequence[Candidate], places: Iterable[int], file: str = ""
) -> list[float]:
    scores = []
    for candidate in (ordered[place] for place in places):
        if candidate.score is None:
            pair = f"query {query.query_id}, document {candidate.doc_id}"
            hint = 'an MS MARCO run has ranks and no scores; JSONL has them as "score"'
            raise InputError(f"{pair}: no first-stage score, and --interpolate needs one", file, hint=hint)
        scores.append(candidate.score)
    return scores


def _to_score(query: Query, ordered: Sequence[Candidate], method: Method) -> dict[int, Document]:
    """The first `depth` candidates that have a text, by their places in first-stage order."""
    if query.text is None:
        return {}
    there = ((place, candidate.document) for place, candidate in enumerate(ordered))
    known = ((place, document) for place, document in there if document is not None)
    return dict(list(known)[: method.depth])


def _scores(
    query: Query, chosen: Mapping[int, Document], scorer: Scorer, passages: Passages | None
) -> dict[int, Score]:
    """The model's score of each document."""
    if passages is None:
        return dict(zip(chosen, scorer.score(query, list(chosen.values())), strict=True))
    cut = {place: passages.cut(document) for place, document in chosen.items()}
    scores = iter(scorer.score(query, [passage.document for parts in cut.values() for passage in parts]))
    return {place: passages.fold(parts, [next(scores) for _ in parts]) for place, parts in cut.items()}


def _interpolated(first_stage: Sequence[float], scores: Mapping[int, Score], weight: float) -> dict[int, Score]:
    """`weight` times the first-stage score and the rest of the model's, each brought to 0 … 1 over the query."""
    ours = normalised([score.value for score in scores.values()])
    theirs = normalised(first_stage)
    mixed = {}
    for (place, score), first, second in zip(scores.items(), theirs, ours, strict=True):
        detail = {"reranker_score": as_written(score.value), **score.detail}
        mixed[place] = Score(weight * first + (1 - weight) * second, detail, score.doubt)
    return mixed


def normalised(values: Sequence[float]) -> list[float]:
    """(v - min) / (max - min), or 0 for all where they are equal."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low == high:
        return [0.0] * len(values)
    unit = 1.0 if math.isfinite(high - low) else 0.5  # two floats may lie farther apart than a float holds
    return [(value * unit - low * unit) / (high * unit - low * unit) for value in values]


def first_stage_order(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates as the first stage ranked them. A rank beside a score is not trusted."""
    scores = [candidate.score for candidate in candidates if candidate.score is not None]
    ranks = [candidate.rank for candidate in candidates if candidate.rank is not None]
    if len(scores) == len(candidates):
        places = sorted(range(len(candidates)), key=lambda place: -scores[place])
    elif len(ranks) == len(candidates):
        places = sorted(range(len(candidates)), key=lambda place: ranks[place])
    else:
        return list(candidates)
    return [candidates[place] for place in places]


def new_order(ordered: Sequence[Candidate], scores: Mapping[int, Score]) -> list[Scored]:
    """`scores` by place in first-stage order -> the lines of the output."""
    values = {place: float32(score.value) for place, score in scores.items()}
    places = sorted(values, key=lambda place: (-values[place], place))
    places += [place for place in range(len(ordered)) if place not in values]
    return [
        Scored(
            candidate=ordered[place],
            first_stage_rank=place + 1,
            rank=rank,
            score=values.get(place),
            detail=scores[place].detail if place in scores else {},
        )
        for rank, place in enumerate(places, 1)
    ]
