"""What the page tells, as plain values: measures, curves, each query's rankings, and the texts of their documents.

Documents are told once, by their number. Texts take what `ROOM` leaves them: where there is more, those of documents
near the top and of relevant ones come first, and all are cut at the same length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lbr_cli.core import Document
from lbr_cli.evaluation import Evaluation
from lbr_cli.evaluation.measures import Curve
from lbr_cli.evaluation.runs import Judgments, Run
from lbr_cli.evaluation.significance import interval
from lbr_cli.float32 import round_trip_number
from lbr_cli.report.data import weight

ROOM = 13_500_000  # bytes of all that is told, so that a page stays below 15 MB
LEAST_ROOM = 1_000_000  # for texts, however much the lists and titles take
TOP = 10
DIGITS = 7


@dataclass(frozen=True, slots=True)
class Texts:
    """What is known of queries and documents, by their ids."""

    queries: Mapping[str, str]
    documents: Mapping[str, Document]


@dataclass(frozen=True, slots=True)
class Judged:
    """What judgments say of the runs: `measures` are those that are told of each query, `curves` are drawn."""

    judgments: Judgments
    evaluation: Evaluation
    measures: Sequence[str]
    curves: Sequence[Curve]


def story(runs: Sequence[Run], texts: Texts, depth: int, judged: Judged | None = None) -> dict[str, Any]:
    """The whole of it; without judgments there are no measures. The first run is the one before.

    Of each query the first `depth` documents of each run are told.
    """
    numbers = _Numbers()
    queries = [_query(query_id, runs, texts, depth, judged, numbers) for query_id in _queries(runs, judged)]
    return {
        "runs": [run.name for run in runs],
        "depth": depth,
        "judged": len(judged.judgments) if judged else 0,
        "coverage": _coverage(judged) if judged else [],
        "measures": _measures(judged) if judged else [],
        "curves": _curves(judged) if judged else [],
        "queries": queries,
        "documents": _documents(numbers, texts, ROOM - weight(queries)),
    }


class _Numbers:
    """The documents that the page shows, by numbers from 0, with the best place that each has in any list."""

    def __init__(self) -> None:
        self.best: dict[str, int] = {}
        self._of: dict[str, int] = {}

    def of(self, doc_id: str, place: int) -> int:
        self.best[doc_id] = min(place, self.best.get(doc_id, place))
        return self._of.setdefault(doc_id, len(self._of))

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)


def _queries(runs: Sequence[Run], judged: Judged | None) -> list[str]:
    """The queries of any run, in the order of the first that has them, and those that are judged and in none."""
    asked = [query_id for run in runs for query_id in run.rankings]
    return list(dict.fromkeys([*asked, *(judged.judgments if judged else ())]))


def _query(
    query_id: str, runs: Sequence[Run], texts: Texts, depth: int, judged: Judged | None, numbers: _Numbers
) -> dict[str, Any]:
    places = [{doc_id: place for place, doc_id in enumerate(run.rankings.get(query_id, ()))} for run in runs]
    lists = []
    for run, of_run in zip(runs, places, strict=True):
        lines = []
        for doc_id in list(of_run)[:depth]:
            candidate = run.candidates[query_id][doc_id]
            score = None if candidate.score is None else round_trip_number(candidate.score)
            details = _details(candidate.extra or {}, texts.documents.get(doc_id))
            line = [numbers.of(doc_id, of_run[doc_id]), score, places[0].get(doc_id)]
            lines.append([*line, details] if details else line)
        lists.append(lines)
    told: dict[str, Any] = {"id": query_id, "text": texts.queries.get(query_id), "lists": lists}
    if judged is not None:
        grades = judged.judgments.get(query_id)
        told["grades"] = None if grades is None else _grades(grades, places, numbers)
        told["values"] = [
            None if grades is None else [round(run.values[name][query_id], 6) for run in judged.evaluation.runs]
            for name in judged.measures
        ]
    return told


def _grades(grades: Mapping[str, int], places: Sequence[Mapping[str, int]], numbers: _Numbers) -> list[list[Any]]:
    """Number, grade and, of relevant ones, the place in each run: of documents that are shown or relevant."""
    told: list[list[Any]] = []
    for doc_id, grade in grades.items():
        if grade > 0:
            told.append([numbers.of(doc_id, TOP), grade, [of_run.get(doc_id) for of_run in places]])
        elif doc_id in numbers.best:
            told.append([numbers.of(doc_id, 2 * TOP), grade])
    return told


def _details(extra: Mapping[str, Any], document: Document | None) -> dict[str, Any]:
    """What `--explain` has put into a line, as far as it is of the form that it has there, and of this text.

    Of a mean over passages it is what was said of the best one.
    """
    told: dict[str, Any] = {}
    passage = extra["passage"] if isinstance(extra.get("passage"), dict) else {}
    said = {**passage, **extra}
    digits = said.get("digits")
    if isinstance(digits, list) and len(digits) == DIGITS and all(map(_is_number, digits)):
        told["digits"] = [round(float(share), 4) for share in digits]
    for name in ("mass", "probability", "reranker_score"):
        if _is_number(said.get(name)):
            told[name] = round_trip_number(float(said[name]))
    if extra.get("truncated") is True:
        told["truncated"] = True
    span = None if document is None else _span(passage, document.text)
    if span is not None:
        told["passage"] = span
    return told


def _span(passage: Mapping[str, Any], text: str) -> list[int] | None:
    """Where a passage begins and ends in a text, in characters; None where it is not of this text."""
    start, part = passage.get("start"), passage.get("text")
    if type(start) is int and start >= 0 and isinstance(part, str) and text.startswith(part, start):
        return [start, start + len(part)]
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _documents(numbers: _Numbers, texts: Texts, room: int) -> list[list[Any]]:
    """Id, title, text, and 1 where it is cut; the id alone where nothing else is known. `room` counts bytes."""
    rows: list[list[Any]] = []
    for doc_id in numbers:
        document = texts.documents.get(doc_id)
        rows.append([doc_id] if document is None else [doc_id, document.title, document.text])
    room = max(room - sum(weight(row[:2]) for row in rows), LEAST_ROOM)
    known = [(row, numbers.best[row[0]]) for row in rows if len(row) > 1]
    for some in ([row for row, best in known if best <= 2 * TOP], [row for row, best in known if best > 2 * TOP]):
        sizes = [weight(row[2]) for row in some]
        limit = _fitting([len(row[2]) for row in some], sizes, room)
        for row, size in zip(some, sizes, strict=True):
            if len(row[2]) > limit:
                room -= int(size * limit / len(row[2]))
                row[2:] = [row[2][:limit], 1]
            else:
                room -= size
    return rows


def _fitting(lengths: Sequence[int], sizes: Sequence[int], room: int) -> int:
    """The length at which texts, of so many characters and bytes, are cut so that they fit together."""

    def needed(limit: int) -> float:
        return sum(size * min(length, limit) / max(length, 1) for length, size in zip(lengths, sizes, strict=True))

    low, high = 0, max(lengths, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= room else (low, middle - 1)
    return low


def _measures(judged: Judged) -> list[dict[str, Any]]:
    """Each measure of each run: the mean and its interval, and the same of its distance to the first run."""
    evaluation = judged.evaluation
    told = []
    for name in judged.measures:
        first = list(evaluation.runs[0].values[name].values())
        rows = []
        for run in evaluation.runs:
            values = list(run.values[name].values())
            row: dict[str, Any] = {"value": run.means[name]}
            if name not in evaluation.counts:
                row["interval"] = interval(values)
            if run is not evaluation.runs[0]:
                compared = run.comparisons[name]
                row |= {"change": evaluation.change(run, name), "p": compared.p_holm}
                row["counts"] = [compared.wins, compared.ties, compared.losses]
                if name not in evaluation.counts:
                    row["change_interval"] = interval([b - a for a, b in zip(first, values, strict=True)])
            rows.append(row)
        told.append({"name": name, "digits": 0 if name in evaluation.counts else 4, "rows": rows})
    return told


def _coverage(judged: Judged) -> list[list[float]]:
    """Of each run: judged queries that it lacks, queries that are not judged, the share of judged in its top."""
    told = (run.coverage for run in judged.evaluation.runs)
    return [[coverage.missing, coverage.unjudged, coverage.judged_share] for coverage in told]


def _curves(judged: Judged) -> list[dict[str, Any]]:
    return [
        {
            "name": curve.name,
            "axis": curve.axis,
            "at": list(curve.measures),
            "runs": [[run.means[name] for name in curve.measures.values()] for run in judged.evaluation.runs],
        }
        for curve in judged.curves
    ]
