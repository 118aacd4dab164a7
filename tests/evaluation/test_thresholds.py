"""`lbr evaluate --fail-below`: exit code 1 for a run that is worse than a threshold."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.files import write
from support.program import Program

EVALUATE = ("evaluate", "--qrels", "qrels", "good.trec", "bad.trec", "--measures", "P@1")


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    good, bad = "q1 Q0 d1 1 2 x\nq1 Q0 d2 2 1 x\n", "q1 Q0 d2 1 2 x\nq1 Q0 d1 2 1 x\n"
    return write(tmp_path, {"qrels": "q1 0 d1 1\n", "good.trec": good, "bad.trec": bad})


def test_a_run_below_the_threshold_fails_after_the_table(judged: Path, lbr: Program) -> None:
    plain = lbr(*EVALUATE)
    ended = lbr(*EVALUATE, "--fail-below", "RR=0.75", "--per-query", "values.tsv")
    assert (ended.code, ended.out) == (1, plain.out)
    assert ended.err == plain.err + "lbr: bad.trec: RR is 0.5, below 0.75\n"
    assert (judged / "values.tsv").exists()


@pytest.mark.parametrize("thresholds", [["RR=0.5"], ["P@1=0", "RR=-1"], ["P(rel=1)@1=0"]])
def test_runs_at_or_above_their_thresholds_pass(thresholds: list[str], judged: Path, lbr: Program) -> None:
    options = [word for text in thresholds for word in ("--fail-below", text)]
    assert lbr(*EVALUATE, *options).code == 0
    assert lbr(*EVALUATE, *options).out == lbr(*EVALUATE).out


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("RR", "--fail-below RR: invalid threshold, not measure=number", 'example: --fail-below "nDCG@10=0.4"'),
        ("=1", "--fail-below =1: invalid threshold, not measure=number", 'example: --fail-below "nDCG@10=0.4"'),
        ("RR=nan", "--fail-below RR=nan: invalid threshold, not measure=number", 'example: --fail-below "nDCG@10=0.4"'),
        (
            "RR=high",
            "--fail-below RR=high: invalid threshold, not measure=number",
            'example: --fail-below "nDCG@10=0.4"',
        ),
        ("P@{1,2}=1", "--fail-below P@{1,2}=1: 2 measures, and one is needed", "repeat the option"),
    ],
)
def test_invalid_thresholds_are_errors(text: str, message: str, hint: str, judged: Path, lbr: Program) -> None:
    ended = lbr(*EVALUATE, "--fail-below", text)
    assert (ended.code, ended.out, ended.err) == (2, "", f"lbr: {message}\nlbr: hint: {hint}\n")


def test_an_unknown_measure_is_named(judged: Path, lbr: Program) -> None:
    ended = lbr(*EVALUATE, "--fail-below", "Best=1")
    assert ended.code == 2
    assert ended.err.startswith("lbr: --measures Best: unknown measure Best\n")
