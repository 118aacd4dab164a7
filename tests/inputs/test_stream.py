"""--stream, --query and --lines: output without waiting for the end of the input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.inputs import Inputs
from lbr_cli.job import Job, run
from support.paths import ROOT
from support.program import Program
from support.progress import RecordedProgress

STREAM = ["rerank", "--stream", "--engine", "overlap", "--quiet"]


def jsonl(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" if record else b"\n" for record in records)


def start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "lbr_cli", *STREAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
    )


def pair(qid: str, doc_id: str, text: str = "fig") -> dict[str, str]:
    return {"qid": qid, "id": doc_id, "query": "fig", "text": text}


@pytest.mark.parametrize(
    "record",
    [
        {"query": "fig", "documents": ["a", "fig"]},
        {"qid": "7", "query": "fig", "candidates": [{"id": "0", "text": "a"}, {"id": "1", "text": "fig"}]},
    ],
)
def test_a_whole_query_is_answered_at_once(tmp_path: Path, record: Any) -> None:
    job = start(tmp_path)
    assert job.stdin
    assert job.stdout
    for _ in range(3):
        job.stdin.write(jsonl(record))
        job.stdin.flush()
        # blocks if an answer is buffered
        assert json.loads(job.stdout.readline())["doc_id"] == "1"
        assert json.loads(job.stdout.readline())["doc_id"] == "0"
    job.stdin.close()
    assert job.wait(timeout=60) == 0


def test_pairs_are_answered_when_their_query_is_complete(tmp_path: Path) -> None:
    job = start(tmp_path)
    assert job.stdin
    assert job.stdout
    for lines in (jsonl(pair("a", "x", "no"), pair("a", "y"), pair("b", "z")), jsonl(None), jsonl(pair("c", "v"))):
        job.stdin.write(lines)
        job.stdin.flush()
        if b'"a"' in lines:
            assert [json.loads(job.stdout.readline())["doc_id"] for _ in range(2)] == ["y", "x"]
        elif lines == b"\n":
            assert json.loads(job.stdout.readline())["doc_id"] == "z"
    job.stdin.close()
    assert json.loads(job.stdout.read())["doc_id"] == "v"
    assert job.wait(timeout=60) == 0


def test_results_equal_those_of_a_job_without_stream(lbr: Program) -> None:
    lines = jsonl(pair("a", "x", "no"), pair("a", "y"), {"query": "fig", "documents": ["a", "fig"]}, pair("b", "x"))
    assert lbr(*STREAM, stdin=lines).out == lbr("rerank", "--engine", "overlap", stdin=lines).out


def test_lines_of_a_query_have_to_be_adjacent(lbr: Program) -> None:
    ended = lbr(*STREAM, stdin=jsonl(pair("a", "x"), pair("b", "x"), pair("a", "y")))
    assert (ended.code, len(ended.records)) == (1, 2)
    assert ended.err == (
        "lbr: standard input:3: the lines of query a are not adjacent: earlier ones end at line 1\n"
        "lbr: hint: sort the lines by query, or omit --stream\n"
    )


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ({"qid": "a", "query": "x", "documents": ["x"]}, {"qid": "a", "query": "x", "documents": ["y"]}, 0),
        ({"qid": "a", "query": "x", "documents": ["x"]}, {"qid": "a", "query": "y", "documents": ["x"]}, 1),
        ({"qid": "2", "query": "x", "documents": ["x"]}, {"query": "x", "documents": ["x"]}, 1),
    ],
)
def test_a_duplicate_whole_query_has_to_be_equal(lbr: Program, first: Any, second: Any, code: int) -> None:
    ended = lbr(*STREAM, stdin=jsonl(first, second))
    assert ended.code == code
    assert ended.err == (
        f"lbr: standard input:2: query {first['qid']} has another text at standard input:1\n" if code else ""
    )


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_compressed_lines_are_answered_as_they_come(tmp_path: Path, kind: str) -> None:
    import zlib

    import zstandard

    job = start(tmp_path)
    assert job.stdin
    assert job.stdout
    packer: Any = zlib.compressobj(wbits=31) if kind == "gzip" else zstandard.ZstdCompressor().compressobj()
    flush = zlib.Z_SYNC_FLUSH if kind == "gzip" else zstandard.COMPRESSOBJ_FLUSH_BLOCK
    for _ in range(2):
        job.stdin.write(packer.compress(jsonl({"query": "fig", "documents": ["fig"]})) + packer.flush(flush))
        job.stdin.flush()
        assert json.loads(job.stdout.readline())["score"] == 1.0
    job.stdin.write(packer.flush())
    job.stdin.close()
    assert job.wait(timeout=60) == 0


def test_invalid_input_before_the_first_answer_exits_with_2(lbr: Program) -> None:
    ended = lbr(*STREAM, stdin=b'{"query":"fig","documents":["a"\n')
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("lbr: standard input:1: not valid JSON: ")
    assert lbr(*STREAM, stdin=b"\n").err == "lbr: standard input: holds no candidates\n"


def test_invalid_input_after_an_answer_exits_with_1(lbr: Program) -> None:
    ended = lbr(*STREAM, stdin=jsonl({"query": "fig", "documents": ["fig"]}) + b"{}\n")
    assert (ended.code, len(ended.records)) == (1, 1)
    assert ended.err.startswith("lbr: standard input:2: no query id")


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"qid": "a", "id": "d", "text": "x"}, "query a: no text, and --stream needs it in the line"),
        ({"qid": "a", "id": "d", "query": "x"}, "query a, document d: no text, and --stream needs it in the line"),
    ],
)
def test_texts_have_to_be_in_the_lines(lbr: Program, record: Any, problem: str) -> None:
    assert lbr(*STREAM, stdin=jsonl(record)).err == f"lbr: standard input:1: {problem}\n"


def test_an_output_file_is_published_at_the_end_of_the_stream(tmp_path: Path, lbr: Program) -> None:
    assert lbr(*STREAM, "-o", "out.jsonl", stdin=jsonl({"query": "fig", "documents": ["fig"]})).code == 0
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 1
    assert lbr(*STREAM, "-o", "bad.jsonl", stdin=jsonl({"query": "fig", "documents": ["fig"]}) + b"{").code == 1
    assert not (tmp_path / "bad.jsonl").exists()


def test_trec_output_of_a_stream(lbr: Program) -> None:
    ended = lbr(*STREAM, "--output-format", "trec", stdin=jsonl({"query": "fig", "documents": ["a", "fig"]}))
    assert ended.out == "1 Q0 1 1 1 lbr-overlap\n1 Q0 0 2 0 lbr-overlap\n"


def test_query_is_the_query_of_jsonl_without_queries(lbr: Program) -> None:
    ended = lbr(
        "rerank", "--engine", "overlap", "--query", "fig", stdin=jsonl({"id": 7, "text": "a"}, {"id": 8, "text": "fig"})
    )
    assert [(r["query_id"], r["doc_id"], r["score"]) for r in ended.records] == [("1", "8", 1.0), ("1", "7", 0.0)]
    ended = lbr("rerank", "--engine", "overlap", "--query", "fig", stdin=jsonl({"documents": ["a", "fig"]}))
    assert [(r["query_id"], r["doc_id"]) for r in ended.records] == [("1", "1"), ("1", "0")]


@pytest.mark.parametrize("key", ["qid", "query_id", "query"])
def test_a_line_with_a_query_and_query_is_an_error(lbr: Program, key: str) -> None:
    lines = jsonl({"id": 1, "text": "x"}, {"id": 2, "text": "x", key: "a"})
    ended = lbr("rerank", "--engine", "overlap", "--query", "fig", stdin=lines)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f'lbr: standard input:2: has a query of its own ("{key}"), and --query is for input without queries\n'
    )


def test_a_trec_run_with_query_is_an_error(files: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--query", "fig")
    assert ended.code == 2
    assert ended.err.startswith("lbr: run.trec:1: has queries of its own, and --query is for input without queries\n")


def test_lines_are_written_byte_for_byte(lbr: Program) -> None:
    text = b"no\r\n\n  a fig \t\nfig\nno\r\n\xc3\xa9 fig, ripe"
    ended = lbr("rerank", "--engine", "overlap", "--query", "ripe fig", "--lines", stdin=text)
    assert ended.code == 0
    assert ended.out.encode() == b"\xc3\xa9 fig, ripe\n  a fig \t\nfig\nno\r\nno\r\n"
    top = lbr("rerank", "--engine", "overlap", "--query", "ripe fig", "--lines", "--top-k", "1", stdin=text)
    assert top.out == "é fig, ripe\n"


def test_lines_that_are_not_utf_8_are_written_unchanged(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbfno\x00\ncaf\xe9 fig\r\r\n\xff\nfoo\rfig, ripe\n\xef\xbb\xbfripe\xef\xbf\xbd\r"
    ended = rank(tmp_path, text)
    assert ended.returncode == 0
    assert ended.stdout == (
        b"foo\rfig, ripe\ncaf\xe9 fig\r\r\n\xef\xbb\xbfripe\xef\xbf\xbd\r\n\xef\xbb\xbfno\x00\n\xff\n"
    )
    warning = b"lbr: warning: standard input:2: invalid UTF-8; 2 lines are scored with replacement characters\n"
    assert ended.stderr == warning


def rank(folder: Path, text: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run `--lines` for two words."""
    command = [sys.executable, "-m", "lbr_cli", "rerank", "--engine", "overlap", "--quiet", "--query", "ripe fig"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, "--lines"], input=text, capture_output=True, cwd=folder, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lines"], "--lines needs --query"),
        (["--lines", "--query", "x", "--explain"], "--explain has no effect: --lines ranks plain text"),
        (["--lines", "--query", "x", "-c", "f"], "--corpus has no effect: --lines ranks plain text"),
        (["--stream", "-c", "f"], "--corpus has no effect: --stream reads JSONL with all texts"),
        (["--stream", "--dry-run"], "--dry-run has no effect: --stream reads JSONL with all texts"),
        (["--query", "x", "-q", "f"], "--queries has no effect: --query is the only query"),
    ],
)
def test_options_without_effect_are_errors(lbr: Program, arguments: list[str], message: str) -> None:
    ended = lbr("rerank", "--engine", "overlap", *arguments, stdin=b"x")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"lbr: {message}")


@given(
    st.lists(
        st.binary(min_size=1, max_size=12).filter(lambda line: b"\n" not in line and line.strip(b" \t\r")), min_size=2
    )
)
def test_any_lines_are_written_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    folder = tmp_path_factory.mktemp("lines")
    lines[0] = b"# " + lines[0]
    (folder / "notes").write_bytes(b"\n".join(lines))
    inputs = Inputs((str(folder / "notes"),), query="ripe fig", lines=True)
    run(Job(inputs, None, "overlap", output=str(folder / "out")), RecordedProgress())
    written = (folder / "out").read_bytes()
    assert written.endswith(b"\n")
    assert sorted(written[:-1].split(b"\n")) == sorted(lines)


def test_duplicates_in_a_stream_are_a_warning(lbr: Program) -> None:
    lines = jsonl(pair("a", "x"), pair("a", "x"), pair("b", "z"), pair("b", "z"))
    ended = lbr(*STREAM, stdin=lines)
    assert (ended.code, len(ended.records)) == (0, 2)
    assert ended.err == (
        "lbr: warning: standard input:2: query a, document x: duplicate pair; 2 duplicate pairs, each scored and "
        "written once\n"
    )
    refused = lbr(*STREAM, "--duplicates", "error", stdin=lines)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "lbr: standard input:2: query a, document x: duplicate pair, first at standard input:1\n"
