"""Runs and judgments for evaluation: document ids in order, and grades.

A run is ordered as in trec_eval: by descending score as float32, then by descending document id. If all candidates
of a query have ranks (JSONL from lbr), ties are ordered by rank instead. Without scores, the order is that of the
ranks, or else that of the lines.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lbr_cli.core import Candidate, Progress
from lbr_cli.datasets import load_dataset
from lbr_cli.errors import InputError
from lbr_cli.float32 import float32
from lbr_cli.formats import parse_run
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.qrels import TABLE_COLUMNS, Qrel, read_qrels
from lbr_cli.formats.similar_ids import similar
from lbr_cli.wording import first_few, pair_name

Judgments = Mapping[str, Mapping[str, int]]  # grade by query and document
EXAMPLES = 3  # ids in a hint
MAX_GRADE = 10_000  # the run time of trec_eval's code grows with the highest grade


@dataclass(frozen=True, slots=True)
class Run:
    """A named run: document ids by query id, best first.

    `candidates` by query and document, and the texts of `queries`, are empty unless `read_run` kept them.
    """

    name: str
    rankings: Mapping[str, Sequence[str]]
    candidates: Mapping[str, Mapping[str, Candidate]] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)


class _Entry(NamedTuple):
    """The score and the rank of a candidate, and the number of its line."""

    line: int
    score: float | None
    rank: int | None


def read_run(path: str, *, keep: bool = False) -> Run:
    """Read a run in any format that `lbr rerank` reads. `keep` also keeps its candidates and the texts of its queries.

    Raises InputError for a file that cannot be read, and for a duplicate pair, which trec_eval rejects, too.
    """
    name = display_name(path)
    entries: dict[str, dict[str, _Entry]] = {}
    candidates: dict[str, dict[str, Candidate]] = {}
    queries: dict[str, str] = {}
    for line in parse_run(InputFiles().open(path))[1]:
        candidate, query_id = line.candidate, line.query.query_id
        if candidate is None:
            continue
        entry = _Entry(line.number, candidate.score, candidate.rank)
        first = entries.setdefault(query_id, {}).setdefault(candidate.doc_id, entry)
        if first is not entry:
            pair = pair_name(query_id, candidate.doc_id)
            hint = "remove one of the two lines; trec_eval rejects such a run"
            raise InputError(f"{pair}: duplicate pair, first at {name}:{first.line}", name, line.number, hint=hint)
        if keep:
            candidates.setdefault(query_id, {})[candidate.doc_id] = candidate
            if line.query.text is not None:
                queries[query_id] = line.query.text
    if not entries:
        raise InputError("holds no candidates", name)
    rankings = {query_id: _order(of_query) for query_id, of_query in entries.items()}
    return Run(printable_name(name), rankings, candidates, queries)


def _order(entries: Mapping[str, _Entry]) -> list[str]:
    scores = {doc_id: float32(entry.score) for doc_id, entry in entries.items() if entry.score is not None}
    ranks = {doc_id: entry.rank for doc_id, entry in entries.items() if entry.rank is not None}
    by_rank = sorted(entries, key=ranks.__getitem__) if len(ranks) == len(entries) else None
    if len(scores) < len(entries):
        return by_rank or list(entries)
    return sorted(by_rank or sorted(entries, reverse=True), key=scores.__getitem__, reverse=True)  # stable


def read_judgments(path: str) -> Judgments:
    """Read judgments; queries and documents keep the order of the file.

    Raises InputError for a file that cannot be read, a pair with two grades, and a grade above `MAX_GRADE`.
    """
    return _judgments(read_qrels(InputFiles().open(path, columns=TABLE_COLUMNS)), display_name(path))


def judgments_of(qrels: str | None, dataset: str | None) -> tuple[Judgments, str]:
    """Return the judgments of a file or of a data set, as `read_judgments` does, and their name in messages."""
    if qrels is not None:
        return read_judgments(qrels), display_name(qrels)
    if dataset is None:
        raise ValueError("neither a qrels file nor a data set")
    name = f"{dataset} qrels"
    return _judgments(load_dataset(dataset).judgments(), name), name


def _judgments(qrels: Iterable[tuple[int, Qrel]], name: str) -> Judgments:
    judgments: dict[str, dict[str, int]] = {}
    for number, qrel in qrels:
        pair = pair_name(qrel.query_id, qrel.doc_id)
        grade = judgments.setdefault(qrel.query_id, {}).setdefault(qrel.doc_id, qrel.relevance)
        if grade != qrel.relevance:
            hint = "subtopics are unsupported: keep one judgment of each pair"
            raise InputError(f"{pair}: grade {qrel.relevance}, but {grade} in an earlier line", name, number, hint=hint)
        if grade > MAX_GRADE:
            raise InputError(f"{pair}: grade {grade}, the maximum is {MAX_GRADE}", name, number)
    if not judgments:
        raise InputError("holds no judgments", name)
    return judgments


def check_match(run: Run, judgments: Judgments, name: str, progress: Progress) -> None:
    """Raise InputError if a run and the judgments have no query in common. `name` is the file of the judgments.

    Warn of similar ids that do not match.
    """
    queries = similar(judgments, _not_in(judgments, run.rankings), name, run.name)
    if not any(query_id in judgments for query_id in run.rankings):
        hint = f"the run has {first_few(run.rankings, EXAMPLES)}; {name} has {first_few(judgments, EXAMPLES)}"
        message = f"none of {len(run.rankings)} queries is judged in {name}"
        raise InputError(message, run.name, hint=f"{hint}; {queries}" if queries else hint)
    if queries:
        progress.warn(f"{run.name}: similar query ids do not match: {queries}")
    for query_id, ranking in run.rankings.items():
        grades = judgments.get(query_id, {})
        ranked = set(ranking)
        if grades.keys() <= ranked:
            continue
        documents = similar(_not_in(ranked, grades), _not_in(grades, ranking), name, run.name)
        if documents:
            progress.warn(f"{run.name}: query {query_id}: similar document ids do not match: {documents}")
            break


def _not_in(known: Container[str], ids: Iterable[str]) -> Iterator[str]:
    return (text for text in ids if text not in known)


def printable_name(name: str) -> str:
    """Return a file name without characters that cannot be printed, drawn or stored as JSON."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
