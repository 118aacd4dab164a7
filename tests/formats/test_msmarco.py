"""MS MARCO runs and top1000 files."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbr_cli.core import Candidate, Document, Query
from lbr_cli.errors import InputError
from lbr_cli.formats import RUN_FORMATS
from lbr_cli.formats.msmarco import MsMarco
from support.files import write
from support.program import Program


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("q1\td1\t1", "msmarco"),
        ("1\t2\tis 3 more than 2 or so\tyes it is", "msmarco"),
        ("q1 Q0 d1 1 9.5 x", "trec"),
        ("q1\tQ0\td1\t1\t9.5\tx", "trec"),
        ("q1 Q0\td1 1\t9.5\tx", "trec"),
        ("q1\tQ0\td1 1 9.5\tx extra", "trec"),
        ("q1 Q0 d1 1\t9.5\t7", "trec"),
        ("q1\td1\tapollo 11\t13 things", "msmarco"),
        ("q1\tmy doc\t1", "msmarco"),
        ("q1 Q0 d1 1 9.5 x y z", "trec"),
        (' {"qid": 1}', "jsonl"),
        ("q1 d1 1", None),
        ("1\tGX000-00\t2.5", "tevatron"),
        ("1\tGX000-00\t-3", "tevatron"),
        ("1\tGX000-00\t1\t25.5", "colbert"),
        ("1\tGX000-00\t1\t25.5\t0", "colbert"),
        ("1\tGX000-00\t1\t25", "colbert"),
        ("1\tGX000-00\t1.5\tone and a half", "msmarco"),
        ('{"1": {"d": 0.5}}', "json"),
        ('{"1": {"d": null}}', "json"),
        ("{", "json"),
        ('{"search_results": {"1": {"d": 1}}, "eval_name": "x"}', "json"),
        ('{"query": {"qid": "1", "text": "x"}}', "jsonl"),
        ('{"query": {"qid": "1"}, "candidates": []}', "jsonl"),
        ("q1 d1 1 9.5 bm25", None),
    ],
)
def test_the_format_is_detected_from_the_first_line(line: str, expected: str | None) -> None:
    assert next((known.name for known in RUN_FORMATS if known.matches(line)), None) == expected


def test_four_fields_hold_texts_and_the_last_may_hold_tabs() -> None:
    (line,) = MsMarco().read([(1, b"1\t2\tripe figs\tone\ttwo")], "f")
    assert (line.query, line.candidate) == (Query("1", "ripe figs"), Candidate("2", Document("2", "one\ttwo")))


@pytest.mark.parametrize("second", ["q1\td2", "q1\td2\tx", "q1\td2\t1\t2", "q1\td2\t1.5"])
def test_later_lines_need_the_fields_of_the_first(second: str) -> None:
    with pytest.raises(InputError, match=r"^f:2: "):
        list(MsMarco().read([(1, b"q1\td1\t1"), (2, second.encode())], "f"))


def test_candidates_are_ordered_by_rank_and_written_as_a_run(files: object, lbr: Program) -> None:
    ended = lbr(
        "rerank", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", stdin=b"q1\td3\t2\nq1\td2\t1\n"
    )
    assert ended.out == "q1\td2\t1\nq1\td3\t2\n"


def test_a_line_that_begins_with_a_hash_is_not_a_comment(files: Path, lbr: Program) -> None:
    write(files, {"q": "#1\tfig\nq1\tsalt\n"})
    ended = lbr("rerank", "-c", "docs.jsonl", "-q", "q", "--engine", "overlap", stdin=b"#1\td1\t1\nq1\td3\t2\n")
    assert ended.out == "#1\td1\t1\nq1\td3\t1\n"


def test_ranks_of_any_length_are_no_traceback() -> None:
    with pytest.raises(InputError, match=r"^f:1: the rank, field 3, is not a whole number: 9999"):
        list(MsMarco().read([(1, b"q1\td1\t" + b"9" * 5000)], "f"))
