"""Rankings from Python values: joined and merged rankings, and the message of each invalid argument."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Candidate, Document, Query, Ranking
from lbr_cli.errors import InputError
from lbr_cli.inputs.values import joined_rankings, merged_rankings, ranking_of_texts
from support.progress import RecordedProgress

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
TEXT = Document("d1", "tea")


def ranking(*candidates: Candidate, query: str | None = "green tea", query_id: str = "q1") -> Ranking:
    return Ranking(Query(query_id, query), candidates)


def merged(*rankings: Any) -> list[Ranking]:
    return merged_rankings(rankings, RecordedProgress())


@given(st.dictionaries(IDS, st.dictionaries(IDS, st.floats(allow_nan=False, allow_infinity=False))))
def test_joined_rankings_have_the_values_of_the_mapping(run: dict[str, dict[str, float]]) -> None:
    queries = {query_id: f"query {query_id}" for query_id in run}
    documents = {doc_id: f"text {doc_id}" for candidates in run.values() for doc_id in candidates}
    rankings = list(joined_rankings(run, queries, documents))
    assert {one.query.query_id: {c.doc_id: c.score for c in one.candidates} for one in rankings} == run
    assert [one.query.text for one in rankings] == [*queries.values()]
    assert all(c.document == Document(c.doc_id, documents[c.doc_id]) for one in rankings for c in one.candidates)


@pytest.mark.parametrize(
    ("value", "document"),
    [
        ("tea", Document("d", "tea")),
        ({"text": "tea"}, Document("d", "tea")),
        ({"title": "Drinks", "text": "tea", "url": "x"}, Document("d", "tea", "Drinks")),
        ({"title": None, "text": ""}, Document("d", "")),
        (Document("other", "tea", "Drinks"), Document("d", "tea", "Drinks")),
    ],
)
def test_documents_are_texts_or_objects(value: Any, document: Document) -> None:
    (joined,) = joined_rankings({"q": {"d": 1}}, {"q": "tea"}, {"d": value})
    assert joined == Ranking(Query("q", "tea"), [Candidate("d", document, 1.0)])


@pytest.mark.parametrize(
    ("run", "queries", "documents", "message"),
    [
        ({"q": {"d": 1}}, {}, {"d": "x"}, "queries: 1 of 1 ids of the run not found: q"),
        (
            {"q": {"d": 1, "e": 2}},
            {"q": "x"},
            {"D": "x", "e": "x"},
            "documents: 1 of 2 ids of the run not found: d; "
            "'d' in run and 'D' in documents differ in upper and lower case",
        ),
        ({7: {"d": 1}}, {}, {}, "run: query id: has to be a string, not int"),
        ({"q": {7: 1}}, {}, {}, "run: query q: document id: has to be a string, not int"),
        ({"q": ["d"]}, {}, {}, "run: query q: has to be a mapping from document ids to scores, not list"),
        ({"q": {"d": "1"}}, {}, {}, "run: query q, document d: score and rank have to be finite numbers, not '1'"),
        (
            {"q": {"d": -(10**5000)}},
            {},
            {},
            "run: query q, document d: score and rank have to be finite numbers, not -inf",
        ),
        ({"q": {"d": True}}, {}, {}, "run: query q, document d: score and rank have to be finite numbers, not True"),
        ({"q": {"d": 1}}, {"q": None}, {"d": "x"}, "queries: query q: has to be a string, not NoneType"),
        ({"q": {"d": 1}}, {"q": "x"}, {"d": None}, "documents: document d: has to be a string, not NoneType"),
        ({"q": {"d": 1}}, {"q": "x"}, {"d": {"title": "x"}}, "documents: document d: has to be a string, not NoneType"),
        ({"q": {"d": 1}}, {"q": "x"}, {"d": {"title": 5, "text": ""}}, "documents: document d: title: has to be a "),
        ({"q": {"d": 1}}, {"q": "\ud800"}, {"d": "x"}, "queries: query q: lone surrogate at character 0: not valid"),
        ({"q": {"d": 1}}, ["x"], {"d": "x"}, "queries: has to be a mapping from ids to texts, not list"),
    ],
)
def test_invalid_mappings_are_errors(run: Any, queries: Any, documents: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        list(joined_rankings(run, queries, documents))
    assert str(raised.value).startswith(message)


def test_lines_of_a_query_need_not_be_adjacent() -> None:
    first = ranking(Candidate("d1", TEXT))
    other = ranking(query_id="q2")
    second = ranking(Candidate("d2", TEXT))
    assert merged(first, other, second) == [
        Ranking(first.query, (*first.candidates, *second.candidates)),
        Ranking(other.query, ()),
    ]


def test_duplicate_pairs_are_merged_with_a_warning() -> None:
    progress = RecordedProgress()
    one = ranking(Candidate("d1", TEXT, 2.0), Candidate("d1", TEXT, 1.0))
    assert merged_rankings([one], progress) == [Ranking(one.query, one.candidates[:1])]
    assert progress.warnings == ["run:1: query q1, document d1: duplicate pair, scored and written once"]


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ([("q1", ["d1"])], "run:1: has to be a Ranking, not tuple"),
        ([ranking(Candidate("d1"))], "run:1: query q1, document d1: no text"),
        ([ranking(Candidate("d1", TEXT), query=None)], "run:1: query q1: no text"),
        (
            [ranking(Candidate("d1", TEXT)), ranking(Candidate("d2", TEXT), query="tea")],
            "run:2: query q1 has another text at run:1",
        ),
        (
            [ranking(Candidate("d1", TEXT)), ranking(Candidate("d1", Document("d1", "coffee")))],
            "run:2: query q1, document d1: another text at run:1",
        ),
        ([ranking(Candidate(1, TEXT))], "run:1: document id: has to be a string, not int"),  # type: ignore[arg-type]
        (
            [ranking(Candidate("d1", TEXT, float("inf")))],
            "run:1: query q1, document d1: score and rank have to be finite numbers, not inf",
        ),
        (
            [ranking(Candidate("d1", Document("d1", b"x")))],  # type: ignore[arg-type]
            "run:1: query q1, document d1: text: has to be a string, not bytes",
        ),
    ],
)
def test_invalid_rankings_are_errors(rankings: list[Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        merged(*rankings)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("query", "texts", "message"),
    [
        (None, ["x"], "query: has to be a string, not NoneType"),
        ("x", ["x", 1.5], "texts, item 1: has to be a string, not float"),
        ("x", ["x", "\udc80"], "texts, item 1: lone surrogate at character 0: not valid Unicode"),
        ("x", "texts", "texts: has to be a list of strings, not str"),
        ("x", {"d": "text"}, "texts: has to be a list of strings, not dict"),
        ("x", None, "texts: has to be a list of strings, not NoneType"),
    ],
)
def test_invalid_texts_are_errors(query: Any, texts: Any, message: str) -> None:
    with pytest.raises(InputError) as raised:
        ranking_of_texts(query, texts)
    assert str(raised.value) == message
