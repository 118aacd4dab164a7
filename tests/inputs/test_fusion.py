"""Several runs: reciprocal rank fusion in `lbr rerank` and `lbr fuse`."""

from __future__ import annotations

import hashlib
import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lbr_cli.formats.input_files import InputFiles
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.load import load_candidates
from support.files import DOCS, QUERIES, write
from support.program import Program, Result
from support.progress import RecordedProgress

SPARSE = "q1 Q0 d1 1 9.5 a\nq1 Q0 d2 2 8.1 a\nq2 Q0 d2 1 7.0 a\n"
DENSE = "q1 Q0 d3 1 0.9 b\nq1 Q0 d2 2 0.8 b\nq1 Q0 d1 3 0.7 b\n"
RERANK = ["rerank", "sparse.trec", "dense.trec", "-c", "docs.jsonl", "--engine", "overlap", "--output-format", "jsonl"]
# ranx.fuse(runs, method="rrf", params={"k": 60}) of the two runs, by ranx 0.3.21
BY_RANX = {
    ("q1", "d1"): 0.032266458495966696,
    ("q1", "d2"): 0.03225806451612903,
    ("q1", "d3"): 0.01639344262295082,
    ("q2", "d2"): 0.01639344262295082,
}
runs_of_a_query = st.lists(
    st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=8), min_size=2, max_size=4
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    contents = {"sparse.trec": SPARSE, "dense.trec": DENSE, "queries.tsv": QUERIES, "docs.jsonl": DOCS}
    return write(tmp_path, dict(contents))


def fused(records: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    return {(record["query_id"], record["doc_id"]): record["first_stage_score"] for record in records}


def trec(rankings: list[list[str]], folder: Path) -> tuple[str, ...]:
    """Write a run of one query for each ranking, and return their paths."""
    paths = []
    for number, ranking in enumerate(rankings):
        path = folder / f"{number}.trec"
        path.write_text("".join(f"q Q0 {doc} 1 {-index} x\n" for index, doc in enumerate(ranking)))
        paths.append(str(path))
    return tuple(paths)


def scores(paths: tuple[str, ...], k: int = 60) -> dict[str, float]:
    (ranking,) = load_candidates(Inputs(paths, fuse_k=k), InputFiles(), RecordedProgress()).rankings
    return {candidate.doc_id: candidate.score or 0.0 for candidate in ranking.candidates}


def test_scores_equal_those_of_ranx(folder: Path, lbr: Program) -> None:
    expected = {pair: pytest.approx(score, abs=1e-9) for pair, score in BY_RANX.items()}
    assert fused(lbr(*RERANK).records) == expected
    assert fused(lbr("fuse", "sparse.trec", "dense.trec", "--output-format", "jsonl").records) == expected


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@example(rankings=[["a", "c", "d"], ["a", "c", "d"], ["b", "a", "d"]], k=0)  # 1/3 + 1/3 + 1/3 equals 1
@given(rankings=runs_of_a_query, k=st.sampled_from([0, 1, 60, 1000]))
def test_scores_are_sums_of_reciprocal_ranks_in_any_order_of_the_runs(
    tmp_path: Path, rankings: list[list[str]], k: int
) -> None:
    paths = trec(rankings, tmp_path)
    exact = {
        doc: sum(Fraction(1, k + ranking.index(doc) + 1) for ranking in rankings if doc in ranking)
        for doc in set(itertools.chain(*rankings))
    }
    computed = scores(paths, k)
    assert computed == {doc: pytest.approx(float(score), abs=1e-12) for doc, score in exact.items()}
    for one, other in itertools.combinations(exact, 2):  # equal ranks are a tie, in any order of addition
        assert (computed[one] > computed[other]) == (exact[one] > exact[other])
    assert all(scores(order, k) == computed for order in itertools.permutations(paths))


def test_ties_are_in_the_order_of_the_first_run_that_has_the_document(tmp_path: Path) -> None:
    assert list(scores(trec([["a", "b"], ["b", "a"], ["c"]], tmp_path))) == ["a", "b", "c"]
    assert list(scores(trec([["b", "a"], ["a", "b"], ["c"]], tmp_path))) == ["b", "a", "c"]


def test_ranks_are_positions_in_the_first_stage_order(tmp_path: Path) -> None:
    files = {
        "shuffled.trec": "q Q0 b 1 1 x\nq Q0 a 2 5 x\nq Q0 a 3 9 x\n",  # the duplicate does not count
        "ranks.tsv": "q\tc\t2\nq\ta\t1\n",
        "positions.jsonl": '{"qid":"q","id":"b"}\n{"qid":"q","id":"c"}\n',
    }
    write(tmp_path, dict(files))
    computed = scores(tuple(str(tmp_path / name) for name in files))
    assert computed == {
        "a": pytest.approx(1 / 61 + 1 / 61),
        "b": pytest.approx(1 / 62 + 1 / 61),
        "c": pytest.approx(1 / 62 + 1 / 62),
    }


def test_depth_and_interpolation_use_the_fused_order(folder: Path, lbr: Program) -> None:
    ended = lbr(*RERANK, "--depth", "1")
    assert [(record["doc_id"], record["score"]) for record in ended.records[:3]] == [
        ("d1", pytest.approx(1 / 3)),
        ("d2", None),
        ("d3", None),
    ]
    assert "lbr: 1 of 2 queries not in every run\n" in ended.err
    only_first_stage = lbr(*RERANK, "--interpolate", "1").records[:3]
    assert [record["doc_id"] for record in only_first_stage] == ["d1", "d2", "d3"]
    spread = BY_RANX["q1", "d1"] - BY_RANX["q1", "d3"]
    middle = (BY_RANX["q1", "d2"] - BY_RANX["q1", "d3"]) / spread
    assert [record["score"] for record in only_first_stage] == [1.0, pytest.approx(middle), 0.0]


def test_formats_may_differ_and_texts_and_keys_of_every_run_are_kept(tmp_path: Path, lbr: Program) -> None:
    lines = (
        '{"qid":"q1","query":"ripe fig","id":"d2","score":1,"text":"fig","year":2,"note":null}\n'
        '{"qid":"q1","id":"d4","text":"x"}\n'
    )
    more = '{"qid":"q1","id":"d2","year":3,"note":"n","lang":"en"}\n'
    write(tmp_path, {"a.trec": SPARSE, "b.jsonl": lines, "c.jsonl": more, "docs.jsonl": DOCS, "queries.tsv": QUERIES})
    ended = lbr("rerank", "a.trec", "b.jsonl", "c.jsonl", "-c", "docs.jsonl", "--engine", "overlap")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == "lbr: b.jsonl:1: query q1 has another text at queries.tsv:1"
    write(tmp_path, {"queries.tsv": QUERIES.replace("ripe fig colour", "ripe fig")})
    ended = lbr("rerank", "a.trec", "b.jsonl", "c.jsonl", "-c", "docs.jsonl", "--engine", "overlap")
    assert ended.code == 0, ended.err
    by_id = {record["doc_id"]: record for record in ended.records if record["query_id"] == "q1"}
    d2 = by_id["d2"]
    assert (d2["text"], d2["year"], d2["note"], d2["lang"], d2["score"]) == ("fig", 2, "n", "en", 0.5)
    assert by_id.keys() == {"d1", "d2", "d4"}
    assert by_id["d1"].keys() == {"query_id", "doc_id", "rank", "score", "first_stage_score", "first_stage_rank"}


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (
            '{"qid":1,"id":"d","query":"a","text":"x"}\n',
            '{"qid":2,"id":"d","query":"a","text":"y"}\n\n{"qid":1,"id":"d","text":"y"}\n',
            "second:3: query 1, document d: another text at first:1",
        ),
        (
            '{"qid":1,"id":"d","query":"a"}\n{"qid":1,"id":"d","text":"x"}\n',
            '{"qid":1,"id":"e"}\n{"qid":1,"id":"d"}\n{"qid":1,"id":"d","text":"y"}\n',
            "second:3: query 1, document d: another text at first:2",
        ),
        (
            '{"qid":1,"id":"d"}\n{"qid":1,"id":"e","query":"a"}\n',
            '{"qid":1,"id":"d"}\n{"qid":1,"id":"f","query":"b"}\n',
            "second:2: query 1 has another text at first:2",
        ),
        (
            '{"qid":"1","id":"d","query":"a"}\n',
            '{"query":"a","documents":["x"]}\n',
            "second:1: query id 1 is also the number of a line without an id",
        ),
        (
            '{"qid":1,"id":"d"}\n',
            "q1 Q0 d1 1 x tag\n",
            "second:1: the score, field 5, is not a finite decimal number: x",
        ),
        ('{"qid":1,"id":"d"}\n', "# no lines\n", "second: holds no candidates"),
    ],
)
def test_conflicting_texts_name_both_locations(
    tmp_path: Path, lbr: Program, first: str, second: str, problem: str
) -> None:
    write(tmp_path, {"first": first, "second": second})
    for command in (["fuse"], ["rerank", "--engine", "overlap"]):
        ended = lbr(*command, "first", "second")
        assert (ended.code, ended.out) == (2, "")
        assert f"lbr: {problem}" in ended.err.splitlines()


def test_missing_texts_name_the_file_and_the_line(folder: Path, lbr: Program) -> None:
    write(folder, {"dense.trec": DENSE + "q1 Q0 d9 4 0.1 b\n"})
    ended = lbr(*RERANK, "--quiet")
    assert ended.code == 2
    assert ended.err.splitlines()[0] == (
        "lbr: dense.trec:4: 1 of 4 documents are not in docs.jsonl (1 pairs): d9 (dense.trec:4)"
    )
    skipped = lbr(*RERANK, "--quiet", "--missing-docs", "skip")
    assert skipped.err == (
        "lbr: warning: sparse.trec, dense.trec: 1 of 4 documents are not in docs.jsonl (1 pairs): d9 (dense.trec:4)\n"
    )
    write(folder, {"queries.tsv": "q2\ttram gauge\n"})
    assert lbr(*RERANK, "--quiet").err.splitlines()[0] == (
        "lbr: sparse.trec:1: 1 of 2 queries have no text in queries.tsv: q1 (sparse.trec:1)"
    )


def test_a_pair_in_two_runs_is_not_a_duplicate(folder: Path, lbr: Program) -> None:
    assert "duplicate" not in lbr(*RERANK, "--duplicates", "error").err
    write(folder, {"dense.trec": DENSE + DENSE})
    assert "lbr: warning: dense.trec:4: query q1, document d3: duplicate pair; 3 duplicate" in lbr(*RERANK).err


def test_queries_beside_any_run_are_found(folder: Path, lbr: Program) -> None:
    (folder / "runs").mkdir()
    (folder / "dense.trec").rename(folder / "runs" / "dense.trec")
    command = [*RERANK[:2], "runs/dense.trec", *RERANK[3:]]
    assert "lbr: queries: queries.tsv\n" in lbr(*command).err
    (folder / "runs" / "topics.tsv").write_text(QUERIES)
    ended = lbr(*command)
    assert ended.code == 2
    assert "several files may hold the queries: queries.tsv, runs/topics.tsv" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rerank", "sparse.trec", "--fuse", "rrf"], "--fuse has no effect: there is one RUN"),
        (["rerank", "sparse.trec", "--fuse-k", "9"], "--fuse-k has no effect: there is one RUN"),
        (["rerank", "sparse.trec", "dense.trec", "--stream"], "--stream reads one RUN, not 2"),
        (["rerank", "sparse.trec", "dense.trec", "--lines", "--query", "x"], "--lines reads one RUN, not 2"),
        (["rerank", "-", "-"], "only one input can be standard input"),
        (["fuse", "-", "-"], "only one input can be standard input"),
        (["fuse", "sparse.trec"], "one RUN, and a fusion needs several"),
        (["fuse", "sparse.trec", "dense.trec", "--tag", "x", "--output-format", "msmarco"], "--tag: msmarco output"),
        (["fuse", "sparse.trec", "docs.jsonl"], "docs.jsonl:1: no query id (query_id, qid, query-id, q_id)"),
    ],
)
def test_invalid_options_and_files_are_errors(folder: Path, lbr: Program, arguments: list[str], message: str) -> None:
    ended = lbr(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert f"lbr: {message}" in ended.err


def test_the_manifest_has_the_digest_of_every_run(folder: Path, lbr: Program) -> None:
    lbr(*RERANK, "-o", "out.jsonl", "--manifest", "m.json", "--fuse-k", "7")
    manifest = json.loads((folder / "m.json").read_text())
    assert {name: manifest["options"][name] for name in ("run", "fuse", "fuse_k")} == {
        "run": ["sparse.trec", "dense.trec"],
        "fuse": "rrf",
        "fuse_k": 7,
    }
    digests = {one["file"]: one["sha256"] for one in manifest["inputs"]}
    for name in ("sparse.trec", "dense.trec"):
        assert digests[name] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    lbr("rerank", "sparse.trec", *RERANK[3:], "-o", "out.jsonl", "--manifest", "m.json")
    options = json.loads((folder / "m.json").read_text())["options"]
    assert options["run"] == "sparse.trec"
    assert not {"fuse", "fuse_k"} & options.keys()


def rows(ended: Result) -> list[list[str]]:
    return [line.split() for line in ended.out.splitlines()]


def test_fuse_writes_every_format(folder: Path, lbr: Program) -> None:
    runs = ("fuse", "sparse.trec", "dense.trec")
    assert rows(lbr(*runs)) == [
        ["q1", "Q0", "d1", "1", "0.032266457", "lbr-rrf"],
        ["q1", "Q0", "d2", "2", "0.032258064", "lbr-rrf"],
        ["q1", "Q0", "d3", "3", "0.016393442", "lbr-rrf"],
        ["q2", "Q0", "d2", "1", "0.016393442", "lbr-rrf"],
    ]
    assert [row[5] for row in rows(lbr(*runs, "--tag", "mine", "--top-k", "1"))] == ["mine", "mine"]
    assert rows(lbr(*runs, "--output-format", "msmarco"))[0] == ["q1", "d1", "1"]
    first = lbr(*runs, "--output-format", "jsonl").records[0]
    assert first == {
        "query_id": "q1",
        "doc_id": "d1",
        "rank": 1,
        "score": pytest.approx(BY_RANX["q1", "d1"], abs=1e-12),
        "first_stage_score": first["score"],
        "first_stage_rank": 1,
    }


def test_a_fused_run_is_reranked_like_the_runs(folder: Path, lbr: Program) -> None:
    lbr("fuse", "sparse.trec", "dense.trec", "-o", "fused.jsonl")
    together = lbr(*RERANK, "--interpolate", "0.5").records
    assert lbr("rerank", "fused.jsonl", *RERANK[3:], "--interpolate", "0.5").records == together


def test_the_fused_run_may_replace_a_run_but_no_other_file(folder: Path, lbr: Program) -> None:
    expected = lbr("fuse", "sparse.trec", "dense.trec").out
    assert lbr("fuse", "sparse.trec", "dense.trec", "-o", "dense.trec").code == 0
    assert (folder / "dense.trec").read_text() == expected
    ended = lbr("fuse", "sparse.trec", "dense.trec", "-o", "dense.trec", "--no-clobber")
    assert (ended.code, ended.err) == (2, "lbr: dense.trec: exists, and --no-clobber is set\n")
    write(folder, {"blank.jsonl": '{"qid":"a b","id":"d"}\n'})
    ended = lbr("fuse", "sparse.trec", "blank.jsonl", "-o", "dense.trec")
    assert ended.code == 2
    assert "an id with a blank cannot be written to trec output" in ended.err
    assert (folder / "dense.trec").read_text() == expected
