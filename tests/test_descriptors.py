"""Standard streams that are closed, non-blocking, or a terminal that disappears."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lbr_cli.descriptors import patient
from support.files import RUN
from support.paths import ROOT
from support.terminal import waiting_for_input

OVERLAP = ["rerank", "-", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap"]
PYTHON = f"PYTHONPATH={ROOT} {sys.executable}"


def test_a_job_continues_if_its_terminal_is_closed(files: Path) -> None:
    """A job that ignores SIGHUP, as after `disown`, outlives its terminal; tqdm #1033."""
    master, slave = pty.openpty()
    job = waiting_for_input(files, *OVERLAP, "-o", "out.trec", stderr=slave)
    os.close(slave)
    os.close(master)
    job.communicate(RUN.encode(), timeout=30)
    assert job.returncode == 0
    assert (files / "out.trec").read_text().count("\n") == 3


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_slow_reader_of_a_non_blocking_pipe_receives_all_text(descriptor: int) -> None:
    """A program on the same terminal or pipe may have set it to non-blocking; rich #2492."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, b"." * 4096)
    command = ["rerank", "--help"] if descriptor == 1 else ["rerank", "nowhere.trec"]
    out, err = (theirs, None) if descriptor == 1 else (None, theirs)
    job = subprocess.Popen([sys.executable, "-m", "lbr_cli", *command], cwd=ROOT, stdout=out, stderr=err)
    os.close(theirs)
    time.sleep(0.7)  # until it writes
    with open(ours, "rb") as reader:
        text = reader.read().lstrip(b".").decode()
    job.wait(timeout=30)
    if descriptor == 1:
        assert text.startswith("Usage: lbr rerank")
        assert text.endswith("--lines\n")
    else:
        assert text == "lbr: nowhere.trec: cannot be read: No such file or directory\n"


def test_text_is_written_in_parts_if_a_pipe_accepts_only_parts() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    text = "ü" * 500_000
    stream = patient(io.TextIOWrapper(open(theirs, "wb", closefd=False), encoding="ascii"))
    writer = threading.Thread(target=lambda: (stream.write(text), stream.flush(), os.close(theirs)))
    writer.start()
    with open(ours, "rb") as reader:
        assert reader.read().decode() == text
    writer.join()


def test_a_closed_standard_output_is_never_another_file(files: Path) -> None:
    """Without a reserved descriptor, the manifest would be opened as 1; rust-lang/rust #57728."""
    command = f"{PYTHON} -m lbr_cli {' '.join(OVERLAP)} --quiet --manifest m.json -o /dev/stdout < run.trec >&-"
    ended = subprocess.run(["bash", "-c", command], cwd=files, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"lbr: standard output is closed\n")
    assert not (files / "m.json").exists()


def test_closed_standard_descriptors_are_reserved(tmp_path: Path) -> None:
    """They stay unusable, also for child processes."""
    code = (
        "import os, subprocess, sys\n"
        "from lbr_cli.descriptors import reserve_standard_descriptors\n"
        "reserve_standard_descriptors()\n"
        "number = os.open('out', os.O_WRONLY | os.O_CREAT)\n"
        "child = subprocess.run(['sh', '-c', 'cat || echo x || exit 3'])\n"
        "os.write(number, f'{number} {child.returncode}'.encode())\n"
    )
    command = f'{PYTHON} -c "$0" <&- >&- 2>&-'
    subprocess.run(["bash", "-c", command, code], cwd=tmp_path, check=True)
    assert (tmp_path / "out").read_text() == "3 3"
