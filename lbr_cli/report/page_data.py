"""The content of the page as plain values: measures, curves, the rankings of each query, and the texts.

Documents are numbered, so that each text is stored once. If the texts exceed `MAX_BYTES`, all are truncated to one
length; those of relevant documents and of documents near the top of a ranking are truncated last.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from lbr_cli.core import Document
from lbr_cli.evaluation import Evaluation
from lbr_cli.evaluation.measures import Curve
from lbr_cli.evaluation.runs import Judgments, Run
from lbr_cli.evaluation.significance import interval
from lbr_cli.float32 import round_trip_number
from lbr_cli.report.details import shown_details
from lbr_cli.report.html_json import html_json_size
from lbr_cli.report.matches import add_matches

MAX_BYTES = 13_500_000  # size of the content, so that a page stays below 15 MB
MIN_TEXT_BYTES = 1_000_000  # reserved for texts, even if rankings and titles are large
MAX_MATCH_BYTES = 4_000_000  # for the matched tokens of late interaction
TOP = 10  # texts below index 2 * TOP of all rankings are truncated first, unless they are relevant


@dataclass(frozen=True, slots=True)
class Texts:
    """The known texts of queries and documents, by their ids."""

    queries: Mapping[str, str]
    documents: Mapping[str, Document]


@dataclass(frozen=True, slots=True)
class PageMeasures:
    """Judgments and the evaluation of the runs. The page shows `measures` for each query, and draws `curves`."""

    judgments: Judgments
    evaluation: Evaluation
    measures: Sequence[str]
    curves: Sequence[Curve]


def page_data(
    runs: Sequence[Run],
    texts: Texts,
    depth: int,
    judged: PageMeasures | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the content of the page: the first `depth` documents of each query and run, and the measures if judged.

    The other runs are compared with the first. `warn` receives a message about details that cannot be shown.
    """
    documents = _DocumentIndex()
    judged_ids = judged.judgments if judged else ()
    # in the order of the first run that has them, then judged queries that are in no run
    query_ids = dict.fromkeys([*(query_id for run in runs for query_id in run.rankings), *judged_ids])
    queries = [_query(query_id, runs, texts, depth, judged, documents) for query_id in query_ids]
    space = MAX_BYTES - html_json_size(queries)
    # a third at most, because texts need most of the space
    matches_depth = add_matches(queries, runs, texts.documents, depth, min(space // 3, MAX_MATCH_BYTES), warn)
    return {
        "runs": [run.name for run in runs],
        "depth": depth,
        "matches_depth": matches_depth,
        "judged": len(judged_ids),
        "coverage": [astuple(run.coverage) for run in judged.evaluation.runs] if judged else [],
        "measures": _measures(judged) if judged else [],
        "curves": _curves(judged) if judged else [],
        "queries": queries,
        "documents": _documents(documents, texts, MAX_BYTES - html_json_size(queries)),
    }


class _DocumentIndex:
    """The numbers of the documents on the page, in order, and the best index of each in any ranking."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.best: dict[str, int] = {}

    def number(self, doc_id: str, index: int) -> int:
        """Return the number of a document that is at `index` of a ranking."""
        self.best[doc_id] = min(index, self.best.get(doc_id, index))
        return self.numbers.setdefault(doc_id, len(self.numbers))


def _query(
    query_id: str, runs: Sequence[Run], texts: Texts, depth: int, judged: PageMeasures | None, documents: _DocumentIndex
) -> dict[str, Any]:
    indexes = [{doc_id: index for index, doc_id in enumerate(run.rankings.get(query_id, ()))} for run in runs]
    rankings = []
    for run in runs:
        lines = []
        for index, doc_id in enumerate(run.rankings.get(query_id, ())[:depth]):
            candidate = run.candidates[query_id][doc_id]
            score = None if candidate.score is None else round_trip_number(candidate.score)
            details = shown_details(candidate.extra or {}, texts.documents.get(doc_id))
            line = [documents.number(doc_id, index), score, indexes[0].get(doc_id)]
            lines.append([*line, details] if details else line)
        rankings.append(lines)
    query: dict[str, Any] = {"id": query_id, "text": texts.queries.get(query_id), "lists": rankings}
    if judged is not None:
        grades, evaluated = judged.judgments.get(query_id), judged.evaluation.runs
        query["grades"] = None if grades is None else _grades(grades, indexes, documents)
        query["values"] = [
            None if grades is None else [round(run.values[name][query_id], 6) for run in evaluated]
            for name in judged.measures
        ]
    return query


def _grades(
    grades: Mapping[str, int], indexes: Sequence[Mapping[str, int]], documents: _DocumentIndex
) -> list[list[Any]]:
    """Return number and grade of each document that is shown or relevant; if relevant, also its index in each run."""
    rows: list[list[Any]] = []
    for doc_id, grade in grades.items():
        if grade > 0:
            rows.append([documents.number(doc_id, TOP), grade, [of_run.get(doc_id) for of_run in indexes]])
        elif doc_id in documents.numbers:
            rows.append([documents.number(doc_id, 2 * TOP), grade])
    return rows


def _documents(documents: _DocumentIndex, texts: Texts, space: int) -> list[list[Any]]:
    """Return id, title, text, and 1 if it is truncated; the id alone if the text is unknown. `space` is in bytes."""
    rows: list[list[Any]] = []
    for doc_id in documents.numbers:
        document = texts.documents.get(doc_id)
        rows.append([doc_id] if document is None else [doc_id, document.title, document.text])
    space = max(space - sum(html_json_size(row[:2]) for row in rows), MIN_TEXT_BYTES)
    known = [row for row in rows if len(row) > 1]
    for is_low in (False, True):
        group = [row for row in known if (documents.best[row[0]] > 2 * TOP) is is_low]
        sizes = [html_json_size(row[2]) for row in group]
        limit = _common_length([len(row[2]) for row in group], sizes, space)
        for row, size in zip(group, sizes, strict=True):
            if len(row[2]) > limit:
                space -= int(size * limit / len(row[2]))
                row[2:] = [row[2][:limit], 1]
            else:
                space -= size
    return rows


def _common_length(lengths: Sequence[int], sizes: Sequence[int], space: int) -> int:
    """Return the largest maximum length for which all texts fit; `lengths` are in characters, `sizes` in bytes."""

    def needed(limit: int) -> int:
        sizes_within = (size * min(n, limit) / max(n, 1) for n, size in zip(lengths, sizes, strict=True))
        return math.ceil(sum(sizes_within))

    return bisect.bisect_right(range(max(lengths, default=0) + 1), space, key=needed) - 1


def _measures(judged: PageMeasures) -> list[dict[str, Any]]:
    """Return for each measure and run the mean and its difference from the first run, with confidence intervals."""
    evaluation = judged.evaluation
    measures = []
    for name in judged.measures:
        is_count = name in evaluation.counts
        first = list(evaluation.runs[0].values[name].values())
        rows = []
        for run in evaluation.runs:
            values = list(run.values[name].values())
            row: dict[str, Any] = {"value": run.means[name]}
            if not is_count:
                row["interval"] = interval(values)
            if run is not evaluation.runs[0]:
                comparison = run.comparisons[name]
                row |= {"change": evaluation.change(run, name), "p": comparison.p_holm}
                row["counts"] = [comparison.wins, comparison.ties, comparison.losses]
                if not is_count:
                    row["change_interval"] = interval([b - a for a, b in zip(first, values, strict=True)])
            rows.append(row)
        measures.append({"name": name, "digits": 0 if is_count else 4, "rows": rows})
    return measures


def _curves(judged: PageMeasures) -> list[dict[str, Any]]:
    return [
        {
            "name": curve.name,
            "axis": curve.axis,
            "at": list(curve.measures),
            "runs": [[run.means[name] for name in curve.measures.values()] for run in judged.evaluation.runs],
        }
        for curve in judged.curves
    ]
