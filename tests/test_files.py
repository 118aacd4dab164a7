"""Opening what the user named: compression, byte-order marks, line ends, damage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from conftest import ROOT, Program, write
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.errors import InputError
from lbr_cli.formats.files import numbered, open_input

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}


def lines(path: Path, content: bytes) -> list[tuple[int, bytes]]:
    write(path, {"f": content})
    return list(numbered(open_input(str(path / "f"))))


@pytest.mark.parametrize("kind", COMPRESS)
def test_compression_is_told_by_the_first_bytes(tmp_path: Path, kind: str) -> None:
    compress = COMPRESS[kind]
    assert lines(tmp_path, compress(b"a\nb\n")) == [(1, b"a"), (2, b"b")]
    assert lines(tmp_path, compress(b"a\n") + compress(b"b\nc")) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert lines(tmp_path, compress(b"")) == []


@pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind != "plain"])
def test_cut_off_and_damaged_data_is_an_error_with_its_line(tmp_path: Path, kind: str) -> None:
    whole = COMPRESS[kind](os.urandom(300_000).replace(b"\n", b"x") + b"\nb\n" * 3)
    for broken in (whole[:-3], whole[: len(whole) // 2], whole[:100_000] + b"damage" + whole[100_006:]):
        with pytest.raises(InputError, match=rf"f:\d+: the {kind} data is (cut off or )?damaged here"):
            lines(tmp_path, broken)


def test_a_byte_order_mark_is_dropped_once_and_only_at_the_start(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert lines(tmp_path, mark + mark + b"a\n" + mark + b"b") == [(1, mark + b"a"), (2, mark + b"b")]
    assert lines(tmp_path, gzip.compress(mark + b"a")) == [(1, b"a")]


def test_line_ends(tmp_path: Path) -> None:
    odd = "x\u2028y\x85z\x0bw".encode()
    assert lines(tmp_path, b"a\r\n\r\n \t\n" + odd + b"\rb\r") == [(1, b"a"), (4, odd + b"\rb\r")]


@given(st.binary(max_size=400))
def test_any_bytes_come_back_line_by_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    content = b"# plain text\n" + content
    read = lines(tmp_path_factory.mktemp("any"), content)
    expected = [
        (number, line.removesuffix(b"\r") if number <= content.count(b"\n") else line)
        for number, line in enumerate(content.split(b"\n"), 1)
    ]
    assert read == [(number, line) for number, line in expected if line.strip(b" \t\r")]


@pytest.mark.parametrize(
    ("content", "what"), [(b"PK\x03\x04rest", "a zip archive"), ("é".encode("utf-16"), "UTF-16 text")]
)
def test_what_is_no_text(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=f"f: is {what}"):
        lines(tmp_path, content)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: cannot be read: No such file or directory"):
        open_input(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        open_input(str(tmp_path))


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_fifo_that_gives_a_byte_at_a_time(tmp_path: Path, kind: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def give() -> None:
        with open(fifo, "wb", buffering=0) as file:
            for byte in COMPRESS[kind](b"\xef\xbb\xbfa\nb"):
                file.write(bytes([byte]))

    thread = threading.Thread(target=give)
    thread.start()
    assert list(numbered(open_input(str(fifo)))) == [(1, b"a"), (2, b"b")]
    thread.join()


@pytest.mark.parametrize("kind", COMPRESS)
def test_stdin_may_be_compressed_too(files: Path, lbr: Program, kind: str) -> None:
    run = COMPRESS[kind]((files / "run.trec").read_bytes())
    ended = lbr("rerank", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", stdin=run)
    assert ended.out.splitlines()[0] == "q1 Q0 d1 1 0.33333334 lbr-overlap"


def test_windows_line_ends_and_marks_everywhere_change_nothing(files: Path, lbr: Program) -> None:
    expected = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap").out
    for path in list(files.iterdir()):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap").out == expected


def test_text_is_utf_8_whatever_the_locale(files: Path, lbr: Program) -> None:
    write(files, {"docs ä.jsonl": '{"_id":"d1","text":"Ünï"}\n{"_id":"d2","text":""}\n', "q.tsv": "q1\tünï\nq2\tx\n"})
    arguments = ["rerank", "run.trec", "-c", "docs ä.jsonl", "-q", "q.tsv", "--engine", "overlap"]
    ended = lbr(*arguments, env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert ended.out.splitlines()[0] == "q1 Q0 d1 1 1 lbr-overlap"
    write(files, {"docs ä.jsonl": b'{"_id":"d1","text":"caf\xe9"}\n'})
    ended = lbr(*arguments, env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert ended.code == 2
    assert ended.err.startswith("lbr: docs ä.jsonl:1: byte 24 of the line, 0xe9, is not UTF-8\n")


@pytest.mark.parametrize("kind", ["bzip2", "xz", "zstd", "gzip"])
def test_what_follows_a_member_is_never_dropped(tmp_path: Path, kind: str) -> None:
    one, two = COMPRESS[kind](b"a\n"), COMPRESS[kind](b"b\n")
    for rest in (b"plain text\n", two[:6], two[2:], two[:-2]):
        with pytest.raises(InputError, match=rf"f:[23]: the {kind} data is (cut off or )?damaged here"):
            lines(tmp_path, one + rest)


def test_padding_between_xz_streams(tmp_path: Path) -> None:
    padded = lzma.compress(b"a\n") + bytes(8) + lzma.compress(b"b\n") + bytes(4)
    assert lines(tmp_path, padded) == [(1, b"a"), (2, b"b")]


def test_a_zstd_frame_to_be_skipped(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert lines(tmp_path, skipped + COMPRESS["zstd"](b"a\n") + skipped) == [(1, b"a")]


def test_a_pipe_that_says_not_now(files: Path) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    command = [
        sys.executable,
        "-m",
        "lbr_cli",
        "rerank",
        "-c",
        "docs.jsonl",
        "-q",
        "queries.tsv",
        "--engine",
        "overlap",
    ]
    job = subprocess.Popen(
        command, cwd=files, stdin=ours, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    os.close(ours)
    time.sleep(0.6)
    os.write(theirs, (files / "run.trec").read_bytes()[:5])
    time.sleep(0.2)
    os.write(theirs, (files / "run.trec").read_bytes()[5:])
    os.close(theirs)
    out, _ = job.communicate(timeout=60)
    assert (job.returncode, out.count(b"\n")) == (0, 3)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "bzip2" else ()) for kind in COMPRESS]
)
def test_data_that_shrinks_a_thousand_times(tmp_path: Path, kind: str) -> None:
    content = b"".join(b"%d %s\n" % (number, b"cats " * 2000) for number in range(1500))
    read = lines(tmp_path, COMPRESS[kind](content))
    assert b"".join(line + b"\n" for _, line in read) == content
