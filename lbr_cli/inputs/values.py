"""Rankings from Python values, with the rules of a run that is read from a file.

Messages name the argument: "run:3" is the third ranking of `run`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

from lbr_cli.core import Candidate, Document, Progress, Query, Ranking
from lbr_cli.errors import InputError
from lbr_cli.float32 import as_float
from lbr_cli.formats import Line
from lbr_cli.formats.similar_ids import similar
from lbr_cli.inputs.groups import CandidateGroup, DuplicateCount
from lbr_cli.inputs.locations import Locations
from lbr_cli.wording import first_few, pair_name

RUN, QUERIES, DOCUMENTS, TEXTS = "run", "queries", "documents", "texts"  # names of arguments
Run = Mapping[str, Mapping[str, float]]
Texts = Mapping[str, "str | Mapping[str, Any] | Document"]


def ranking_of_texts(query: object, texts: Iterable[object]) -> Ranking:
    """Return the ranking of `texts` for a query; the id of a text is its index. InputError for an invalid text."""
    if isinstance(texts, str | bytes | Mapping) or not isinstance(texts, Iterable):
        raise InputError(f"has to be a list of strings, not {type(texts).__name__}", TEXTS)
    documents = [Document(str(index), checked_text(text, f"{TEXTS}, item {index}")) for index, text in enumerate(texts)]
    candidates = [Candidate(document.doc_id, document) for document in documents]
    return Ranking(Query("1", checked_text(query, "query")), candidates)


def merged_rankings(run: Iterable[Ranking], progress: Progress) -> list[Ranking]:
    """Return the rankings of a run, merged by query, with each document once.

    Duplicate pairs are merged with a warning. InputError for a query or a document without a text, or with two.
    """
    if isinstance(run, str | bytes) or not isinstance(run, Iterable):
        raise InputError(f"has to hold objects of the type Ranking, not {type(run).__name__}", RUN)
    duplicates = DuplicateCount(Locations(RUN), "warn")
    groups: dict[str, CandidateGroup] = {}
    for number, ranking in enumerate(run, 1):
        if not isinstance(ranking, Ranking):
            raise InputError(f"has to be a Ranking, not {type(ranking).__name__}", f"{RUN}:{number}")
        query_id = checked_text(ranking.query.query_id, f"{RUN}:{number}: query id")
        group = groups.setdefault(query_id, CandidateGroup(ranking.query, number))
        for line in _lines(ranking, number):
            group.add(line, duplicates)
    duplicates.warn(progress)
    for group in groups.values():
        group.check_texts(RUN)
    return [Ranking(group.query, tuple(group.candidates.values())) for group in groups.values()]


def joined_rankings(run: Run, queries: Mapping[str, str], documents: Texts) -> Iterator[Ranking]:
    """Yield the rankings of a run with the texts of its queries and documents.

    InputError for an invalid value, and for queries and documents that are not found.
    """
    for name, value in ((QUERIES, queries), (DOCUMENTS, documents)):
        if not isinstance(value, Mapping):
            raise InputError(f"has to be a mapping from ids to texts, not {type(value).__name__}", name)
    scores = {query_id: _scores(query_id, candidates) for query_id, candidates in run.items()}
    _check_found(scores, queries, QUERIES)
    _check_found({doc_id: None for candidates in scores.values() for doc_id in candidates}, documents, DOCUMENTS)
    for query_id, candidates in scores.items():
        query = Query(query_id, checked_text(queries[query_id], f"{QUERIES}: query {query_id}"))
        yield Ranking(
            query, [Candidate(doc_id, _document(doc_id, documents), score) for doc_id, score in candidates.items()]
        )


def checked_text(value: object, location: str) -> str:
    """Return a text. InputError if it is not a string, or not valid Unicode."""
    if not isinstance(value, str):
        raise InputError(f"has to be a string, not {type(value).__name__}", location)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"lone surrogate at character {error.start}: not valid Unicode", location) from error
    return value


def _lines(ranking: Ranking, number: int) -> Iterator[Line]:
    """Yield the candidates of one ranking, checked."""
    location, query = f"{RUN}:{number}", ranking.query
    if query.text is not None:
        checked_text(query.text, f"{location}: query {query.query_id}")
    for candidate in ranking.candidates:
        pair = pair_name(query.query_id, checked_text(candidate.doc_id, f"{location}: document id"))
        if candidate.document is not None:
            checked_text(candidate.document.text, f"{location}: {pair}: text")
            checked_text(candidate.document.title, f"{location}: {pair}: title")
        for value in (candidate.score, candidate.rank):
            if value is not None:
                _number(value, f"{location}: {pair}")
        yield Line(number, query, candidate, False)


def _scores(query_id: object, candidates: object) -> dict[str, float]:
    """Return the first-stage scores of a query by document id, checked."""
    query = f"{RUN}: query {checked_text(query_id, f'{RUN}: query id')}"
    if not isinstance(candidates, Mapping):
        raise InputError(f"has to be a mapping from document ids to scores, not {type(candidates).__name__}", query)
    return {
        checked_text(doc_id, f"{query}: document id"): _number(score, f"{query}, document {doc_id}")
        for doc_id, score in candidates.items()
    }


def _number(value: object, location: str) -> float:
    """Return a score or rank of the first stage. InputError if it is not a finite number."""
    number: object = as_float(value) if isinstance(value, Real) and not isinstance(value, bool) else value
    if not isinstance(number, float) or not math.isfinite(number):
        raise InputError(f"score and rank have to be finite numbers, not {number!r}", location)
    return number


def _check_found(wanted: Mapping[str, object], texts: Mapping[str, object], argument: str) -> None:
    """Raise InputError, with counts and examples, if ids of the run have no text."""
    missing = [key for key in wanted if key not in texts]
    if missing:
        similar_ids = similar(missing, (key for key in texts if isinstance(key, str)), RUN, argument)
        message = f"{len(missing)} of {len(wanted)} ids of the run not found: {first_few(missing)}"
        raise InputError(f"{message}; {similar_ids}" if similar_ids else message, argument)


def _document(doc_id: str, documents: Texts) -> Document:
    """Return a document from its text, or from an object with `text` and `title`."""
    text: object
    title: object
    value, location = documents[doc_id], f"{DOCUMENTS}: document {doc_id}"
    if isinstance(value, Document):
        text, title = value.text, value.title
    elif isinstance(value, Mapping):
        text, title = value.get("text"), value.get("title")
    else:
        text, title = value, None
    return Document(doc_id, checked_text(text, location), checked_text(title or "", f"{location}: title"))
