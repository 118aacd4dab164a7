"""Mistakes of other reranking tools that no other test covers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lbr_cli.core import Candidate, Query, RankedCandidate
from lbr_cli.formats import OutputOptions
from lbr_cli.formats.trec import Trec
from support.files import RUN, write
from support.program import Program

OVERLAP = ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap"]


def test_scores_are_written_without_rounding_to_ties() -> None:
    scores = [0.9999997615814209, 0.9999996423721313, 3.2e-9, 1.1e-9]
    rows = [RankedCandidate(Candidate(f"d{rank}"), rank, rank, score) for rank, score in enumerate(scores, 1)]
    written = [line.split()[4] for line in Trec().write(Query("q"), rows, OutputOptions("t")).decode().splitlines()]
    assert written == ["0.99999976", "0.99999964", "3.2e-09", "1.1e-09"]


def test_a_second_job_replaces_the_output_of_the_first(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "out.trec").code == 0
    write(files, {"run.trec": "q2 Q0 d3 1 7.0 bm25\n"})
    assert lbr(*OVERLAP, "-o", "out.trec").code == 0
    assert (files / "out.trec").read_text() == "q2 Q0 d3 1 0 lbr-overlap\n"


def test_a_document_equal_to_its_query_is_kept(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": "d1 Q0 d1 1 2 x\nd1 Q0 d2 2 1 x\n", "queries.tsv": "d1\tfigs turn purple\n"})
    assert lbr(*OVERLAP).out.startswith("d1 Q0 d1 1 1 lbr-overlap\n")


def test_texts_with_encoding_errors_are_not_repaired(lbr: Program) -> None:
    text = "cafÃ© â€™ \ufeff e\u0301 \u0000"
    line = json.dumps({"qid": "q", "id": "d", "query": "x", "text": text}).encode()
    assert lbr("rerank", "--engine", "overlap", stdin=line).records[0]["text"] == text


def test_only_results_are_on_stdout_with_a_model(files: Path, lbr: Program, chat_model: Path) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "-m", str(chat_model), "--family", "lb", "--quiet")
    assert [line.split()[:3] for line in sorted(ended.out.splitlines())] == [
        line.split()[:3] for line in sorted(RUN.splitlines())
    ]
    assert all(len(line.split()) == 6 for line in ended.out.splitlines())
    # a model with random weights does not answer in digits, which is the only message
    assert ended.err.splitlines() == [
        "lbr: warning: 3 of 3 pairs: the digits 1 to 7 have less than half of the probability: the model does not "
        "answer in digits"
    ]


def test_code_that_comes_with_a_model_is_not_run_unless_trusted(files: Path, lbr: Program, chat_model: Path) -> None:
    model = files / "remote"
    model.mkdir()
    for file in chat_model.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text())
    config |= {
        "model_type": "mine",
        "architectures": ["Mine"],
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Mine"},
    }
    write(model, {"config.json": json.dumps(config), "code.py": "open('ran', 'w')\n"})
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "-m", "remote", "--family", "lb")
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err
    assert ended.err.splitlines()[-2].startswith("lbr: remote: ")
    assert ended.err.splitlines()[-1] == (
        "lbr: hint: the model comes with its own code: read that code, then run it with --trust-remote-code"
    )
    assert not (files / "ran").exists()


@pytest.mark.parametrize("shape", ["pairs", "nested"])
def test_first_stage_scores_and_ranks_are_written(lbr: Program, shape: str) -> None:
    candidate = {"docid": "d1", "score": 9.5, "url": "u", "text": "fig"}
    record = (
        {"qid": "q1", "query": "fig", **candidate}
        if shape == "pairs"
        else {"qid": "q1", "query": "fig", "candidates": [candidate]}
    )
    (out,) = lbr("rerank", "--engine", "overlap", stdin=json.dumps(record).encode()).records
    assert (out["first_stage_score"], out["first_stage_rank"], out["url"], out["score"]) == (9.5, 1, "u", 1.0)
