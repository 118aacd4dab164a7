"""Fuse several runs: the union of the candidates of each query, scored by reciprocal rank fusion."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from lbr_cli.core import Candidate
from lbr_cli.inputs.groups import CandidateGroup, Groups
from lbr_cli.inputs.locations import Locations
from lbr_cli.ordering import FUSION_UNITS, first_stage_order, reciprocal_rank


class Fusion:
    """The fused candidates of the runs added so far, by query.

    The score of a document is the sum of 1 / (k + rank) over the runs that have it, where a rank is a position in the
    first-stage order of a run. Candidates are in the order of the first run, followed by those that the next run adds,
    in its order; ties are ranked in this order.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._runs: Counter[str] = Counter()  # the number of runs that have each query
        self._count = 0
        self._groups: Groups = {}  # with scores in `FUSION_UNITS`
        self.locations = Locations()

    @property
    def partial(self) -> int:
        """The number of queries that are not in every run."""
        return sum(runs < self._count for runs in self._runs.values())

    def add(self, groups: Groups, run: str, start: int) -> None:
        """Add the groups of a run, whose first line has the number `start` + 1. `groups` is emptied, to save memory.

        InputError if a query or a pair has another text in an earlier run.
        """
        self.locations.add(run, start)
        self._count += 1
        for query_id in list(groups):
            self._runs[query_id] += 1
            self._add(groups.pop(query_id), start)

    def fused(self) -> Groups:
        """Return the groups of all runs, with fused scores. Call it once: it converts the scores of the groups."""
        for group in self._groups.values():
            for doc_id, candidate in group.candidates.items():
                score = (candidate.score or 0) / FUSION_UNITS
                group.candidates[doc_id] = Candidate(doc_id, candidate.document, score, None, candidate.extra)
        return self._groups

    def _add(self, group: CandidateGroup, start: int) -> None:
        query, number = group.query, start + group.text_line
        fused = self._groups.get(query.query_id)
        if fused is None:
            fused = self._groups[query.query_id] = CandidateGroup(query, number, group.implied)
        else:
            fused.add_query(query, number, self.locations, implied=group.implied)
        lines = dict(zip(group.candidates, group.lines, strict=True))
        for rank, candidate in enumerate(first_stage_order([*group.candidates.values()]), 1):
            line = lines[candidate.doc_id]
            text_line = group.text_lines.get(candidate.doc_id, line)
            candidate = replace(candidate, score=reciprocal_rank(rank, self._k), rank=None)
            fused.merge(candidate, start + line, start + text_line, self.locations)
