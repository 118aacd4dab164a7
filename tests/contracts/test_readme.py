"""The README: its sessions are the program's output, and the options and files that it names exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.fork_server import program_environment
from support.paths import ROOT
from support.program import Program

README = (ROOT / "README.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.\d+")


def steps(session: str) -> list[tuple[str, str]]:
    """(command, what it prints) of a terminal session."""
    parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session.splitlines()[-1][:30])
def test_terminal_sessions_are_true(session: str, tmp_path: Path, minilm: Path, fork_server: str | None) -> None:
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "lbr"
    start = f"{sys.executable} -m lbr_cli"
    if fork_server is not None and session != SESSIONS[0]:  # the first runs in new interpreters
        start = f"{sys.executable} -S {ROOT / 'tests' / 'support' / 'fork_server.py'} run {fork_server}"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec {start} "$@"\n')
    script.chmod(0o755)
    environment = program_environment() | {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "LBR_CACHE": "1",
        "LBR_CACHE_DIR": str(tmp_path / "cache"),
        "LBR_DTYPE": "bfloat16",  # of the machine that the README shows; other processors choose float32
    }
    folder = tmp_path
    for command, expected in steps(session):
        if command.startswith("cd "):
            folder /= command.removeprefix("cd ")
            continue
        ended = subprocess.run(
            ["bash", "-c", command + " 2>&1"], cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
        # scores of another processor differ a little, seconds and precision a lot
        shown, promised = (
            re.sub(r"in [\d.]+ s|bfloat16( computed in float32)?|float32", "", text)
            for text in (ended.stdout, expected)
        )
        assert NUMBER.sub("#", shown) == NUMBER.sub("#", promised)
        numbers = [[float(number) for number in NUMBER.findall(text)] for text in (shown, promised)]
        assert numbers[0] == pytest.approx(numbers[1], abs=0.01)


def test_every_option_that_it_names_is_there(lbr: Program) -> None:
    commands = ([], ["rerank"], ["fuse"], ["tune"], ["evaluate"], ["report"], ["doctor"], ["cache", "prune"])
    options = {name for command in commands for name in re.findall(r"--[a-z][a-z-]+", lbr(*command, "--help").out)}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert named - options <= {"--fail-with-body", "--data-binary", "--max-model-len"}  # of others


def test_every_file_of_the_map_is_there() -> None:
    (tree,) = re.findall(r"^lbr_cli/\n((?:  .*\n)+)", README, re.MULTILINE)
    rooms = {line.split()[0].rstrip("/") for line in tree.splitlines()}
    there = {path.name for path in (ROOT / "lbr_cli").iterdir() if not path.name.startswith("_")}
    assert rooms == there


def test_the_set_up_commands_stand_on_lines_of_their_own() -> None:
    commands = re.findall(r"^ {4}(python3 -m venv .*)$", README, re.MULTILINE)
    assert commands == [
        "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt '.[minilm]' && "
        "lbr rerank samples/run.trec --corpus samples/docs.jsonl --model minilm",
        "python3 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e '.[dev]' && pytest",
    ]
