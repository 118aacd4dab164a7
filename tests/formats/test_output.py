"""Outputs: complete files or none, inputs that are never overwritten, permissions, devices, pipes, full disks."""

from __future__ import annotations

import errno
import fcntl
import gzip
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lbr_cli.errors import RunError, UsageError
from lbr_cli.formats.output import Output, open_output
from support.files import RUN, write
from support.paths import ROOT
from support.program import Program
from support.terminal import waiting_for_input
from support.users import OTHER_USER, unprivileged

OVERLAP = ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap"]
OVERLAP_OF_STDIN = ["rerank", "-", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap"]
EXPECTED = "q1 Q0 d1 1 0.33333334 lbr-overlap\nq1 Q0 d2 2 0 lbr-overlap\nq2 Q0 d2 1 0.5 lbr-overlap\n"


warned: list[str] = []


@pytest.fixture(autouse=True)
def no_warnings() -> None:
    warned.clear()


def opened(path: Path) -> Output:
    """Open an output; its warnings go to warned."""
    return open_output(str(path), warned.append)


def refuse(number: int) -> Any:
    """Return a function that fails with an error number, instead of a system call."""

    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to create files of other users")


def test_a_new_file_has_the_mode_of_the_umask(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "-o", "out.trec", "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (files / "out.trec").read_text() == EXPECTED
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((files / "out.trec").stat().st_mode) == 0o666 & ~umask
    assert not list(files.glob(".*"))


def test_the_mode_and_the_link_of_an_old_file_are_kept(files: Path, lbr: Program) -> None:
    write(files, {"real.trec": "old"})
    (files / "real.trec").chmod(0o640)
    (files / "link.trec").symlink_to("real.trec")
    assert lbr(*OVERLAP, "-o", "link.trec").code == 0
    assert (files / "link.trec").is_symlink()
    assert (files / "real.trec").read_text() == EXPECTED
    assert stat.S_IMODE((files / "real.trec").stat().st_mode) == 0o640


def test_a_run_may_be_overwritten_by_its_reranking(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "run.trec").code == 0
    assert (files / "run.trec").read_text() == EXPECTED


def test_invalid_input_keeps_the_old_file(files: Path, lbr: Program) -> None:
    write(files, {"out.trec": "old", "docs.jsonl": "{"})
    assert lbr(*OVERLAP, "-o", "out.trec").code == 2
    assert (files / "out.trec").read_text() == "old"
    assert not list(files.glob(".*"))


def test_no_clobber_is_checked_before_reading(files: Path, lbr: Program) -> None:
    write(files, {"out.trec": "old", "docs.jsonl": "{"})
    ended = lbr(*OVERLAP, "-o", "out.trec", "--no-clobber")
    assert (ended.code, ended.err) == (2, "lbr: out.trec: exists, and --no-clobber is set\n")
    (files / "out.trec").unlink()
    assert "docs.jsonl:1" in lbr(*OVERLAP, "-o", "out.trec", "--no-clobber").err


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_extensions_choose_format_and_compression(files: Path, lbr: Program, ending: str) -> None:
    for name in ("out.tsv", "again.tsv"):
        assert lbr(*OVERLAP, "-o", name + ending).code == 0
    data = (files / f"out.tsv{ending}").read_bytes()
    plain = gzip.decompress(data) if ending == ".gz" else zstandard.ZstdDecompressor().decompressobj().decompress(data)
    assert plain == b"q1\td1\t1\nq1\td2\t2\nq2\td2\t1\n"
    assert (files / f"again.tsv{ending}").read_bytes() == data


@pytest.mark.parametrize("name", ["out.trec.bz2", "out.jsonl.xz", "out.Z"])
def test_an_extension_of_another_compression_is_refused(files: Path, lbr: Program, name: str) -> None:
    for option in ("-o", "--manifest"):
        ended = lbr(*OVERLAP, option, name)
        message = f"lbr: {name}: cannot be written: unsupported compression\nlbr: hint: use .gz or .zst\n"
        assert (ended.code, ended.out, ended.err) == (2, "", message)
    assert not (files / name).exists()


def test_output_format_overrides_the_extension(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "out.tsv", "--output-format", "trec").code == 0
    assert (files / "out.tsv").read_text() == EXPECTED


def test_a_pipe_is_written_directly(files: Path, lbr: Program) -> None:
    os.mkfifo(files / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((files / "pipe").read_text()))
    reader.start()
    assert lbr(*OVERLAP, "-o", "pipe").code == 0
    reader.join()
    assert got == [EXPECTED]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_a_run_error(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "-o", "/dev/full", "--quiet")
    assert (ended.code, ended.err) == (1, "lbr: /dev/full: cannot be written: No space left on device\n")


def test_a_missing_folder_and_a_folder_as_output_are_errors(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "-o", "no/out.trec")
    assert (ended.code, ended.err) == (2, "lbr: no/out.trec: cannot be written: No such file or directory\n")
    assert "Is a directory" in lbr(*OVERLAP, "-o", ".").err


def test_the_temporary_file_of_a_killed_run_is_replaced(files: Path, lbr: Program) -> None:
    write(files, {".out.trec.lbr-tmp": "half a li"})
    assert lbr(*OVERLAP, "-o", "out.trec").code == 0
    assert (files / "out.trec").read_text() == EXPECTED
    assert not list(files.glob(".*"))


def test_two_writers_of_one_file_are_an_error(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as first:
        first.write(b"one")
        with pytest.raises(RunError, match="another lbr process is writing this file"):
            opened(tmp_path / "out")
    with opened(tmp_path / "out") as second:
        second.write(b"two")
    assert (tmp_path / "out").read_bytes() == b"two"


def test_an_exception_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with opened(tmp_path / "out") as output:
            output.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 246, "x" * 255, "ü" * 127])
def test_a_long_name_has_a_short_temporary_name(tmp_path: Path, name: str) -> None:
    found = []
    for _ in range(2):
        with opened(tmp_path / name) as output:
            found.append([path.name for path in tmp_path.glob(".*.lbr-tmp")])
            output.write(b"x")
    assert found[0] == found[1]
    assert len(found[0]) == 1
    assert os.listdir(tmp_path) == [name]


def test_a_file_name_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="File name too long"):
        opened(tmp_path / ("x" * 256))


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lbr_cli", "rerank", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup ignores it
    )


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGINT, 130, "lbr: interrupted"),
        (signal.SIGTERM, 143, "lbr: terminated"),
        (signal.SIGHUP, 129, "lbr: hung up"),
    ],
)
def test_signals_keep_the_old_file(files: Path, number: signal.Signals, code: int, last: str) -> None:
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


def test_a_job_of_nohup_continues_without_its_terminal(files: Path) -> None:
    job = waiting_for_input(files, *OVERLAP_OF_STDIN, "-o", "out.trec", stderr=subprocess.DEVNULL)
    job.send_signal(signal.SIGHUP)
    job.communicate(RUN.encode(), timeout=30)
    assert job.returncode == 0
    assert (files / "out.trec").read_text() == EXPECTED


def test_a_closed_pipe_is_not_an_error(files: Path) -> None:
    write(files, {"big.trec": "".join(f"q{i} Q0 d{j} 1 1 x\n" for i in range(2000) for j in (1, 2, 3))})
    write(files, {"big.tsv": "".join(f"q{i}\ttram gauge\n" for i in range(2000))})
    job = start(files, "big.trec", "-c", "docs.jsonl", "-q", "big.tsv", "--engine", "overlap", "--quiet")
    assert job.stdout
    assert job.stderr
    assert job.stdout.readline() == b"q0 Q0 d2 1 0.5 lbr-overlap\n"
    job.stdout.close()
    assert job.stderr.read() == b""
    assert job.wait(timeout=30) == 0


def test_closed_stdout_is_an_error(files: Path) -> None:
    command = f"exec {sys.executable} -m lbr_cli {' '.join(OVERLAP)} --quiet >&-"
    ended = subprocess.run(
        command, shell=True, cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, b"lbr: standard output is closed\n")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_file_that_exceeds_the_size_limit_is_an_error(files: Path, unbuffered: str) -> None:
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
def test_a_slow_reader_receives_everything(files: Path, blocking: bool) -> None:
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
def test_a_descriptor_keeps_its_position(files: Path, target: str) -> None:
    command = (
        f"{{ echo header; {sys.executable} -m lbr_cli {' '.join(OVERLAP)} --quiet -o {target}; echo footer; }} > out"
    )
    subprocess.run(["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert (files / "out").read_text() == f"header\n{EXPECTED}footer\n"


def test_process_substitution_is_written(files: Path) -> None:
    command = f"{sys.executable} -m lbr_cli {' '.join(OVERLAP)} --quiet -o >(cat > out; echo done > end)"
    command += "; while [ ! -e end ]; do sleep 0.05; done"
    subprocess.run(["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert (files / "out").read_text() == EXPECTED


def test_a_pipe_with_a_compressed_extension_is_compressed(files: Path, lbr: Program) -> None:
    os.mkfifo(files / "pipe.trec.gz")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((files / "pipe.trec.gz").read_bytes()))
    reader.start()
    assert lbr(*OVERLAP, "-o", "pipe.trec.gz").code == 0
    reader.join()
    assert gzip.decompress(got[0]).decode() == EXPECTED


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(exec true)"])
def test_a_job_continues_if_stderr_is_closed(files: Path, stderr: str) -> None:
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


def test_a_name_that_ends_in_a_slash_is_an_error(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "new/").code == 2
    assert not (files / "new").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["rerank", "--help"]])
def test_help_to_a_closed_pipe_or_a_full_disk_is_no_traceback(files: Path, arguments: list[str]) -> None:
    run = f"{sys.executable} -m lbr_cli {' '.join(arguments)}"
    command = f"{run} | true; echo ${{PIPESTATUS[0]}}; {run} > /dev/full; echo $?"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    assert ended.stdout == b"0\n1\n"
    assert ended.stderr == b"lbr: standard output: cannot be written: No space left on device\n"


def test_empty_names_and_invalid_descriptors_are_usage_errors(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "-o", "").err == "lbr: --output: empty file name\n"
    for name in ("/dev/fd/99999999999999999999", "/dev/fd/77", "/dev/fd/\u0667"):
        ended = lbr(*OVERLAP, "-o", name)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(f"lbr: {name}: cannot be written: ")
    command = f"{sys.executable} -m lbr_cli {' '.join(OVERLAP)} -o /dev/fd/3 3</dev/null"
    ended_ = subprocess.run(
        ["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert (ended_.returncode, ended_.stderr) == (2, b"lbr: /dev/fd/3: cannot be written: open for reading only\n")


def test_a_removed_temporary_file_is_an_error(tmp_path: Path) -> None:
    def work() -> None:
        with opened(tmp_path / "out") as output:
            output.write(b"x")
            (tmp_path / ".out.lbr-tmp").unlink()

    with pytest.raises(RunError, match="cannot be written: No such file or directory"):
        work()


def test_a_dry_run_with_closed_stdout_is_an_error(files: Path) -> None:
    command = f"exec {sys.executable} -m lbr_cli {' '.join(OVERLAP)} --dry-run --quiet >&-"
    ended = subprocess.run(
        ["bash", "-c", command], cwd=files, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, b"lbr: standard output is closed\n")


# ---------------------------------------------------------------- files that are also read


def bash(folder: Path, command: str) -> tuple[int, bytes, bytes]:
    """Run a command line, in which LBR is the program; return exit code, stdout and stderr."""
    command = command.replace("LBR", f"{sys.executable} -m lbr_cli {' '.join(OVERLAP)} --quiet")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, check=False)
    return ended.returncode, ended.stdout, ended.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-o docs.jsonl", "--output docs.jsonl: would overwrite the corpus docs.jsonl"),
        ("-o $PWD/./docs.jsonl", "--output {0}/./docs.jsonl: would overwrite the corpus docs.jsonl"),
        ("-o link.jsonl", "--output link.jsonl: would overwrite the corpus docs.jsonl"),
        ("-o hard.jsonl", "--output hard.jsonl: would overwrite the corpus docs.jsonl"),
        ("-c hard2.tsv -o link.jsonl", "--output link.jsonl: would overwrite the corpus docs.jsonl"),
        ("-o queries.tsv", "--output queries.tsv: would overwrite the queries file queries.tsv"),
        ("-q queries.tsv -o queries.tsv", "--output queries.tsv: would overwrite the queries file queries.tsv"),
        ("rerank --stream -o run.jsonl < run.jsonl", "--output run.jsonl: would overwrite the run on standard input"),
        (
            "rerank run.trec -c - -o docs.jsonl < docs.jsonl",
            "--output docs.jsonl: would overwrite the corpus on standard input",
        ),
        (
            "rerank run.trec -c /dev/stdin -o hard.jsonl < docs.jsonl",
            "--output hard.jsonl: would overwrite the corpus /dev/stdin",
        ),
        (">> docs.jsonl", "standard output: would overwrite the corpus docs.jsonl"),
        (">> queries.tsv", "standard output: would overwrite the queries file queries.tsv"),
        (">> run.trec", "standard output: would overwrite the run run.trec"),
        ("-o /dev/stdout >> docs.jsonl", "--output /dev/stdout: would overwrite the corpus docs.jsonl"),
        ("-o /dev/fd/3 3>> docs.jsonl", "--output /dev/fd/3: would overwrite the corpus docs.jsonl"),
        ("--dry-run >> docs.jsonl", "standard output: would overwrite the corpus docs.jsonl"),
        ("-c .o.lbr-tmp -o o", "--output o: would overwrite the corpus .o.lbr-tmp"),
        ("-o hard.jsonl --manifest docs2", "--output hard.jsonl: would overwrite the corpus docs.jsonl"),
        ("--manifest hard.jsonl", "--manifest hard.jsonl: would overwrite the corpus docs.jsonl"),
        ("--manifest m -o m", "--manifest m: the same file as --output m"),
        ("--manifest m >> m", "--manifest m: the same file as standard output"),
    ],
)
def test_an_input_is_never_overwritten(files: Path, options: str, message: str) -> None:
    write(files, {"run.jsonl": '{"query":"x","documents":["x"]}\n', "hard2.tsv": "d9\tx\n", ".o.lbr-tmp": "d9\tx\n"})
    (files / "link.jsonl").symlink_to("docs.jsonl")
    os.link(files / "docs.jsonl", files / "hard.jsonl")
    whole = f"{sys.executable} -m lbr_cli {options.replace(' -', ' --engine overlap --quiet -', 1)}"
    before = contents(files)
    code, out, err = bash(files, whole if options.startswith("rerank") else f"LBR {options}")
    assert (code, out, err.decode()) == (2, b"", f"lbr: {message.format(files)}\n")
    (files / "m").unlink(missing_ok=True)  # created by the shell
    assert contents(files) == before


def test_the_run_may_be_replaced_and_devices_may_be_shared(files: Path) -> None:
    write(files, {"two.trec": (files / "run.trec").read_bytes()})
    assert bash(files, "LBR -o run.trec")[0] == 0
    assert (files / "run.trec").read_text() == EXPECTED
    standard_input = f"{sys.executable} -m lbr_cli rerank - -c docs.jsonl -q queries.tsv --engine overlap --quiet"
    assert bash(files, f"{standard_input} -o two.trec < two.trec") == (0, b"", b"")
    assert (files / "two.trec").read_text() == EXPECTED
    assert bash(files, "LBR -o /dev/null --manifest /dev/null < /dev/null") == (0, b"", b"")


def test_files_of_the_model_and_of_the_cache_are_never_overwritten(files: Path, lbr: Program, chat_model: Path) -> None:
    revision = "0" * 40
    repository = files / "hub" / "models--ours--tiny"
    snapshot = repository / "snapshots" / revision
    shutil.copytree(chat_model, files / "model")
    shutil.copytree(chat_model, snapshot)
    (repository / "refs").mkdir()
    (files / "cache").mkdir()
    write(repository / "refs", {"main": revision})
    write(files, {"m.gguf": "GGUF", "prompt.toml": 'user = "{query} {document}"\n'})
    environment = {"HF_HUB_CACHE": str(files / "hub"), "HF_HUB_OFFLINE": "1"}
    cached = ["--cache", "--cache-dir", "cache"]
    own_prompt = ["--family", "next-token", "--labels", "yes,no", "--prompt-file", "prompt.toml"]
    for model, more, output, what in (
        ("model", [], "model/config.json", "model file model/config.json"),
        ("model", [], "model/model.safetensors", "model file model/model.safetensors"),
        ("ours/tiny", [], f"{snapshot}/tokenizer.json", f"model file {snapshot}/tokenizer.json"),
        ("m.gguf", [], "m.gguf", "model file m.gguf"),
        ("model", cached, "cache/scores.sqlite", "score cache cache/scores.sqlite"),
        (
            "model",
            cached,
            "cache/scores.sqlite-wal",
            "score cache cache/scores.sqlite-wal",
        ),
        ("model", own_prompt, "prompt.toml", "prompt file prompt.toml"),
    ):
        family = [] if "--family" in more else ["--family", "lb"]
        before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
        ended = lbr(
            "rerank", "run.trec", "-c", "docs.jsonl", "-m", model, *family, *more, "-o", output, env=environment
        )
        assert ended.code == 2
        assert ended.err.splitlines()[-1] == f"lbr: --output {output}: would overwrite the {what}"
        assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


# ---------------------------------------------------------------- files that cannot be replaced


def test_a_mount_point_is_refused_before_computing(files: Path) -> None:
    write(files, {"out.trec": "old"})
    mount = "mount --bind out.trec out.trec"
    if bash(files, f"unshare -m sh -c '{mount}'")[0]:
        pytest.skip("needs root and unshare, to mount a file")
    code, out, err = bash(files, f"unshare -m sh -c '{mount}; LBR -o out.trec'")
    assert (code, out, err.decode()) == (
        2,
        b"",
        "lbr: out.trec: cannot be replaced: it is a mount point\n"
        "lbr: hint: mount its folder instead of the file, choose a file in another folder, "
        "or redirect standard output to this file\n",
    )
    assert (files / "out.trec").read_text() == "old"
    assert not list(files.glob(".*"))


@needs_root
def test_another_owners_file_in_a_sticky_folder_is_refused_before_computing(shared: Path) -> None:
    os.chmod(shared, 0o1777)
    write(shared, {"out": "old"})
    os.chmod(shared / "out", 0o666)
    with unprivileged(), pytest.raises(UsageError, match=r"out: cannot be replaced: Operation not permitted: another"):
        opened(shared / "out")
    assert contents(shared) == {"out": b"old"}


def test_an_immutable_file_is_refused_before_computing(tmp_path: Path) -> None:
    write(tmp_path, {"out": "old"})
    if bash(tmp_path, "chattr +i out")[0]:
        pytest.skip("needs root and a file system with chattr +i")
    try:
        with pytest.raises(UsageError, match="cannot be replaced: Operation not permitted"):
            opened(tmp_path / "out")
    finally:
        bash(tmp_path, "chattr -i out")
    assert contents(tmp_path) == {"out": b"old"}


def test_a_folder_without_write_permission_is_refused_with_a_hint(shared: Path) -> None:
    write(shared, {"out": "old"})
    os.chmod(shared / "out", 0o666)
    os.chmod(shared, 0o555)
    with unprivileged():
        with pytest.raises(UsageError, match="cannot be written: Permission denied") as found:
            opened(shared / "out")
        with pytest.raises(UsageError, match="cannot be written: Permission denied"):
            opened(shared / "new")
    assert "write permission for its folder" in found.value.hint
    os.chmod(shared, 0o755)
    assert contents(shared) == {"out": b"old"}


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.ENOSPC])
def test_a_finished_file_that_cannot_be_renamed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write(tmp_path, {"out": "old"})
    monkeypatch.setattr(os, "rename", refuse(number))
    output = opened(tmp_path / "out")
    output.write(b"new")
    with pytest.raises(RunError) as found, output:
        pass
    kept = tmp_path / ".out.lbr-tmp"
    reason = f"cannot be replaced: {os.strerror(number)}; the finished result is in {kept}"
    assert str(found.value) == f"{tmp_path}/out: {reason}"
    assert contents(tmp_path) == {"out": b"old", ".out.lbr-tmp": b"new"}


def test_a_full_disk_at_the_end_keeps_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"out": "old"})
    monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
    output = opened(tmp_path / "out")
    output.write(b"new")
    with pytest.raises(RunError, match="cannot be written: No space left on device"), output:
        pass
    assert contents(tmp_path) == {"out": b"old"}


# ---------------------------------------------------------------- file systems that refuse something


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EROFS])
def test_without_chmod_the_result_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    write(tmp_path, {"out": "old"})
    os.chmod(tmp_path / "out", 0o640)
    monkeypatch.setattr(os, "fchmod", refuse(number))
    for name in ("out", "new"):
        with opened(tmp_path / name) as output:
            output.write(b"new")
    assert contents(tmp_path) == {"out": b"new", "new": b"new"}
    assert warned == [
        f"{tmp_path}/out: mode 0640 of the old file cannot be kept; the mode is now 0600: {os.strerror(number)}"
    ]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_flock_the_result_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    write(tmp_path, {".out.lbr-tmp": "left by a killed job"})
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    with opened(tmp_path / "out") as output:
        output.write(b"new")
    assert contents(tmp_path) == {"out": b"new"}
    assert warned == [
        f"{tmp_path}/out: the file system has no locks, so two jobs that write this file are not detected"
    ]


def test_without_flock_half_a_file_of_another_job_is_never_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOSYS))
    first, second = opened(tmp_path / "out"), opened(tmp_path / "out")
    first.write(b"first")
    second.write(b"second")
    with pytest.raises(RunError, match=r"another process replaced .*\.out\.lbr-tmp"), first:
        pass
    with second:
        pass
    assert contents(tmp_path) == {"out": b"second"}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_without_fsync_the_result_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "fsync", refuse(number))
    with opened(tmp_path / "out") as output:
        output.write(b"new")
    assert contents(tmp_path) == {"out": b"new"}
    assert warned == [f"{tmp_path}/out: the file system cannot sync files: {os.strerror(number)}"]


def test_warnings_about_the_file_reach_stderr(files: Path) -> None:
    code = (
        "import fcntl, sys\nfrom lbr_cli.commands import main\n"
        "def flock(*_): raise OSError(38, 'Function not implemented')\n"
        f"fcntl.flock = flock\nsys.argv = {['lbr', *OVERLAP, '--quiet', '-o', 'out.trec']!r}\nmain()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=files, env=environment, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        0,
        "",
        "lbr: warning: out.trec: the file system has no locks, so two jobs that write this file are not detected\n",
    )
    assert (files / "out.trec").read_text() == EXPECTED


def test_an_error_while_locking_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path / "out")
    assert contents(tmp_path) == {}


# ---------------------------------------------------------------- owners and ACLs


@needs_root
def test_a_group_that_cannot_be_kept_gives_the_new_group_no_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"out": "old"})
    os.chown(tmp_path / "out", 0, OTHER_USER)
    os.chmod(tmp_path / "out", 0o2664)
    monkeypatch.setattr(os, "fchown", refuse(errno.EPERM))
    with opened(tmp_path / "out") as output:
        output.write(b"new")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o644
    assert warned == [f"{tmp_path}/out: owner 0:{OTHER_USER} of the old file cannot be kept; the owner is now 0:0"]


@needs_root
def test_the_owner_is_kept_by_root(tmp_path: Path) -> None:
    write(tmp_path, {"out": "old"})
    os.chown(tmp_path / "out", OTHER_USER, OTHER_USER)
    with opened(tmp_path / "out") as output:
        output.write(b"new")
    status = (tmp_path / "out").stat()
    assert (status.st_uid, status.st_gid, warned) == (OTHER_USER, OTHER_USER, [])


@needs_root
def test_a_temporary_file_of_another_user_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, {".out.lbr-tmp": "forged"})
    os.chown(tmp_path / ".out.lbr-tmp", OTHER_USER, OTHER_USER)
    with open(tmp_path / ".out.lbr-tmp", "ab") as forged:
        with opened(tmp_path / "out") as output:
            output.write(b"new")
        forged.write(b"more")
    assert contents(tmp_path) == {"out": b"new"}
    assert (tmp_path / "out").stat().st_uid == 0


@needs_root
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_temporary_file_of_another_user_that_cannot_be_replaced(shared: Path, mode: int) -> None:
    os.chmod(shared, 0o1777)
    write(shared, {".out.lbr-tmp": "old"})
    os.chmod(shared / ".out.lbr-tmp", mode)
    with unprivileged(), pytest.raises(UsageError, match=r"permission denied to replace .*, which belongs to user 0"):
        opened(shared / "out")
    assert contents(shared) == {".out.lbr-tmp": b"old"}


def test_a_hard_link_of_the_temporary_name_is_not_written(tmp_path: Path) -> None:
    write(tmp_path, {"precious": "precious"})
    os.link(tmp_path / "precious", tmp_path / ".out.lbr-tmp")
    with opened(tmp_path / "out") as output:
        output.write(b"new")
    assert contents(tmp_path) == {"precious": b"precious", "out": b"new"}


ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def acl(*, mask: int = 4) -> bytes:
    """user::rw-, user:1234:r--, group::---, the mask, other::---"""
    entries = ((1, 6, -1), (2, 4, 1234), (4, 0, -1), (16, mask, -1), (32, 0, -1))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def set_acl(path: Path, name: str) -> None:
    if sys.platform != "linux":
        pytest.skip("POSIX ACLs are read on Linux only")
    try:
        os.setxattr(path, name, acl())
    except OSError as error:
        pytest.skip(f"the file system of the tests has no ACLs: {error}")


def test_the_acl_of_the_old_file_is_kept(tmp_path: Path) -> None:
    write(tmp_path, {"out": "old"})
    set_acl(tmp_path / "out", ACCESS)
    with opened(tmp_path / "out") as output:
        output.write(b"new")
    assert (tmp_path / "out").read_bytes() == b"new"
    assert os.getxattr(tmp_path / "out", ACCESS) == acl()
    assert warned == []


def test_an_acl_that_cannot_be_kept_does_not_widen_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"out": "old"})
    set_acl(tmp_path / "out", ACCESS)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640  # the group bits are the mask
    monkeypatch.setattr(os, "setxattr", refuse(errno.ENOTSUP))
    with opened(tmp_path / "out") as output:
        output.write(b"new")
    assert (tmp_path / "out").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    assert warned == [
        f"{tmp_path}/out: the ACL of the old file cannot be kept; its users and groups may have lost access"
    ]


def test_the_default_acl_of_the_folder_counts_for_a_new_file_only(tmp_path: Path) -> None:
    write(tmp_path, {"old": "old"})
    os.chmod(tmp_path / "old", 0o640)
    set_acl(tmp_path, DEFAULT)
    write(tmp_path, {"plain": ""})
    for name in ("old", "new"):
        with opened(tmp_path / name) as output:
            output.write(b"new")
    assert os.getxattr(tmp_path / "new", ACCESS) == os.getxattr(tmp_path / "plain", ACCESS) == acl()
    assert os.listxattr(tmp_path / "old") == []
    assert stat.S_IMODE((tmp_path / "old").stat().st_mode) == 0o640
    assert warned == []
