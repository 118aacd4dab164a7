"""The measures that lbr computes itself, because pytrec_eval differs from trec_eval 10.

Interpolated precision: pytrec_eval is built on trec_eval 9, which rounded the number of relevant documents at a recall
differently. Counts of judgments: pytrec_eval leaves out the queries that are missing from a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

# (measure, ranking of a query, grades of the query) -> value
Formula = Callable[[Any, Sequence[str], Mapping[str, int]], float]


def interpolated_precision(measure: Any, ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """Return IPrec@r: the highest precision at any rank where the recall is at least r.

    r·R is rounded to a whole number of documents, halves up (trec_eval 10, m_iprec_at_recall.c).
    """
    least = measure["rel"]
    if measure["judged_only"]:
        ranking = [doc_id for doc_id in ranking if grades.get(doc_id, -1) >= 0]
    needed = math.floor(measure["recall"] * sum(grade >= least for grade in grades.values()) + 0.5)
    relevant = accumulate(grades.get(doc_id, 0) >= least for doc_id in ranking)
    return max((count / rank for rank, count in enumerate(relevant, 1) if count >= needed), default=0.0)


def number_relevant(measure: Any, ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """Return NumRel: the number of documents that are judged relevant."""
    least: int = measure["rel"]
    return sum(grade >= least for grade in grades.values())


def number_of_queries(measure: Any, ranking: Sequence[str], grades: Mapping[str, int]) -> float:
    """Return NumQ: 1 for each judged query."""
    return 1.0


OWN: dict[str, Formula] = {"IPrec": interpolated_precision, "NumRel": number_relevant, "NumQ": number_of_queries}
