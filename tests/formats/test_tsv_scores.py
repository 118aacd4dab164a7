"""Runs of Tevatron and ColBERT: tab-separated, with scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from lbr_cli.core import Candidate, Query, RankedCandidate
from lbr_cli.errors import InputError
from lbr_cli.formats import OutputOptions, RunFormat
from lbr_cli.formats.tsv_scores import COLBERT, TEVATRON
from support.files import write
from support.program import Program

OPTIONS = ("-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", "--quiet")


def read(format_: RunFormat, *lines: str) -> list[tuple[str, str, float | None]]:
    found = format_.read([(number, line.encode()) for number, line in enumerate(lines, 1)], "f")
    return [(line.query.query_id, line.candidate.doc_id, line.candidate.score) for line in found]


def test_scores_are_read() -> None:
    assert read(TEVATRON, "q 1\td#1\t0.5", "q 1\td2\t7", "q2\td2\t-1e-3\r") == [
        *(("q 1", "d#1", 0.5), ("q 1", "d2", 7.0), ("q2", "d2", -0.001)),
    ]
    assert read(COLBERT, "1\td1\t1\t25.5", "1\td2\t2\t24\t0") == [("1", "d1", 25.5), ("1", "d2", 24.0)]


@pytest.mark.parametrize(
    ("format_", "line", "message"),
    [
        (TEVATRON, "1\td1", r"a line has 3 tab-separated fields \(query, document, score\), this one has 2"),
        (TEVATRON, "1\td1\tnan", "the score, field 3, is not a finite decimal number: nan"),
        (COLBERT, "1\td1\t2.5\t1", "the rank, field 3, is not a whole number: 2.5"),
        (COLBERT, "1\td1\t2\tfig trees", "the score, field 4, is not a finite decimal number: fig trees"),
        (COLBERT, "1\td1\t2", r"a line has 4 tab-separated fields \(query, document, rank, score\), this one has 3"),
    ],
)
def test_invalid_lines_are_errors(format_: RunFormat, line: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^f:1: {message}$") as error:
        read(format_, line)
    assert "--input-format" in error.value.hint


def test_written_scores_fall_in_the_order_of_the_rows() -> None:
    rows = [RankedCandidate(Candidate(f"d{rank}"), rank, rank, 2.5) for rank in (1, 2)]
    for format_ in (TEVATRON, COLBERT):
        lines = format_.write(Query("1"), rows, OutputOptions("x")).decode().splitlines()
        (_, first, best), (_, second, next_best) = read(format_, *lines)
        assert (first, second, best) == ("d1", "d2", 2.5)
        assert next_best is not None
        assert 2.4999 < next_best < 2.5


@pytest.mark.parametrize("line", ["q1\t{}\t{score}", "q1\t{}\t{rank}\t{score}"])
def test_a_run_is_reranked_as_its_trec_twin(line: str, files: Path, lbr: Program) -> None:
    candidates = [("d3", 1, "9.5"), ("d2", 2, "8.25"), ("d1", 3, "0.125")]
    own = "".join(line.format(doc_id, rank=rank, score=score) + "\n" for doc_id, rank, score in candidates)
    twin = "".join(f"q1 Q0 {doc_id} {rank} {score} x\n" for doc_id, rank, score in candidates)
    write(files, {"own.tsv": own, "twin.trec": twin})
    more = ("--output-format", "jsonl")
    assert lbr("rerank", "own.tsv", *OPTIONS, *more).out == lbr("rerank", "twin.trec", *OPTIONS, *more).out
    ended = lbr("rerank", "own.tsv", *OPTIONS)
    assert (ended.code, ended.err) == (0, "")
    assert [len(row.split("\t")) for row in ended.out.splitlines()] == [line.count("\t") + 1] * 3
