"""Files that are not text are named, with a command that converts them."""

from __future__ import annotations

import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
from pathlib import Path

import pytest

from support.program import Program

RUN = "q1 Q0 d1 1 9.5 x\n"


def database(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id)")
    connection.commit()
    connection.close()
    return path.read_bytes()


def archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("run.trec"))
    return content.getvalue()


KINDS = {
    "zip": (b"PK\x03\x04rest", "a zip archive", "unzip -p run"),
    "lz4": (b"\x04\x22\x4d\x18rest", "an LZ4 file", "lz4 -dc run"),
    "compress": (b"\x1f\x9d\x90\x71rest", "a compress (.Z) file", "gzip -dc run"),
    "pack": (b"\x1f\x1e\x00\x00\x00\x03rest", "a pack (.z) file", "gzip -dc run"),
    "lzma": (lzma.compress(RUN.encode(), lzma.FORMAT_ALONE), "an LZMA file", "xz -dc run"),
    "lzip": (b"LZIP\x01rest", "an lzip file", "lzip -dc run"),
    "7z": (b"7z\xbc\xaf\x27\x1crest", "a 7z archive", "7z x -so run"),
    "pickle": (pickle.dumps({"q1": {"d1": 1.0}}), "a Python pickle", "write JSON lines"),
    "numpy": (b"\x93NUMPY\x01\0rest", "a NumPy array", "write JSON lines"),
    "tar": (archive(), "a tar archive", "tar -xOf run"),
    "tar in gzip": (gzip.compress(archive()), "a tar archive", "tar -xOf run"),
    "utf-16-le": (RUN.encode("utf-16-le"), "UTF-16 text without a byte-order mark", "iconv -f utf-16le"),
    "utf-16-be": (RUN.encode("utf-16-be"), "UTF-16 text without a byte-order mark", "iconv -f utf-16be"),
    "utf-16": (RUN.encode("utf-16"), "UTF-16 text", "iconv -f utf-16 "),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_binary_file_is_named(name: str, tmp_path: Path, lbr: Program) -> None:
    content, kind, command = KINDS[name]
    (tmp_path / "run").write_bytes(content)
    for ended, where in ((lbr("rerank", "run"), "run"), (lbr("rerank", stdin=content), "standard input")):
        assert (ended.code, ended.out, ended.err.splitlines()[0]) == (2, "", f"lbr: {where}: is {kind}")
    assert command in lbr("rerank", "run").err.splitlines()[1]


def test_a_sqlite_database_is_named(tmp_path: Path, lbr: Program) -> None:
    database(tmp_path / "run")
    assert lbr("rerank", "run").err.startswith("lbr: run: is a SQLite database\n")


def test_ids_may_begin_like_binary_files(files: Path, lbr: Program) -> None:
    run = "PAR1 Q0 d1 1 9.5 x\nARROW1 Q0 d1 1 9.5 x\n"
    (files / "q").write_text("PAR1\tfigs\nARROW1\tfigs\n")
    ended = lbr("rerank", "-c", "docs.jsonl", "-q", "q", "--engine", "overlap", "--quiet", stdin=run.encode())
    assert (ended.code, len(ended.out.splitlines())) == (0, 2)


def test_a_letor_file_is_refused(tmp_path: Path, lbr: Program) -> None:
    (tmp_path / "run").write_text("2 qid:10 1:0.1 2:0.3 3:0.4 # docid = GX-1\n")
    ended = lbr("rerank", "run")
    assert ended.code == 2
    assert ended.err.startswith("lbr: run:1: a LETOR file (grade qid:ID feature:value …), not a run\n")
    assert "awk" in ended.err
