"""Compressed data and files that cannot be read now, but perhaps later: out of memory, no space, a failing disk."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lbr_cli.errors import InputError, RunError
from lbr_cli.formats.input_files import InputFiles
from support.files import RUN, write
from support.foreign import FOREIGN
from support.paths import ROOT
from support.program import Program


def zstd_frame(window_log: int, content: bytes) -> bytes:
    """Return a frame of one block that is not compressed, with a window of 2**window_log bytes."""
    block = (1 | len(content) << 3).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x00" + bytes([(window_log - 10) << 3]) + block + content


def test_a_zstd_window_that_does_not_fit_into_memory_is_not_damage(files: Path) -> None:
    """The job may succeed with more memory; git-for-windows/git #4258."""
    write(files, {"run.zst": zstd_frame(31, RUN.encode())})
    ended = subprocess.run(
        [sys.executable, "-m", "lbr_cli", "rerank", "run.zst", "-c", "docs.jsonl", "--engine", "overlap"],
        cwd=files,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29)),
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == b"lbr: run.zst: out of memory: the window of the zstd data does not fit\n"


def test_a_zstd_window_that_zstd_does_not_support_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"run.zst": zstd_frame(32, RUN.encode())})
    with pytest.raises(InputError, match=r"run\.zst:1: the zstd data has a window of more than 2 GiB"):
        InputFiles().open(str(tmp_path / "run.zst"))


def test_without_a_temporary_folder_a_compressed_table_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose file system is read-only; conjure-up/conjure-up #964."""

    def not_found() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "gettempdir", not_found)
    table = (FOREIGN / "datasets" / "corpus.parquet").read_bytes()
    write(tmp_path, {"docs.parquet.gz": gzip.compress(table)})
    with pytest.raises(
        RunError, match="cannot be copied to a temporary folder: No usable temporary directory"
    ) as error:
        list(InputFiles().open(str(tmp_path / "docs.parquet.gz")))
    assert error.value.hint == "set TMPDIR to a folder with enough space"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/mem is an I/O error on Linux")
@pytest.mark.parametrize("options", [["/proc/self/mem"], ["run.trec", "-c", "/proc/self/mem"]])
def test_a_read_error_of_the_disk_may_pass(files: Path, lbr: Program, options: list[str]) -> None:
    """A nightly job tries again after exit code 1, and not after 2; mindsdb/anton #383."""
    ended = lbr("rerank", *options, "-q", "queries.tsv", "--engine", "overlap", "--quiet")
    assert (ended.code, ended.err) == (1, "lbr: /proc/self/mem: cannot be read: Input/output error\n")
