"""A forked program behaves like a program in a new interpreter."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.files import write
from support.fork_server import Forked
from support.program import Program, Starter


@pytest.fixture(autouse=True)
def _needs_server(fork_server: str | None) -> None:
    if fork_server is None:
        pytest.skip("no fork server: not on Linux, or --fresh")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["rerank", "--nonsense"],
        ["rerank", "nowhere.trec", "-m", "minilm"],
        ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--quiet"],
        ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--quiet", "-o", "/dev/full"],
        ["cache", "info", "--cache-dir", "c"],
    ],
)
def test_exit_codes_and_outputs_equal_those_of_a_new_process(
    arguments: list[str], files: Path, lbr_start: Starter, lbr: Program, lbr_process: Program
) -> None:
    job = lbr_start(*arguments)
    assert isinstance(job, Forked)
    job.communicate()
    assert lbr(*arguments) == lbr_process(*arguments)


@pytest.mark.parametrize("variable", ["LC_ALL", "PYTHONPATH", "OMP_NUM_THREADS", "HOME", "TERM"])
def test_a_variable_that_libraries_read_early_needs_a_new_process(variable: str, lbr_start: Starter) -> None:
    job = lbr_start("--version", env={variable: f"{os.environ.get(variable, '')}x"})
    assert isinstance(job, subprocess.Popen)
    job.communicate()


def test_input_output_and_environment_are_those_of_the_call(tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"lines": b"a fig\n" * 50_000})
    ended = lbr("rerank", "--query", "fig", "--lines", "--engine", "overlap", stdin=(tmp_path / "lines").read_bytes())
    assert (ended.code, len(ended.out)) == (0, 300_000)
    (tmp_path / "folder").mkdir()
    ended = lbr("cache", "info", env={"LBR_CACHE_DIR": "c"}, cwd=tmp_path / "folder")
    assert ended.out == "c/scores.sqlite: does not exist yet\n"


def test_a_killed_fork_has_the_exit_code_of_its_signal(files: Path, lbr_start: Starter) -> None:
    job = lbr_start("rerank", "-", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap")
    assert job.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(timeout=0.05)
    job.kill()
    job.communicate()
    assert (job.wait(), job.returncode) == (-9, -9)
