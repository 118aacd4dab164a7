"""JSONL candidates in all forms, and JSONL output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Candidate, Document, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.formats import Line, OutputOptions
from lbr_cli.formats.jsonl import Jsonl
from support.program import Program


def read(*records: Any) -> list[Line]:
    lines = [(number, json.dumps(record).encode()) for number, record in enumerate(records, 1)]
    return list(Jsonl().read(lines, "f"))


@pytest.mark.parametrize("query_key", ["query_id", "qid"])
@pytest.mark.parametrize("doc_key", ["doc_id", "docid", "_id", "id"])
def test_one_pair_a_line(query_key: str, doc_key: str) -> None:
    record = {query_key: "q1", doc_key: 7, "score": 2, "rank": 3, "query": "a", "title": "t", "text": "b", "url": None}
    (line,) = read(record)
    assert line.query == Query("q1", "a")
    extra = {"query": "a", "title": "t", "text": "b", "url": None}
    assert line.candidate == Candidate("7", Document("7", "b", "t"), 2.0, 3, extra)


def test_one_query_a_line_with_candidates() -> None:
    candidates = [
        {"docid": "a", "score": 1.5, "doc": {"title": "t", "contents": "x"}},
        {"doc_id": "b", "text": "y", "score": None},
        {"text": "z"},
    ]
    first, second, third = read({"query": {"qid": "q", "text": "hello"}, "candidates": candidates, "lang": "en"})
    assert {line.query for line in (first, second, third)} == {Query("q", "hello")}
    assert first.candidate.document == Document("a", "x", "t")
    assert first.candidate.score == 1.5
    assert first.candidate.extra == {
        "query": {"qid": "q", "text": "hello"},
        "lang": "en",
        "doc": {"title": "t", "contents": "x"},
    }
    assert second.candidate.document == Document("b", "y")
    assert second.candidate.score is None
    assert third.candidate.doc_id == "2"


def test_one_query_a_line_with_documents_as_in_web_services() -> None:
    lines = read({"query": "a", "documents": ["x", {"id": "d", "text": "y"}]}, {"query": "b", "documents": ["x"]})
    assert [(line.query.query_id, line.candidate.doc_id) for line in lines] == [("1", "0"), ("1", "d"), ("2", "0")]


def test_an_empty_list_has_no_candidates() -> None:
    assert read({"query": "a", "documents": []}) == []


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"doc_id": "d"}, "no query id (query_id, qid, query-id, q_id)"),
        ({"qid": "q"}, "no document id (doc_id, docid, _id, id, docno, corpus-id)"),
        ({"qid": 1.0, "doc_id": "d"}, '"qid" has to be a string or a 64-bit integer, this is a number with a'),
        ({"qid": True, "doc_id": "d"}, '"qid" has to be a string or a 64-bit integer, this is a boolean'),
        ({"qid": 2**64, "doc_id": "d"}, '"qid" has to be a string or a 64-bit integer, this is a number with a'),
        ({"qid": "q", "doc_id": None}, '"doc_id" has to be a string or a 64-bit integer, this is null'),
        ({"qid": "q", "doc_id": "d", "text": 3}, '"text" has to be a string, this is an integer'),
        ({"qid": "q", "doc_id": "d", "score": "3"}, '"score" has to be a number, this is a string'),
        ({"qid": "q", "doc_id": "d", "score": True}, '"score" has to be a number, this is a boolean'),
        ({"qid": "q", "doc_id": "d", "rank": 1.5}, '"rank" has to be an integer, this is a number with a fraction'),
        ({"qid": "q", "candidates": ["x"]}, '"candidates" has to hold objects, item 0 is a string'),
        (
            {"qid": "q", "documents": [{"text": []}]},
            'in "documents", item 0: "text" has to be a string, this is an array',
        ),
        ({"qid": "q", "candidates": [{"id": "d", "doc": {"text": 1}}]}, 'in "doc": "text" has to be a string'),
    ],
)
def test_invalid_records_are_errors(record: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as error:
        read({"qid": "q", "doc_id": "d"}, record)
    assert str(error.value).startswith(f"f:2: {problem}")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"qid": "q"', "f:1: not valid JSON: "),
        (b'{"qid": "\\ud800", "doc_id": "d"}', "f:1: not valid JSON: "),
        (b'{"qid": "caf\xe9", "doc_id": "d"}', "f:1: byte 13 of the line, 0xe9, is not UTF-8"),
        (b"[1]", "f:1: not JSONL, which is one JSON object a line"),
        (b"1", "f:1: a JSON object is needed, this is an integer"),
        (b'{"qid": "q", "doc_id": "d", "score": NaN}', "f:1: not valid JSON: "),
        (b'{"qid": "q", "doc_id": "d", "score": 1e999}', 'f:1: "score" has to be a finite number'),
        (b'{"qid": "\\ud800", "doc_id": "d", "x": 1e999}', "f:1: not valid JSON: "),
        (b'{"qid": "q", "doc_id": "d", "x": 1e999, "y": NaN}', "f:1: not valid JSON: "),
        (
            b'{"qid": "q", "doc_id": "d", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
            "f:1: nested more than 250 levels deep",
        ),
        (b'{"a":' * 2000, "f:1: not valid JSON: "),
    ],
)
def test_invalid_json_is_an_error(line: bytes, problem: str) -> None:
    with pytest.raises(InputError) as error:
        list(Jsonl().read([(1, line)], "f"))
    assert str(error.value).startswith(problem)


def test_a_corpus_as_run_is_an_error_with_a_hint() -> None:
    with pytest.raises(InputError) as error:
        read({"_id": "d1", "text": "x"})
    assert error.value.hint == "this looks like a corpus; name the corpus with --corpus"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RESERVED = {
    "query_id",
    "doc_id",
    "rank",
    "score",
    "_score",
    "first_stage_score",
    "first_stage_rank",
    "candidates",
    "documents",
}
TEXT_KEYS = {"query", "instruction", "text", "title", "doc"}


@given(st.dictionaries(st.text().filter(lambda key: key not in RESERVED | TEXT_KEYS), JSON))
def test_unknown_keys_are_copied(extra: dict[str, Any]) -> None:
    # "qid" and other names of ids are unknown keys if the first name is present
    (line,) = read({"query_id": "q", "doc_id": "d", **extra})
    out = json.loads(Jsonl().write(line.query, [RankedCandidate(line.candidate, 1, 1, 0.5)], OutputOptions("t")))
    assert {key: value for key, value in out.items() if key not in RESERVED} == extra


def test_the_output_line(lbr: Program) -> None:
    lines = (
        b'{"qid":"q1","docid":"d1","score":9.5,"url":"u","query":"bread salt","text":"figs"}\n'
        b'{"qid":"q1","docid":"d2","score":9.0,"query":"bread salt","text":"salt"}\n'
    )
    ended = lbr("rerank", "--engine", "overlap", "--explain", stdin=lines)
    assert ended.out == (
        '{"query_id":"q1","doc_id":"d2","rank":1,"score":0.5,"first_stage_score":9.0,"first_stage_rank":2,'
        '"query":"bread salt","text":"salt","truncated":false}\n'
        '{"query_id":"q1","doc_id":"d1","rank":2,"score":0.0,"first_stage_score":9.5,"first_stage_rank":1,'
        '"url":"u","query":"bread salt","text":"figs","truncated":false}\n'
    )


def test_scores_read_back_as_the_same_float32() -> None:
    out = Jsonl().write(Query("q"), [RankedCandidate(Candidate("d"), 1, 1, 0.10000000149011612)], OutputOptions("t"))
    assert b'"score":0.1,' in out


@pytest.mark.parametrize(
    "number",
    [
        "12345678901234567890123",
        "-9223372036854775809",
        "0.12345678901234567890",
        "1e400",
        "1E5",
        "1.50000000000000000",
        "-0.0",
    ],
)
def test_numbers_in_unknown_keys_keep_their_value(lbr: Program, number: str) -> None:
    line = f'{{"query":"a","documents":["a"],"x":[{number}]}}'
    ended = lbr("rerank", "--engine", "overlap", stdin=line.encode())
    assert f'"x":[{number}]' in ended.out.replace("100000.0", "1E5")


def test_an_id_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(InputError, match='"doc_id" has to be a string or a 64-bit integer'):
        list(Jsonl().read([(1, b'{"qid": 1, "doc_id": 18446744073709551616}')], "f"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [{"query_id": "2", "query": "a", "documents": ["a"]}, {"query": "a", "documents": ["a"]}],
            "lbr: standard input:2: query id 2 is also the number of a line without an id",
        ),
        (
            [{"query": "a", "documents": [{"id": "1", "text": "same"}, "same"]}],
            'lbr: standard input:1: in "documents", item 1: document id 1 is also the index of a document',
        ),
    ],
)
def test_an_implied_id_equal_to_an_explicit_one_is_an_error(lbr: Program, lines: list[Any], message: str) -> None:
    ended = lbr("rerank", "--engine", "overlap", stdin="\n".join(map(json.dumps, lines)).encode())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(message)


def test_a_text_beside_a_list_belongs_to_no_document() -> None:
    (line,) = read(
        {"qid": "q", "query": "z", "text": "OUTER", "candidates": [{"id": "7", "doc": {"contents": "inner"}}]}
    )
    assert line.candidate.document == Document("7", "inner")
    assert "text" not in (line.candidate.extra or {})


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"candidates": [{"id": "d"}]}, "f:1: neither a query id nor a query"),
        ({"qid": "q", "candidates": [{"score": 1}]}, 'f:1: in "candidates", item 0: neither a document id nor a text'),
    ],
)
def test_implied_ids_need_a_text(record: Any, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read(record)
    assert str(error.value) == problem


HIT = '{"_index":"i","_id":%s,"_score":%s,"_source":{"title":"t","body":%s}}\n'
FIELDS = ("--id-field", "_id", "--title-field", "_source.title", "--text-field", "_source.body")


def test_hits_of_a_search_engine_are_candidates(lbr: Program) -> None:
    hits = HIT % ('"a"', "2.5", '"fig"') + HIT % ("7", "null", '"ripe fig"')
    common = ("rerank", "-", "--query", "ripe fig", "--engine", "overlap", "--quiet")
    ended = lbr(*common, *FIELDS, stdin=hits.encode())
    assert ended.code == 0, ended.err
    assert [(row["doc_id"], row["score"], row["first_stage_score"]) for row in ended.records] == [
        ("7", 1.0, None),
        ("a", 0.5, 2.5),
    ]
    assert ended.records[1]["_source"] == {"title": "t", "body": "fig"}
    assert "_source.body" not in ended.records[0]
    assert lbr(*common, *FIELDS, "--stream", stdin=hits.encode()).out == ended.out
    again = lbr(*common, *FIELDS, stdin=ended.out.replace("query_id", "old").encode())
    assert [row["doc_id"] for row in again.records] == ["7", "a"]


@pytest.mark.parametrize(
    ("hit", "problem"),
    [
        (HIT % ('"a"', "1", "null"), "no text (_source.body)"),
        (HIT % ('"a"', "1", "[]"), '"_source.body" has to be a string, this is an array'),
        (HIT % ("null", "1", '"x"'), "no document id (_id)"),
        (HIT % ("1.5", "1", '"x"'), '"_id" has to be a string or a 64-bit integer, this is a number with a fraction'),
        (HIT % ('"a"', "true", '"x"'), '"_score" has to be a number, this is a boolean'),
    ],
)
def test_invalid_hits_are_errors(lbr: Program, hit: str, problem: str) -> None:
    ended = lbr("rerank", "-", "--query", "x", "--engine", "overlap", *FIELDS, stdin=hit.encode())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"lbr: standard input:1: {problem}")


def test_fields_need_a_corpus_or_jsonl(files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "--engine", "overlap", "--text-field", "body")
    assert (ended.code, ended.err) == (
        2,
        "lbr: run.trec: has no fields that --id-field, --text-field or --title-field could name\n"
        "lbr: hint: these options are for a --corpus, or for candidates in JSONL\n",
    )
