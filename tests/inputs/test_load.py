"""Joining run, queries and corpus: order, duplicates, conflicts, missing queries and documents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.files import DOCS, RUN, write
from support.program import Program

OVERLAP = ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap"]


def ids(out: str) -> list[tuple[str, str]]:
    return [(fields[0], fields[2]) for fields in (line.split() for line in out.splitlines())]


def test_lines_of_a_query_need_not_be_adjacent(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": "q1 Q0 d1 1 3 x\nq2 Q0 d2 1 2 x\nq1 Q0 d3 2 1 x\n"})
    ended = lbr(*OVERLAP)
    assert [line.split()[:4] for line in ended.out.splitlines()] == [
        ["q1", "Q0", "d1", "1"],
        ["q1", "Q0", "d3", "2"],
        ["q2", "Q0", "d2", "1"],
    ]


def test_a_duplicate_pair_is_scored_and_written_once(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": "q1 Q0 d1 1 9.5 x\nq1 Q0 d2 2 8 x\nq1 Q0 d1 4 3 x\n"})
    ended = lbr(*OVERLAP)
    assert ids(ended.out) == [("q1", "d1"), ("q1", "d2")]
    assert ("lbr: warning: run.trec:3: query q1, document d1: duplicate pair, scored and written once\n") in ended.err
    refused = lbr(*OVERLAP, "--duplicates", "error")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "lbr: run.trec:3: query q1, document d1: duplicate pair, first at run.trec:1\n"
    write(files, {"run.trec": RUN + RUN})
    assert lbr(*OVERLAP, "--quiet").err == (
        "lbr: warning: run.trec:4: query q1, document d1: duplicate pair; 3 duplicate pairs, each scored "
        "and written once\n"
    )


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            '{"qid":1,"id":"d","query":"a","text":"x"}\n{"qid":1,"id":"e","query":"b","text":"x"}\n',
            "standard input:2: query 1 has another text at standard input:1",
        ),
        (
            '{"qid":1,"id":"d","query":"a","text":"x"}\n{"qid":1,"id":"d","query":"a","text":"y"}\n',
            "standard input:2: query 1, document d: another text at standard input:1",
        ),
    ],
)
def test_conflicting_texts_name_both_locations(lbr: Program, lines: str, problem: str) -> None:
    ended = lbr("rerank", "--engine", "overlap", stdin=lines.encode())
    assert (ended.code, ended.out, ended.err) == (2, "", f"lbr: {problem}\n")


def test_the_location_of_a_text_is_its_own_line(lbr: Program) -> None:
    pair = {"qid": "a", "id": "d"}
    lines = [pair | {"query": "q"}, pair | {"text": "A"}, pair | {"text": "B"}]
    ended = lbr("rerank", "--engine", "overlap", stdin="\n".join(map(json.dumps, lines)).encode())
    assert ended.err == "lbr: standard input:3: query a, document d: another text at standard input:2\n"


def test_a_queries_file_with_another_text_is_an_error(files: Path, lbr: Program) -> None:
    line = b'\n{"qid":"q1","id":"d","query":"a","text":"x"}\n'
    ended = lbr("rerank", "-q", "queries.tsv", "--engine", "overlap", stdin=line)
    assert (ended.code, ended.err) == (2, "lbr: standard input:2: query q1 has another text at queries.tsv:1\n")


def test_texts_in_lines_belong_to_their_own_query(lbr: Program) -> None:
    lines = b'{"qid":1,"id":"d","query":"a","text":"a"}\n{"qid":2,"id":"d","query":"a","text":"b"}\n'
    assert [record["score"] for record in lbr("rerank", "--engine", "overlap", stdin=lines).records] == [1.0, 0.0]


def test_texts_are_read_from_lines_and_from_the_corpus(files: Path, lbr: Program) -> None:
    lines = b'{"qid":"q1","id":"new","text":"fig"}\n{"qid":"q1","id":"d1"}\n'
    ended = lbr("rerank", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", stdin=lines)
    assert [record["doc_id"] for record in ended.records] == ["new", "d1"]


def test_missing_documents_are_counted_and_named(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": RUN + "q1 Q0 d404 3 7 x\nq2 Q0 d404 2 6 x\nq2 Q0 d405 3 5 x\n"})
    ended = lbr(*OVERLAP)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: queries: queries.tsv\n"
        "lbr: run.trec:4: 2 of 4 documents are not in docs.jsonl (3 pairs): d404 (line 4), d404 (line 5), "
        "d405 (line 6)\n"
        "lbr: hint: --missing-docs skip leaves them out, --missing-docs last puts them at the end, unscored\n"
    )
    skipped = lbr(*OVERLAP, "--missing-docs", "skip")
    assert ids(skipped.out) == [("q1", "d1"), ("q1", "d2"), ("q2", "d2")]
    assert "lbr: warning: run.trec: 2 of 4 documents are not in docs.jsonl (3 pairs)" in skipped.err
    last = lbr(*OVERLAP, "--missing-docs", "last", "--output-format", "jsonl")
    assert [(record["doc_id"], record["score"]) for record in last.records] == [
        ("d1", pytest.approx(1 / 3)),
        ("d2", 0.0),
        ("d404", None),
        ("d2", 0.5),
        ("d404", None),
        ("d405", None),
    ]


def test_a_query_without_remaining_candidates_is_skipped(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": "q1 Q0 d1 1 9.5 x\nq2 Q0 d404 1 7 x\n"})
    assert ids(lbr(*OVERLAP, "--missing-docs", "skip").out) == [("q1", "d1")]


@pytest.mark.parametrize("policy", ["error", "skip", "last"])
def test_no_document_found_is_an_error_with_any_policy(files: Path, lbr: Program, policy: str) -> None:
    write(files, {"run.trec": RUN.replace(" d", " D")})
    ended = lbr(*OVERLAP, "--missing-docs", policy)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: queries: queries.tsv\n"
        "lbr: run.trec: 0 of 2 documents found in docs.jsonl\n"
        "lbr: hint: the run has D1, D2; docs.jsonl has d1, d2, d3; 'D1' in run.trec and 'd1' in docs.jsonl differ in "
        "upper and lower case\n"
    )


@pytest.mark.parametrize("policy", ["error", "skip", "keep"])
def test_no_query_found_is_an_error_with_any_policy(files: Path, lbr: Program, policy: str) -> None:
    write(files, {"queries.tsv": "q1.1\tfig\n"})
    ended = lbr(*OVERLAP, "--missing-queries", policy, "--quiet")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "lbr: run.trec: 0 of 2 queries found in queries.tsv\nlbr: hint: the run has q1, q2; queries.tsv has q1.1\n"
    )


def test_policies_for_missing_queries(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": "q9 Q0 d3 1 2.5 x\nq9 Q0 zz 2 2.5 x\n" + RUN})
    ended = lbr(*OVERLAP)
    assert (ended.code, ended.out) == (2, "")
    assert "lbr: run.trec:1: 1 of 3 queries have no text in queries.tsv: q9 (line 1)\n" in ended.err
    assert ids(lbr(*OVERLAP, "--missing-queries", "skip").out) == [("q1", "d1"), ("q1", "d2"), ("q2", "d2")]
    kept = lbr(*OVERLAP, "--missing-queries", "keep")
    assert kept.out.startswith("q9 Q0 d3 1 2.5 lbr-overlap\nq9 Q0 zz 2 2.4999998 lbr-overlap\nq1 Q0 d1 1 ")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"# nothing\n"])
def test_input_without_candidates_is_an_error(files: Path, lbr: Program, content: bytes) -> None:
    ended = lbr("rerank", "-c", "docs.jsonl", "--engine", "overlap", stdin=content)
    assert (ended.code, ended.out, ended.err) == (2, "", "lbr: standard input: holds no candidates\n")


def test_empty_lists_are_input_without_candidates(lbr: Program) -> None:
    ended = lbr("rerank", "--engine", "overlap", stdin=b'{"query":"a","documents":[]}\n')
    assert (ended.code, ended.err) == (2, "lbr: standard input: holds no candidates\n")


def test_no_corpus_is_an_error(files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "--engine", "overlap")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith("lbr: run.trec has no document texts\nlbr: hint: name the corpus with --corpus\n")


def test_an_empty_text_is_scored(files: Path, lbr: Program) -> None:
    write(files, {"docs.jsonl": '{"_id":"d1","text":""}\n{"_id":"d2","text":"  "}\n'})
    assert [line.split()[4] for line in lbr(*OVERLAP).out.splitlines()] == ["0", "-1.4013e-45", "0"]


@pytest.mark.parametrize(
    ("mine", "theirs", "difference"),
    [
        ("cafe\u0301", "café", "Unicode normalization"),
        ("d\u200b1", "d1", "invisible or no-break characters"),
        ("d\u00a01", "d 1", "invisible or no-break characters"),
        ("d1", " d1 ", "surrounding blanks"),
        ("Doc", "doc", "upper and lower case"),
        ("007", "7", "leading zeros"),
        ("CAFE\u0301\u00ad", "café", "invisible or no-break characters, Unicode normalization, upper and lower case"),
    ],
)
def test_similar_ids_are_in_the_hint(files: Path, lbr: Program, mine: str, theirs: str, difference: str) -> None:
    def run(doc_id: str, query_id: str) -> str:
        return json.dumps({"qid": query_id, "docid": doc_id, "score": 1}) + "\n"

    write(
        files,
        {
            "docs.jsonl": "".join(json.dumps({"_id": doc_id, "text": "x"}) + "\n" for doc_id in ("other", theirs)),
            "queries.tsv": "".join(json.dumps({"_id": query_id, "text": "x"}) + "\n" for query_id in ("q", theirs)),
        },
    )
    command = ["rerank", "run.jsonl", "-c", "docs.jsonl", "--engine", "overlap", "--quiet"]
    for content, there in ((run("other", "q") + run(mine, "q"), "docs.jsonl"), (run("other", mine), "queries.tsv")):
        write(files, {"run.jsonl": content})
        ended = lbr(*command)
        assert (ended.code, ended.out) == (2, "")
        assert f"; {mine!a} in run.jsonl and {theirs!a} in {there} differ in {difference}\n" in ended.err
    write(files, {"run.jsonl": run("other", "q") + run("unlike", "q")})
    assert "differ in" not in lbr(*command).err


def test_a_corpus_on_stdin_has_no_hint_about_similar_ids(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": RUN.replace(" d", " D")})
    ended = lbr("rerank", "run.trec", "-c", "-", "--engine", "overlap", "--quiet", stdin=DOCS.encode())
    assert ended.err == (
        "lbr: run.trec: 0 of 2 documents found in standard input\n"
        "lbr: hint: the run has D1, D2; standard input has d1, d2, d3\n"
    )


@pytest.mark.parametrize("option", [["--missing-queries", "skip"], ["--topic-field", "x"], ["--query-columns", "id,x"]])
def test_options_of_a_queries_file_that_is_not_read_are_errors(lbr: Program, option: list[str]) -> None:
    line = b'{"qid":"q1","docid":"d1","query":"a","text":"b"}\n'
    ended = lbr("rerank", "--engine", "overlap", *option, stdin=line)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"lbr: {option[0]} has no effect: standard input has the query texts, and no queries file is read\n"
    )
