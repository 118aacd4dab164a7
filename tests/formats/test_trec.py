"""TREC runs: reading and writing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Candidate, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.formats import OutputOptions
from lbr_cli.formats.trec import Trec
from support.program import Program


def read(text: str) -> list[tuple[str, str, float | None]]:
    lines = [(number, line.encode()) for number, line in enumerate(text.split("\n"), 1) if line]
    return [(line.query.query_id, line.candidate.doc_id, line.candidate.score) for line in Trec().read(lines, "f")]


@pytest.mark.parametrize(
    "line", ["q1\tQ0\td1\t1\t9.5\tx", "q1  Q0   d1 1 9.5 x", " q1 Q0 d1 1 9.5 x ", "q1 0 d1 - 9.5 x"]
)
def test_fields_are_separated_by_blanks_and_tabs(line: str) -> None:
    assert read(line) == [("q1", "d1", 9.5)]


def test_fields_after_the_sixth_are_ignored() -> None:
    assert read("q1 Q0 d1 1 9.5 STANDARD more junk") == [("q1", "d1", 9.5)]


def test_only_a_line_that_begins_with_a_hash_is_a_comment() -> None:
    assert read("# a b c d e f\n  # too\nq#1 Q0 #d 1 1 x") == [("q#1", "#d", 1.0)]


def test_ids_are_read_unchanged() -> None:
    text = "007 Q0 0010 1 3 x\n007 Q0 1e5 2 2 x\n7 Q0 Ünï\u00a0côde\u2028 1 2 x\n"
    assert [ids[:2] for ids in read(text)] == [("007", "0010"), ("007", "1e5"), ("7", "Ünï\u00a0côde\u2028")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q1 d1 1 9.5 bm25", "f:2: a TREC run line has six fields (query Q0 document rank score tag), this one has 5"),
        ("q1 Q0 d1 1 inf x", "f:2: the score, field 5, is not a finite decimal number: inf"),
        ("q1 Q0 d1 1 1_0 x", "f:2: the score, field 5, is not a finite decimal number: 1_0"),
        ('{"qid": "q1"}', "f:2: a TREC run line has six fields (query Q0 document rank score tag), this one has 2"),
    ],
)
def test_invalid_lines_are_errors(line: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read(f"q1 Q0 d1 1 9.5 x\n{line}")
    assert str(error.value) == problem


def rows(scores: list[float | None]) -> list[RankedCandidate]:
    return [RankedCandidate(Candidate(f"d{rank}"), rank, rank, score) for rank, score in enumerate(scores, 1)]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30), st.integers(0, 5))
def test_every_evaluator_reads_the_written_order(scores: list[float], unscored: int) -> None:
    written = Trec().write(Query("q"), rows([*sorted(scores, reverse=True), *[None] * unscored]), OutputOptions("t"))
    values = [np.float32(line.split()[4]) for line in written.decode().splitlines()]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    assert values[0] == np.float32(max(scores))


def test_ties_fall_by_one_float32_step() -> None:
    assert Trec().write(Query("q"), rows([1.0, 1.0, None]), OutputOptions("t")).decode() == (
        "q Q0 d1 1 1 t\nq Q0 d2 2 0.99999994 t\nq Q0 d3 3 0.9999999 t\n"
    )


def test_a_query_without_scores_keeps_the_first_stage_scores() -> None:
    kept = [
        RankedCandidate(Candidate("a", score=2.0), 1, 1, None),
        RankedCandidate(Candidate("b", score=2.0), 2, 2, None),
    ]
    assert Trec().write(Query("q"), kept, OutputOptions("t")) == b"q Q0 a 1 2 t\nq Q0 b 2 1.9999999 t\n"
    assert (
        Trec().write(Query("q"), rows([None, None]), OutputOptions("t")) == b"q Q0 d1 1 0 t\nq Q0 d2 2 -1.4013e-45 t\n"
    )


def test_an_id_with_a_blank_is_refused_first(files: object, tmp_path: object, lbr: Program) -> None:
    line = b'{"qid":"q 1","docid":"my doc","query":"a","text":"b"}\n'
    ended = lbr("rerank", "-", "-o", "out.trec", "--engine", "overlap", stdin=line)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: query 'q 1', document 'my doc': an id with a blank cannot be written to trec output\n"
        "lbr: hint: --output-format jsonl supports any id\n"
    )
    assert lbr("rerank", "-", "-o", "out.jsonl", "--engine", "overlap", stdin=line).code == 0


def test_the_run_tag_can_be_chosen(files: object, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--tag", "mine", "--top-k", "1")
    assert ended.out == "q1 Q0 d1 1 0.33333334 mine\nq2 Q0 d2 1 0.5 mine\n"
    refused = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--tag", "a b")
    assert (refused.code, refused.err.splitlines()[-1]) == (2, "lbr: --tag 'a b': a run tag is one word in UTF-8")


def test_a_query_id_that_would_be_a_comment_is_refused(lbr: Program) -> None:
    line = b'{"query_id":"#1","doc_id":"#d","query":"a","text":"a"}\n'
    ended = lbr("rerank", "--output-format", "trec", "--engine", "overlap", stdin=line)
    assert (ended.code, ended.out) == (2, "")
    assert "a query id that begins with #, as a comment does, cannot be written to trec output" in ended.err
    assert Trec().why_not_writable("1", "#d") == ""


def test_the_largest_first_stage_scores_are_written_as_finite() -> None:
    kept = [
        RankedCandidate(Candidate("a", score=-1e39), 1, 1, None),
        RankedCandidate(Candidate("b", score=-1e40), 2, 2, None),
    ]
    assert Trec().write(Query("q"), kept, OutputOptions("t")) == b"q Q0 a 1 0 t\nq Q0 b 2 -1.4013e-45 t\n"


def test_a_tag_that_is_not_utf_8_is_an_error(files: object, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--tag", "caf\udce9")
    assert (ended.code, ended.out) == (2, "")
    assert "a run tag is one word in UTF-8" in ended.err
