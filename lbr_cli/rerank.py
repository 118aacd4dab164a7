"""Ranking -> Scored lines: whom to score, in which order they come out, and what becomes of the rest.

First-stage order is by score, descending, where all candidates of a query have one; else by rank where all have one;
else by place. Scores are compared as the float32 values that are written; ties keep first-stage order. What was not
scored (below the depth, or without a text) follows in first-stage order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lbr_cli.core import Candidate, Document, Query, Ranking, Score, Scored
from lbr_cli.numbers import float32
from lbr_cli.scoring import Scorer


@dataclass(frozen=True, slots=True)
class Cuts:
    """How many candidates of a query are scored, and how many are written; None is all."""

    depth: int | None = None
    top_k: int | None = None


def rerank(rankings: Iterable[Ranking], scorer: Scorer, cuts: Cuts = Cuts()) -> Iterator[tuple[Query, list[Scored]]]:
    """Each query with its candidates in their new order, as soon as it is done, in the order of `rankings`."""
    for ranking in rankings:
        ordered = first_stage_order(ranking.candidates)
        chosen = _to_score(ranking.query, ordered, cuts)
        scores = scorer.score(ranking.query, list(chosen.values()))
        yield ranking.query, new_order(ordered, dict(zip(chosen, scores, strict=True)))[: cuts.top_k]
        scorer.tally.queries += 1
        scorer.listener.advance(queries=1)


def pairs_to_score(rankings: Iterable[Ranking], cuts: Cuts) -> Iterator[tuple[Query, Document]]:
    """The pairs that `rerank` will score."""
    for ranking in rankings:
        # without a depth all are scored, and their order is of no matter here
        ordered = ranking.candidates if cuts.depth is None else first_stage_order(ranking.candidates)
        for document in _to_score(ranking.query, ordered, cuts).values():
            yield ranking.query, document


def _to_score(query: Query, ordered: Sequence[Candidate], cuts: Cuts) -> dict[int, Document]:
    """The first `depth` candidates that have a text, by their places in first-stage order."""
    if query.text is None:
        return {}
    there = ((place, candidate.document) for place, candidate in enumerate(ordered))
    known = ((place, document) for place, document in there if document is not None)
    return dict(list(known)[: cuts.depth])


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


def new_order(ordered: Sequence[Candidate], scores: dict[int, Score]) -> list[Scored]:
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
