"""The engine overlap, which needs no model."""

from __future__ import annotations

import pytest

from lbr_cli.core import Pair
from lbr_cli.engines.overlap import Overlap
from support.engines import answered
from support.program import Program


@pytest.mark.parametrize(
    ("query", "document", "share"),
    [
        ("ripe fig colour", "Figs Ripe figs turn purple.", 1 / 3),
        ("Fig fig FIG", "a fig", 1.0),
        ("STRASSE", "straße", 1.0),
        ("?!", "?!", 0.0),
        ("", "x", 0.0),
        ("x", "", 0.0),
        ("日本 figs", "日本", 0.5),
    ],
)
def test_the_score_is_the_share_of_distinct_query_words(query: str, document: str, share: float) -> None:
    (answer,) = answered(Overlap(), [Pair(query, document)])
    assert list(answer.values) == [share]


def test_a_note_says_that_overlap_uses_no_model(files: object, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap")
    assert "lbr: --engine overlap counts shared words and uses no model: for trying files, not for ranking" in ended.err


@pytest.mark.parametrize("option", [["--model", "lb"], ["--device", "cpu"], ["--max-length", "9"], ["--threads", "1"]])
def test_model_options_are_refused(files: object, lbr: Program, option: list[str]) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", *option)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"lbr: {option[0]} has no effect: --engine overlap uses no model\n"


def test_environment_variables_of_models_are_ignored(files: object, lbr: Program) -> None:
    env = {"LBR_MODEL": "nowhere", "LBR_DEVICE": "cuda", "LBR_THREADS": "2"}
    assert lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", env=env).code == 0
