"""Query files, and where they are looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import DOCS, QUERIES, RUN, Program, write

from lbr_cli.errors import InputError
from lbr_cli.formats.queries import read_queries


def texts(path: Path, content: str) -> dict[str, str | None]:
    write(path, {"q": content})
    return {query_id: line.query.text for query_id, line in read_queries(str(path / "q")).items()}


@pytest.mark.parametrize("id_key", ["_id", "id", "query_id", "qid"])
@pytest.mark.parametrize("text_key", ["text", "query"])
def test_jsonl(tmp_path: Path, id_key: str, text_key: str) -> None:
    assert texts(tmp_path, json.dumps({id_key: 51, text_key: "a\tb"})) == {"51": "a\tb"}


def test_tsv(tmp_path: Path) -> None:
    assert texts(tmp_path, "051\tripe figs\r\n51\tR&D\tunit\n\nx\t") == {"051": "ripe figs", "51": "R&D\tunit", "x": ""}


def test_an_id_a_blank_and_the_text_where_no_tab_is(tmp_path: Path) -> None:
    assert texts(tmp_path, "1 one\n2 two words") == {"1": "one", "2": "two words"}
    with pytest.raises(InputError, match="q:1: a query line is an id, a tab or a blank and the text; there is none"):
        texts(tmp_path, "query\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q2 no tab", "q:2: a query line is an id, a tab and the text; there is none here"),
        ("q1\tb", "q:2: query q1 has another text at "),
    ],
)
def test_a_tsv_line_that_cannot_be_used(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        texts(tmp_path, f"q1\ta\n{line}\n")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"text": "x"}, "no query id (_id, id, query_id, qid)"),
        ({"_id": "x"}, "no query text (text, query)"),
        ({"_id": None, "text": "x"}, '"_id" has to be a string or a 64-bit integer, this is null'),
        ({"_id": "x", "text": 3}, '"text" has to be a string, this is an integer'),
    ],
)
def test_a_jsonl_line_that_cannot_be_used(tmp_path: Path, record: Any, problem: str) -> None:
    with pytest.raises(InputError) as error:
        texts(tmp_path, json.dumps({"_id": "q1", "text": "x"}) + "\n" + json.dumps(record))
    assert str(error.value) == f"{tmp_path}/q:2: {problem}"


def test_queries_are_found_beside_the_run_and_that_is_said(files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert ended.code == 0
    assert ended.err.splitlines()[0] == "lbr: queries: queries.tsv"


def test_or_else_beside_the_corpus(tmp_path: Path, lbr: Program) -> None:
    (tmp_path / "data [1]").mkdir()
    write(tmp_path, {"run.trec": RUN})
    write(tmp_path / "data [1]", {"docs.jsonl": DOCS, "topics.tsv": QUERIES})
    ended = lbr("rerank", "run.trec", "-c", "data [1]/docs.jsonl", "--engine", "overlap")
    assert ended.err.splitlines()[0] == "lbr: queries: data [1]/topics.tsv"


def test_several_are_listed(files: Path, lbr: Program) -> None:
    write(files, {"topics.jsonl": ""})
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: several files may hold the queries: queries.tsv, topics.jsonl\nlbr: hint: name one with --queries\n"
    )


def test_none_is_an_error(files: Path, lbr: Program) -> None:
    (files / "queries.tsv").unlink()
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: run.trec holds no query texts, and no file queries.* or topics.* lies beside it\n"
        "lbr: hint: name the queries with --queries\n"
    )
