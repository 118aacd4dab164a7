"""Runs and judgments as an evaluation needs them: document ids in order, and grades.

A run is in the order that trec_eval sees: by score, kept as float32, and where scores are equal by document id, the
greater first. JSONL has no such custom, and lbr's own has ranks that say which of two equal scores comes first: they
are heard. Without scores it is the order of ranks, or that of the lines.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lbr_cli.core import Candidate, Progress
from lbr_cli.errors import InputError
from lbr_cli.float32 import float32
from lbr_cli.formats import parse_run
from lbr_cli.formats.files import display_name
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.qrels import read_qrels
from lbr_cli.formats.similar_ids import similar
from lbr_cli.wording import first_few, pair_name

Judgments = Mapping[str, Mapping[str, int]]  # grade by query and document
EXAMPLES = 3
HIGHEST = 10_000  # trec_eval's code counts up to the highest grade, and again for each


@dataclass(frozen=True, slots=True)
class Run:
    """Document ids by query id, the best first, and what the run is called.

    `candidates`, by query and document, and `queries`, their texts, are what the lines said, where that was kept.
    """

    name: str
    rankings: Mapping[str, Sequence[str]]
    candidates: Mapping[str, Mapping[str, Candidate]] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)


class _Said(NamedTuple):
    """What a line says of its document."""

    line: int
    score: float | None
    rank: int | None


def read_run(path: str, *, keep: bool = False) -> Run:
    """The run at `path`, in any format that `lbr rerank` reads; `keep` keeps what its lines say besides.

    Raises InputError for what cannot be read, and for a pair that stands twice, as trec_eval does.
    """
    name = display_name(path)
    found: dict[str, dict[str, _Said]] = {}
    candidates: dict[str, dict[str, Candidate]] = {}
    queries: dict[str, str] = {}
    for line in parse_run(InputFiles().open(path))[1]:
        candidate, query_id = line.candidate, line.query.query_id
        said = _Said(line.number, candidate.score, candidate.rank)
        first = found.setdefault(query_id, {}).setdefault(candidate.doc_id, said)
        if first is not said:
            pair = pair_name(query_id, candidate.doc_id)
            hint = "keep one of the two; trec_eval takes none of such a run"
            raise InputError(f"{pair}: duplicate pair, first at {name}:{first.line}", name, line.number, hint=hint)
        if keep:
            candidates.setdefault(query_id, {})[candidate.doc_id] = candidate
            if line.query.text is not None:
                queries[query_id] = line.query.text
    if not found:
        raise InputError("holds no candidates", name)
    rankings = {query_id: _order(documents) for query_id, documents in found.items()}
    return Run(_shown(name), rankings, candidates, queries)


def _order(documents: Mapping[str, _Said]) -> list[str]:
    scores = {doc_id: float32(said.score) for doc_id, said in documents.items() if said.score is not None}
    ranks = {doc_id: said.rank for doc_id, said in documents.items() if said.rank is not None}
    ranked = len(ranks) == len(documents)
    if len(scores) < len(documents):
        return sorted(documents, key=ranks.__getitem__) if ranked else list(documents)
    order = sorted(documents, key=ranks.__getitem__) if ranked else sorted(documents, reverse=True)
    return sorted(order, key=scores.__getitem__, reverse=True)  # which leaves equal ones as they are


def read_judgments(path: str) -> Judgments:
    """The grades of a file of judgments, whose order queries and documents keep.

    Raises InputError for what cannot be read, for a pair with two grades, and for a grade beyond all custom.
    """
    name = display_name(path)
    judgments: dict[str, dict[str, int]] = {}
    for number, qrel in read_qrels(InputFiles().open(path)):
        pair = pair_name(qrel.query_id, qrel.doc_id)
        grade = judgments.setdefault(qrel.query_id, {}).setdefault(qrel.doc_id, qrel.relevance)
        if grade != qrel.relevance:
            hint = "subtopics are not told apart: keep one judgment of a pair"
            raise InputError(f"{pair}: grade {qrel.relevance}, and {grade} further up", name, number, hint=hint)
        if grade > HIGHEST:
            raise InputError(f"{pair}: grade {grade}, and {HIGHEST} is the highest allowed", name, number)
    if not judgments:
        raise InputError("holds no judgments", name)
    return judgments


def check_match(run: Run, judgments: Judgments, name: str, progress: Progress) -> None:
    """InputError for a run and judgments, of the file `name`, that have no query in common.

    Warns of ids of the two that look alike and do not match.
    """
    queries = similar(judgments, _others(run.rankings, judgments), name, run.name)
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
        documents = similar(_others(grades, ranked), _others(ranking, grades), name, run.name)
        if documents:
            progress.warn(f"{run.name}: query {query_id}: similar document ids do not match: {documents}")
            break


def _others(ids: Iterable[str], known: Container[str]) -> Iterator[str]:
    return (text for text in ids if text not in known)


def _shown(name: str) -> str:
    """A file's name as it can be printed, drawn and put into JSON."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
