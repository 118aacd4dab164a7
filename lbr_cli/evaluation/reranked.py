"""Read a run that `lbr rerank` wrote as JSONL: the scores of both stages, to interpolate them again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lbr_cli.core import Candidate, Progress
from lbr_cli.errors import InputError
from lbr_cli.evaluation.runs import Run, printable_name
from lbr_cli.float32 import float32
from lbr_cli.formats import Line, parse_run
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.json_lines import Record, bad_type
from lbr_cli.ordering import first_stage_order, interpolated, score_order
from lbr_cli.wording import counted, first_few, pair_name

HINT = "lbr rerank -o FILE.jsonl writes the scores of both stages"
RERANKER_SCORE = "reranker_score"  # with --explain: the score of the model, beside the interpolated score
FIRST_SCORE, FIRST_RANK = "first_stage_score", "first_stage_rank"


class _Scores(NamedTuple):
    """The scores of a candidate in both stages, its rank in the first stage, and the number of its line."""

    doc_id: str
    first_stage: float | None
    rank: int | None
    model: float | None
    line: int


@dataclass(slots=True)
class _Query:
    """The documents of a query in first-stage order, the indexes of the scored ones, and the scores of both stages."""

    documents: list[str] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    first_stage: list[float] = field(default_factory=list)
    model: list[float] = field(default_factory=list)

    def ranking(self, weight: float) -> list[str]:
        values = map(float32, interpolated(self.first_stage, self.model, weight))
        order = score_order(dict(zip(self.scored, values, strict=True)), len(self.documents))
        return [self.documents[index] for index in order]


@dataclass(frozen=True, slots=True)
class RerankedRun:
    """A run with the scores of both stages, by query."""

    name: str
    queries: Mapping[str, _Query]

    def interpolated(self, weight: float, queries: Sequence[str] | None = None) -> Run:
        """Return the run that `lbr rerank --interpolate` writes with a weight, for all queries or for `queries`."""
        chosen = self.queries if queries is None else queries
        return Run(self.name, {query_id: self.queries[query_id].ranking(weight) for query_id in chosen})


def read_reranked(path: str, progress: Progress) -> RerankedRun:
    """Read a reranked run.

    Raises InputError for a file of another format, a duplicate pair, and a candidate without the scores of both stages.
    Warns of queries with missing candidates.
    """
    name = display_name(path)
    format_, lines = parse_run(InputFiles().open(path))
    if format_.name != "jsonl":
        raise InputError(f"format {format_.name}, and only JSONL has the scores of both stages", name, hint=HINT)
    by_query: dict[str, dict[str, _Scores]] = {}
    reader = _Reader(name)
    for line in lines:
        if line.candidate is None:  # only in training data
            continue
        scores = reader.read(line, line.candidate)
        first = by_query.setdefault(line.query.query_id, {}).setdefault(scores.doc_id, scores)
        if first is not scores:
            pair = pair_name(line.query.query_id, scores.doc_id)
            raise InputError(f"{pair}: duplicate pair, first at {name}:{first.line}", name, line.number)
    if not reader.has_scores:
        raise InputError("no candidate has a score of the model", name, 1, hint=HINT)
    incomplete = [query_id for query_id, scores in by_query.items() if _is_incomplete(scores.values())]
    if incomplete:
        affected = f"{counted(len(incomplete), 'query', 'queries')} with missing candidates: {first_few(incomplete)}"
        progress.warn(f"{name}: {affected}; the best weight for all candidates may differ: rerank without --top-k")
    queries = {query_id: _query([*scores.values()]) for query_id, scores in by_query.items()}
    return RerankedRun(printable_name(name), queries)


def _is_incomplete(scores: Collection[_Scores]) -> bool:
    """Return whether ranks of the first stage are missing, as in a run that was written with `--top-k`."""
    ranks = {candidate.rank for candidate in scores}
    return None not in ranks and ranks != set(range(1, len(scores) + 1))


def _query(scores: list[_Scores]) -> _Query:
    """Return the candidates in first-stage order: by rank if all have one, else by score."""
    if all(candidate.rank is not None for candidate in scores):
        ordered = sorted(scores, key=lambda candidate: candidate.rank or 0)
    else:
        by_id = {candidate.doc_id: candidate for candidate in scores}
        candidates = [Candidate(candidate.doc_id, score=candidate.first_stage) for candidate in scores]
        ordered = [by_id[candidate.doc_id] for candidate in first_stage_order(candidates)]
    query = _Query([candidate.doc_id for candidate in ordered])
    for index, candidate in enumerate(ordered):
        if candidate.model is not None and candidate.first_stage is not None:
            query.scored.append(index)
            query.first_stage.append(candidate.first_stage)
            query.model.append(float32(candidate.model))
    return query


class _Reader:
    """Reads the scores of the lines of one file, which either all have a `RERANKER_SCORE`, or none."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_interpolated: bool | None = None
        self._first_line = 0  # the first line with a score of the model

    @property
    def has_scores(self) -> bool:
        return self._is_interpolated is not None

    def read(self, line: Line, candidate: Candidate) -> _Scores:
        record = Record(candidate.extra or {}, self._name, line.number)
        model, first_stage = candidate.score, record.number([FIRST_SCORE])
        if model is not None:
            model = self._model_score(record, model)
        rank = record.number([FIRST_RANK])
        if rank is not None and rank != int(rank):
            raise record.error(bad_type(FIRST_RANK, "an integer", rank))
        if first_stage is None and (model is not None or rank is None):
            pair = pair_name(line.query.query_id, candidate.doc_id)
            raise record.error(f"{pair}: {FIRST_SCORE} is missing", HINT)
        return _Scores(candidate.doc_id, first_stage, None if rank is None else int(rank), model, line.number)

    def _model_score(self, record: Record, score: float) -> float:
        """Return the score of the model, which is not `score` in an interpolated run."""
        model = record.number([RERANKER_SCORE])
        if self._is_interpolated is None:
            self._is_interpolated, self._first_line = model is not None, record.line
        elif self._is_interpolated != (model is not None):
            is_missing, others = ("missing", "has one") if model is None else ("present", "has none")
            message = f"{RERANKER_SCORE} is {is_missing}, and line {self._first_line} {others}"
            raise record.error(message, "do not join runs with and without --interpolate")
        return score if model is None else model
