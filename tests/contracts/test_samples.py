"""The samples: their contents, and their nDCG before and after reranking with MiniLM."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ir_measures
import pytest

from support.paths import ROOT
from support.program import Program

SAMPLES = ROOT / "samples"


def ndcg(qrels: Path, run: Path) -> float:
    judged = list(ir_measures.read_trec_qrels(str(qrels)))
    found = {
        metric.query_id: metric.value
        for metric in ir_measures.iter_calc([ir_measures.nDCG @ 10], judged, ir_measures.read_trec_run(str(run)))
    }
    return sum(found.values()) / len({qrel.query_id for qrel in judged})


def records(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text(encoding="utf-8").splitlines()]


def test_sample_files_are_consistent() -> None:
    documents = {record["_id"] for record in records("docs.jsonl")}
    queries = {record["_id"] for record in records("queries.jsonl")}
    assert (len(documents), len(queries)) == (90, 12)
    run = [line.split() for line in (SAMPLES / "run.trec").read_text().splitlines()]
    assert {fields[2] for fields in run} <= documents
    assert {fields[0] for fields in run} == queries
    qrels = [line.split() for line in (SAMPLES / "qrels.txt").read_text().splitlines()]
    assert {fields[2] for fields in qrels} <= documents
    assert {fields[0] for fields in qrels} == queries
    assert {fields[3] for fields in qrels} == {"1", "2", "3"}
    assert sum(bool(re.match(r"(def|SELECT) ", record["text"])) for record in records("docs.jsonl")) == 4


def test_minilm_raises_ndcg_by_at_least_a_tenth(minilm: Path, tmp_path: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "--corpus", "docs.jsonl", "--model", "minilm", cwd=SAMPLES)
    assert ended.code == 0
    assert "lbr: 12 queries, 213 pairs (0 truncated) in " in ended.err
    (tmp_path / "out.trec").write_text(ended.out)
    gain = ndcg(SAMPLES / "qrels.txt", tmp_path / "out.trec") - ndcg(SAMPLES / "qrels.txt", SAMPLES / "run.trec")
    assert gain >= 0.10


@pytest.mark.slow  # thousands of pairs
@pytest.mark.parametrize(("name", "least", "interpolated"), [("medquad_liveqa", 0.79, 0.81)])
def test_minilm_reaches_its_ndcg_on_a_public_collection(
    data: Path, minilm: Path, tmp_path: Path, lbr: Program, name: str, least: float, interpolated: float
) -> None:
    folder = data / name
    run = ["rerank", str(folder / "run.bm25.trec"), "-c", str(folder / "corpus.jsonl")]
    for options, bar in (([], least), (["--interpolate", "0.5"], interpolated)):
        ended = lbr(
            *(*run, "-q", str(folder / "queries.tsv"), "-m", "minilm", "-o", "out.trec", *options),
            env={"LBR_CACHE": "1", "LBR_CACHE_DIR": str(tmp_path)},
        )
        assert ended.code == 0
        assert ndcg(folder / "qrels.txt", tmp_path / "out.trec") >= bar
