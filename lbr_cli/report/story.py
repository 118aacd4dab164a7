"""What the page tells, as plain values: measures, curves, each query's rankings, and the texts of their documents.

Documents are told once, by their number. Texts take what `ROOM` leaves them: where there is more, those of documents
near the top and of relevant ones come first, and all are cut at the same length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from lbr_cli.core import Document
from lbr_cli.evaluation import Evaluation
from lbr_cli.evaluation.measures import Curve
from lbr_cli.evaluation.runs import Judgments, Run
from lbr_cli.evaluation.significance import interval
from lbr_cli.numbers import as_written

ROOM = 13_500_000  # bytes of all that is told, so that a page stays below 15 MB
LEAST_ROOM = 1_000_000  # of it for texts, however long the lists are
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
    queries = [_query(query_id, runs, texts, depth, judged, numbers) for query_id in _queries(runs)]
    room = max(ROOM - len(orjson.dumps(queries)), LEAST_ROOM)
    return {
        "runs": [run.name for run in runs],
        "depth": depth,
        "judged": len(judged.judgments) if judged else 0,
        "measures": _measures(judged) if judged else [],
        "curves": _curves(judged) if judged else [],
        "queries": queries,
        "documents": _documents(numbers, texts, room),
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


def _queries(runs: Sequence[Run]) -> list[str]:
    """The queries of any run, in the order of the first that has them."""
    return list(dict.fromkeys(query_id for run in runs for query_id in run.rankings))


def _query(
    query_id: str, runs: Sequence[Run], texts: Texts, depth: int, judged: Judged | None, numbers: _Numbers
) -> dict[str, Any]:
    lists = [
        [_line(run, query_id, doc_id, place, numbers) for place, doc_id in enumerate(_first(run, query_id, depth))]
        for run in runs
    ]
    told: dict[str, Any] = {"id": query_id, "text": texts.queries.get(query_id), "lists": lists}
    if judged is not None:
        grades = judged.judgments.get(query_id)
        told["grades"] = None if grades is None else _grades(grades, numbers)
        told["values"] = [
            None if grades is None else [round(run.values[name][query_id], 6) for run in judged.evaluation.runs]
            for name in judged.measures
        ]
    return told


def _grades(grades: Mapping[str, int], numbers: _Numbers) -> list[tuple[int, int]]:
    """Those of documents that are shown, and of relevant ones that are in no list."""
    return [
        (numbers.of(doc_id, 2 * TOP), grade) for doc_id, grade in grades.items() if grade > 0 or doc_id in numbers.best
    ]


def _first(run: Run, query_id: str, depth: int) -> Sequence[str]:
    return run.rankings.get(query_id, ())[:depth]


def _line(run: Run, query_id: str, doc_id: str, place: int, numbers: _Numbers) -> list[Any]:
    """Number of the document, its score, and what its line tells of the score besides."""
    candidate = run.candidates[query_id][doc_id]
    line: list[Any] = [numbers.of(doc_id, place), None if candidate.score is None else as_written(candidate.score)]
    details = _details(candidate.extra or {})
    return [*line, details] if details else line


def _details(extra: Mapping[str, Any]) -> dict[str, Any]:
    """What `--explain` has put into a line, as far as it is of the form that it has there."""
    told: dict[str, Any] = {}
    digits, passage = extra.get("digits"), extra.get("passage")
    if isinstance(digits, list) and len(digits) == DIGITS and all(map(_is_number, digits)):
        told["digits"] = [round(float(share), 4) for share in digits]
    for name in ("mass", "probability", "reranker_score"):
        if _is_number(extra.get(name)):
            told[name] = as_written(float(extra[name]))
    if extra.get("truncated") is True:
        told["truncated"] = True
    if isinstance(passage, dict) and isinstance(passage.get("start"), int) and isinstance(passage.get("text"), str):
        told["passage"] = [passage["start"], passage["start"] + len(passage["text"])]
    return told


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _documents(numbers: _Numbers, texts: Texts, room: int) -> list[list[Any]]:
    """Id, title, text, and 1 where it is cut; the id alone where nothing else is known. `room` counts bytes."""
    rows: list[list[Any]] = []
    for doc_id in numbers:
        document = texts.documents.get(doc_id)
        rows.append([doc_id] if document is None else [doc_id, document.title, document.text])
    room -= sum(len(orjson.dumps(row[:2])) for row in rows)
    known = [(row, numbers.best[row[0]]) for row in rows if len(row) > 1]
    for some in ([row for row, best in known if best <= 2 * TOP], [row for row, best in known if best > 2 * TOP]):
        sizes = [len(orjson.dumps(row[2])) for row in some]
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
        told.append({"name": name, "rows": rows})
    return told


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
