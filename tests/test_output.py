"""Where results go: whole files or none, links, modes, devices, pipes, a full disk."""

from __future__ import annotations

import gzip
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zstandard
from conftest import ROOT, Program, write

from lbr_cli.errors import RunError, UsageError
from lbr_cli.formats.output import open_output

OVERLAP = ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap"]
EXPECTED = "q1 Q0 d1 1 0.33333334 lbr-overlap\nq1 Q0 d2 2 0 lbr-overlap\nq2 Q0 d2 1 0.5 lbr-overlap\n"


def test_a_file_appears_with_the_umasks_mode(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "-o", "out.trec", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (files / "out.trec").read_text() == EXPECTED
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((files / "out.trec").stat().st_mode) == 0o666 & ~umask
    assert not list(files.glob(".*"))


def test_an_old_file_keeps_its_mode_and_a_link_its_target(files: Path, lbr: Program) -> None:
    write(files, {"real.trec": "old"})
    (files / "real.trec").chmod(0o640)
    (files / "link.trec").symlink_to("real.trec")
    assert lbr(*OVERLAP, "-o", "link.trec").code == 0
    assert (files / "link.trec").is_symlink()
    assert (files / "real.trec").read_text() == EXPECTED
    assert stat.S_IMODE((files / "real.trec").stat().st_mode) == 0o640


def test_a_run_may_be_written_over_itself(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "run.trec").code == 0
    assert (files / "run.trec").read_text() == EXPECTED


def test_bad_input_leaves_the_old_file(files: Path, lbr: Program) -> None:
    write(files, {"out.trec": "old", "docs.jsonl": "{"})
    assert lbr(*OVERLAP, "-o", "out.trec").code == 2
    assert (files / "out.trec").read_text() == "old"
    assert not list(files.glob(".*"))


def test_no_clobber_is_decided_before_anything_is_read(files: Path, lbr: Program) -> None:
    write(files, {"out.trec": "old", "docs.jsonl": "{"})
    ended = lbr(*OVERLAP, "-o", "out.trec", "--no-clobber")
    assert (ended.code, ended.err) == (2, "lbr: out.trec: is there already, and --no-clobber was given\n")
    (files / "out.trec").unlink()
    assert "docs.jsonl:1" in lbr(*OVERLAP, "-o", "out.trec", "--no-clobber").err


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_endings_choose_format_and_compression(files: Path, lbr: Program, ending: str) -> None:
    for name in ("out.tsv", "again.tsv"):
        assert lbr(*OVERLAP, "-o", name + ending).code == 0
    data = (files / f"out.tsv{ending}").read_bytes()
    plain = gzip.decompress(data) if ending == ".gz" else zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert plain == b"q1\td1\t1\nq1\td2\t2\nq2\td2\t1\n"
    assert (files / f"again.tsv{ending}").read_bytes() == data


def test_output_format_wins_over_the_ending(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "out.tsv", "--output-format", "trec").code == 0
    assert (files / "out.tsv").read_text() == EXPECTED


def test_a_pipe_is_written_straight(files: Path, lbr: Program) -> None:
    os.mkfifo(files / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((files / "pipe").read_text()))
    reader.start()
    assert lbr(*OVERLAP, "-o", "pipe").code == 0
    reader.join()
    assert got == [EXPECTED]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_a_failure_that_may_pass(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "-o", "/dev/full", "--quiet")
    assert (ended.code, ended.err) == (1, "lbr: /dev/full: cannot be written: No space left on device\n")


def test_a_folder_that_is_not_there_and_one_that_is(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "-o", "no/out.trec")
    assert (ended.code, ended.err) == (2, "lbr: no/out.trec: cannot be written: No such file or directory\n")
    assert "Is a directory" in lbr(*OVERLAP, "-o", ".").err


def test_what_a_killed_run_left_is_taken_over(files: Path, lbr: Program) -> None:
    write(files, {".out.trec.lbr-tmp": "half a li"})
    assert lbr(*OVERLAP, "-o", "out.trec").code == 0
    assert (files / "out.trec").read_text() == EXPECTED
    assert not list(files.glob(".*"))


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    with open_output(str(tmp_path / "out")) as first:
        first.write(b"one")
        with pytest.raises(RunError, match="another lbr is writing this file"):
            open_output(str(tmp_path / "out"))
    with open_output(str(tmp_path / "out")) as second:
        second.write(b"two")
    assert (tmp_path / "out").read_bytes() == b"two"


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with open_output(str(tmp_path / "out")) as output:
            output.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_for_its_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="File name too long"):
        open_output(str(tmp_path / ("x" * 250)))


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lbr_cli", "rerank", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("number", "code", "last"), [(signal.SIGINT, 130, "lbr: interrupted"), (signal.SIGTERM, 143, "lbr: terminated")]
)
def test_signals_leave_the_old_file(files: Path, number: signal.Signals, code: int, last: str) -> None:
    write(files, {"out.trec": "old"})
    job = start(files, "-", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", "-o", "out.trec")
    deadline = time.monotonic() + 30
    while not (files / ".out.trec.lbr-tmp").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    job.send_signal(number)
    _, err = job.communicate(timeout=30)
    assert (job.returncode, err.decode().splitlines()[-1]) == (code, last)
    assert (files / "out.trec").read_text() == "old"
    assert not (files / ".out.trec.lbr-tmp").exists()


def test_a_reader_that_has_seen_enough_is_no_error(files: Path) -> None:
    write(files, {"big.trec": "".join(f"q{i} Q0 d{j} 1 1 x\n" for i in range(2000) for j in (1, 2, 3))})
    write(files, {"big.tsv": "".join(f"q{i}\ttram gauge\n" for i in range(2000))})
    job = start(files, "big.trec", "-c", "docs.jsonl", "-q", "big.tsv", "--engine", "overlap", "--quiet")
    assert job.stdout
    assert job.stderr
    assert job.stdout.readline() == b"q0 Q0 d2 1 0.5 lbr-overlap\n"
    job.stdout.close()
    assert job.stderr.read() == b""
    assert job.wait(timeout=30) == 0


def test_stdout_that_is_closed(files: Path) -> None:
    command = f"exec {sys.executable} -m lbr_cli {' '.join(OVERLAP)} --quiet >&-"
    ended = subprocess.run(
        command, shell=True, cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, b"lbr: standard output is closed\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_file_too_large_is_no_success(files: Path, unbuffered: str) -> None:
    write(files, {"big.trec": "".join(f"q1 Q0 d{i} 1 1 x\n" for i in range(2000)), "big.tsv": "q1\tx\n"})
    write(files, {"big.jsonl": "".join(f'{{"_id":"d{i}","text":"x"}}\n' for i in range(2000))})
    command = f"ulimit -f 16; exec {sys.executable} -m lbr_cli rerank big.trec -c big.jsonl -q big.tsv --engine overlap"
    ended = subprocess.run(
        ["bash", "-c", command + " --quiet > out"],
        cwd=files,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (1, b"lbr: standard output: cannot be written: File too large\n")


@pytest.mark.parametrize("blocking", [True, False])
def test_a_slow_reader_gets_everything(files: Path, blocking: bool) -> None:
    write(files, {"big.trec": "".join(f"q1 Q0 d{i} 1 1 x\n" for i in range(9000)), "big.tsv": "q1\tx\n"})
    write(files, {"big.jsonl": "".join(f'{{"_id":"d{i}","text":"x"}}\n' for i in range(9000))})
    ours, theirs = os.pipe()
    os.set_blocking(theirs, blocking)
    command = [sys.executable, "-m", "lbr_cli", "rerank", "big.trec", "-c", "big.jsonl", "-q", "big.tsv"]
    job = subprocess.Popen(
        [*command, "--engine", "overlap", "--quiet"],
        cwd=files,
        stdout=theirs,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    os.close(theirs)
    time.sleep(1)
    with open(ours, "rb") as reader:
        assert reader.read().count(b"\n") == 9000
    assert job.wait(timeout=30) == 0


@pytest.mark.parametrize("target", ["/dev/stdout", "/dev/fd/1"])
def test_a_descriptor_keeps_its_place(files: Path, target: str) -> None:
    command = (
        f"{{ echo header; {sys.executable} -m lbr_cli {' '.join(OVERLAP)} --quiet -o {target}; echo footer; }} > out"
    )
    subprocess.run(["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert (files / "out").read_text() == f"header\n{EXPECTED}footer\n"


def test_process_substitution(files: Path) -> None:
    command = f"{sys.executable} -m lbr_cli {' '.join(OVERLAP)} --quiet -o >(cat > out; echo done > end)"
    command += "; while [ ! -e end ]; do sleep 0.05; done"
    subprocess.run(["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert (files / "out").read_text() == EXPECTED


def test_a_pipe_whose_name_asks_for_compression(files: Path, lbr: Program) -> None:
    os.mkfifo(files / "pipe.trec.gz")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((files / "pipe.trec.gz").read_bytes()))
    reader.start()
    assert lbr(*OVERLAP, "-o", "pipe.trec.gz").code == 0
    reader.join()
    assert gzip.decompress(got[0]).decode() == EXPECTED


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(exec true)"])
def test_a_job_whose_messages_cannot_be_told_goes_on(files: Path, stderr: str) -> None:
    command = f"exec {sys.executable} -m lbr_cli {' '.join(OVERLAP)} -o out {stderr}"
    ended = subprocess.run(["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert ended.returncode == 0
    assert (files / "out").read_text() == EXPECTED


def test_a_link_or_a_pipe_of_the_temporary_name_is_not_followed(files: Path, lbr: Program) -> None:
    write(files, {"precious": "precious"})
    (files / ".out.trec.lbr-tmp").symlink_to("precious")
    assert lbr(*OVERLAP, "-o", "out.trec").code == 2
    assert (files / "precious").read_text() == "precious"
    (files / ".out.trec.lbr-tmp").unlink()
    os.mkfifo(files / ".out.trec.lbr-tmp")
    assert lbr(*OVERLAP, "-o", "out.trec").code == 2


def test_a_name_that_ends_in_a_slash_is_no_file(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "new/").code == 2
    assert not (files / "new").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["rerank", "--help"]])
def test_help_into_a_pipe_that_is_closed_and_onto_a_full_disk(files: Path, arguments: list[str]) -> None:
    run = f"{sys.executable} -m lbr_cli {' '.join(arguments)}"
    command = f"{run} | true; echo ${{PIPESTATUS[0]}}; {run} > /dev/full; echo $?"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    assert ended.stdout == b"0\n1\n"
    assert ended.stderr == b"lbr: standard output: cannot be written: No space left on device\n"


def test_an_empty_name_and_odd_descriptors_are_wrong_usage(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "").err == "lbr: --output: an empty name\n"
    for name in ("/dev/fd/99999999999999999999", "/dev/fd/77", "/dev/fd/\u0667"):
        ended = lbr(*OVERLAP, "-o", name)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(f"lbr: {name}: cannot be written: ")
    command = f"{sys.executable} -m lbr_cli {' '.join(OVERLAP)} -o /dev/fd/3 3</dev/null"
    ended_ = subprocess.run(
        ["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert (ended_.returncode, ended_.stderr) == (2, b"lbr: /dev/fd/3: cannot be written: open for reading only\n")


def test_a_temporary_file_that_somebody_took_away(tmp_path: Path) -> None:
    def work() -> None:
        with open_output(str(tmp_path / "out")) as output:
            output.write(b"x")
            (tmp_path / ".out.lbr-tmp").unlink()

    with pytest.raises(RunError, match="cannot be written: No such file or directory"):
        work()


def test_a_dry_run_with_stdout_closed_says_so(files: Path) -> None:
    command = f"exec {sys.executable} -m lbr_cli {' '.join(OVERLAP)} --dry-run --quiet >&-"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, b"lbr: standard output is closed\n")
