"""Opening input files: compression, byte-order marks, line ends, damage."""

from __future__ import annotations

import bz2
import gzip
import io
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
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.errors import InputError
from lbr_cli.formats.files import numbered
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.formats.text_stream import ByteOrderMarks
from support.files import DOCS, QUERIES, RUN, write
from support.paths import ROOT
from support.program import Program

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}


def lines(path: Path, content: bytes) -> list[tuple[int, bytes]]:
    write(path, {"f": content})
    return list(numbered(InputFiles().open(str(path / "f"))))


@pytest.mark.parametrize("kind", COMPRESS)
def test_compression_is_detected_from_the_first_bytes(tmp_path: Path, kind: str) -> None:
    compress = COMPRESS[kind]
    assert lines(tmp_path, compress(b"a\nb\n")) == [(1, b"a"), (2, b"b")]
    assert lines(tmp_path, compress(b"a\n") + compress(b"b\nc")) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert lines(tmp_path, compress(b"")) == []


@pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind != "plain"])
def test_truncated_and_damaged_data_is_an_error_with_its_line(tmp_path: Path, kind: str) -> None:
    whole = COMPRESS[kind](os.urandom(300_000).replace(b"\n", b"x") + b"\nb\n" * 3)
    for broken in (whole[:-3], whole[: len(whole) // 2], whole[:100_000] + b"damage" + whole[100_006:]):
        with pytest.raises(InputError, match=rf"f:\d+: the {kind} data is (cut off or )?damaged here"):
            lines(tmp_path, broken)


MARK = b"\xef\xbb\xbf"


def test_byte_order_marks_are_dropped_at_the_start_of_every_line(tmp_path: Path) -> None:
    assert lines(tmp_path, MARK + MARK + b"a\n" + MARK + b"b") == [(1, b"a"), (2, b"b")]
    assert lines(tmp_path, gzip.compress(MARK + b"a") + gzip.compress(b"\n" + MARK)) == [(1, b"a")]
    # inside a line, and if incomplete, they are part of the text
    kept = [b"a" + MARK, MARK[:2] + b"b", MARK[:1]]
    assert lines(tmp_path, b"\n".join(kept)) == list(enumerate(kept, 1))


def test_line_ends_are_removed(tmp_path: Path) -> None:
    odd = "x\u2028y\x85z\x0bw".encode()
    assert lines(tmp_path, b"a\r\n\r\n \t\n" + odd + b"\rb\r") == [(1, b"a"), (4, odd + b"\rb\r")]
    assert lines(tmp_path, b"a\r\r\n\r\r\nb\rc\r\r\r\n") == [(1, b"a"), (3, b"b\rc")]


@given(st.lists(st.sampled_from([MARK, MARK[:1], MARK[:2], b"\n", b"\r", b"a", b"\xef\xbc\x81"]), max_size=30))
def test_any_bytes_are_split_into_lines(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    content = b"# plain text\n" + b"".join(parts)
    ends = content.count(b"\n")
    expected = []
    for number, line in enumerate(content.split(b"\n"), 1):
        line = line.rstrip(b"\r") if number <= ends else line
        while line.startswith(MARK):
            line = line[len(MARK) :]
        expected.append((number, line))
    expected = [(number, line) for number, line in expected if line.strip(b" \t\r")]
    folder = tmp_path_factory.mktemp("any")
    assert lines(folder, content) == expected
    # the same in chunks of one byte
    chunks = io.BytesIO(content)
    marks = ByteOrderMarks()
    rest = b"".join(marks.remove(chunk) for chunk in iter(lambda: chunks.read(1), b"")) + marks.remove(b"")
    assert list(numbered(io.BufferedReader(io.BytesIO(rest)))) == expected


@pytest.mark.parametrize(
    ("content", "what"), [(b"PK\x03\x04rest", "a zip archive"), ("é".encode("utf-16"), "UTF-16 text")]
)
def test_binary_data_is_an_error(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=f"f: is {what}"):
        lines(tmp_path, content)


def test_missing_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: cannot be read: No such file or directory"):
        InputFiles().open(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"is a folder without \.parquet and \.arrow files"):
        InputFiles().open(str(tmp_path))


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_pipe_is_read_byte_by_byte(tmp_path: Path, kind: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def give() -> None:
        with open(fifo, "wb", buffering=0) as file:
            for byte in COMPRESS[kind](b"\xef\xbb\xbfa\nb"):
                file.write(bytes([byte]))

    thread = threading.Thread(target=give)
    thread.start()
    assert list(numbered(InputFiles().open(str(fifo)))) == [(1, b"a"), (2, b"b")]
    thread.join()


@pytest.mark.parametrize("kind", COMPRESS)
def test_stdin_may_be_compressed(files: Path, lbr: Program, kind: str) -> None:
    run = COMPRESS[kind]((files / "run.trec").read_bytes())
    ended = lbr("rerank", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", stdin=run)
    assert ended.out.splitlines()[0] == "q1 Q0 d1 1 0.33333334 lbr-overlap"


def test_windows_line_ends_and_byte_order_marks_are_ignored(files: Path, lbr: Program) -> None:
    expected = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap").out
    for path in list(files.iterdir()):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap").out == expected


def test_text_is_utf_8_in_any_locale(files: Path, lbr: Program) -> None:
    write(files, {"docs ä.jsonl": '{"_id":"d1","text":"Ünï"}\n{"_id":"d2","text":""}\n', "q.tsv": "q1\tünï\nq2\tx\n"})
    arguments = ["rerank", "run.trec", "-c", "docs ä.jsonl", "-q", "q.tsv", "--engine", "overlap"]
    ended = lbr(*arguments, env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert ended.out.splitlines()[0] == "q1 Q0 d1 1 1 lbr-overlap"
    write(files, {"docs ä.jsonl": b'{"_id":"d1","text":"caf\xe9"}\n'})
    ended = lbr(*arguments, env={"LC_ALL": "C", "PYTHONUTF8": "0"})
    assert ended.code == 2
    assert ended.err.startswith("lbr: docs ä.jsonl:1: byte 24 of the line, 0xe9, is not UTF-8\n")


@pytest.mark.parametrize("kind", ["bzip2", "xz", "zstd", "gzip"])
def test_data_after_a_compressed_member_is_an_error(tmp_path: Path, kind: str) -> None:
    one, two = COMPRESS[kind](b"a\n"), COMPRESS[kind](b"b\n")
    for rest in (b"plain text\n", two[:6], two[2:], two[:-2]):
        with pytest.raises(InputError, match=rf"f:[23]: the {kind} data is (cut off or )?damaged here"):
            lines(tmp_path, one + rest)


def test_padding_between_xz_streams(tmp_path: Path) -> None:
    padded = lzma.compress(b"a\n") + bytes(8) + lzma.compress(b"b\n") + bytes(4)
    assert lines(tmp_path, padded) == [(1, b"a"), (2, b"b")]


def test_a_skippable_zstd_frame_is_skipped(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    assert lines(tmp_path, skipped + COMPRESS["zstd"](b"a\n") + skipped) == [(1, b"a")]


def test_a_non_blocking_pipe_is_awaited(files: Path) -> None:
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
def test_highly_compressed_data_is_read(tmp_path: Path, kind: str) -> None:
    content = b"".join(b"%d %s\n" % (number, b"cats " * 2000) for number in range(1500))
    read = lines(tmp_path, COMPRESS[kind](content))
    assert b"".join(line + b"\n" for _, line in read) == content


def test_a_zstd_frame_that_needs_a_dictionary_is_an_error(tmp_path: Path) -> None:
    dictionary = zstandard.train_dictionary(2000, [b"ripe fig %d tram gauge" % number * 20 for number in range(500)])
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(b"ripe fig 3\n")
    for content, line in ((packed, 1), (COMPRESS["zstd"](b"a\n") + packed, 2)):
        with pytest.raises(InputError) as error:
            lines(tmp_path, content)
        assert str(error.value) == f"{tmp_path}/f:{line}: the zstd data needs a dictionary"
        assert error.value.hint == "decompress the file first: zstd -dc -D DICTIONARY"


PAIRS = '{"qid":"q1","query":"fig","id":"d1","text":"x"}\n{"qid":"q1","query":"fig","id":"d2","text":"y"}\n'
TOP1000 = "q1\td1\tripe fig\tRipe figs.\nq1\td2\tripe fig\tTrams.\n"
# name: the file that is changed, its content, the command
SEPARATED = {
    "TREC": ("run.trec", RUN, ["rerank", "run.trec", "-c", "docs.jsonl"]),
    "TREC after a comment": ("run.trec", "# a comment\n" + RUN, ["rerank", "run.trec", "-c", "docs.jsonl"]),
    "MS MARCO": ("run.tsv", "q1\td1\t1\nq1\td2\t2\n", ["rerank", "run.tsv", "-c", "docs.jsonl"]),
    "top1000": ("run.tsv", TOP1000, ["rerank", "run.tsv"]),
    "MS MARCO by name": (
        "run.tsv",
        "q1\td1\t1\nq1\td2\t2\n",
        ["rerank", "run.tsv", "--input-format", "msmarco", "-c", "docs.jsonl"],
    ),
    "top1000 by name": ("run.tsv", TOP1000, ["rerank", "run.tsv", "--input-format", "msmarco"]),
    "JSONL": ("run.jsonl", PAIRS, ["rerank", "run.jsonl"]),
    "stream": ("run.jsonl", PAIRS, ["rerank", "run.jsonl", "--stream"]),
    "lines": ("notes.txt", "a\nb\nc\n", ["rerank", "notes.txt", "--lines", "--query", "b"]),
    "JSONL corpus": ("docs.jsonl", DOCS, ["rerank", "run.trec", "-c", "docs.jsonl", "--bad-lines", "skip"]),
    "TSV corpus": (
        "docs.tsv",
        "d1\tfig\nd2\ttram\n",
        ["rerank", "run.trec", "-c", "docs.tsv", "--missing-docs", "skip"],
    ),
    "TSV queries": ("queries.tsv", QUERIES, ["rerank", "run.trec", "-c", "docs.jsonl", "--missing-queries", "skip"]),
    "queries with blanks": ("queries.tsv", QUERIES.replace("\t", " "), ["rerank", "run.trec", "-c", "docs.jsonl"]),
    "JSONL queries": (
        "queries.tsv",
        '{"_id":"q1","text":"a"}\n{"_id":"q2","text":"a"}\n',
        ["rerank", "run.trec", "-c", "docs.jsonl"],
    ),
    "TREC qrels": ("qrels", "q1 0 d1 1\nq1 0 d2 0\n", ["evaluate", "--qrels", "qrels", "run.trec"]),
    "BEIR qrels": ("qrels", "query-id\tcorpus-id\tscore\nq1\td1\t1\n", ["evaluate", "--qrels", "qrels", "run.trec"]),
    "evaluated run": ("run.trec", RUN, ["evaluate", "--qrels", "judged", "run.trec"]),
    "report": ("run.trec", RUN, ["report", "run.trec", "run.trec", "-o", "page.html"]),
}


@pytest.mark.parametrize("name", SEPARATED)
def test_lines_separated_by_carriage_returns_are_refused(files: Path, lbr: Program, name: str) -> None:
    path, content, command = SEPARATED[name]
    command = [*command, *(["--engine", "overlap"] if command[0] == "rerank" else []), "--quiet"]
    write(files, {path: content.replace("\n", "\r"), "judged": "q1 0 d1 1\n"})
    ended = lbr(*command)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        f"lbr: {path}:1: a carriage return inside the line; lines have to end in a line feed\n"
        f"lbr: hint: replace the carriage returns: tr '\\r' '\\n' < {path}\n"
    )
    if name != "lines":  # in a file of several lines, only some records are separated by carriage returns
        write(files, {path: (content + content).replace("\n", "\r", content.count("\n") + 1)})
        ended = lbr(*command)
        assert (ended.code, ended.out) == (2, "")
        assert "a carriage return inside the line" in ended.err
    (files / path).write_text(content.replace("\n", "\r\r\n"), newline="")
    ended = lbr(*command)
    assert (ended.code, ended.err) == (0, "")
    write(files, {path: content})
    assert lbr(*command).out.replace("\r", "") == ended.out.replace("\r", "")


def test_the_hint_for_a_compressed_file_decompresses_it(files: Path, lbr: Program) -> None:
    write(files, {"my run.gz": gzip.compress(RUN.replace("\n", "\r").encode())})
    hint = lbr("rerank", "my run.gz", "-c", "docs.jsonl", "--engine", "overlap").err.splitlines()[-1]
    prefix = "lbr: hint: replace the carriage returns: "
    assert hint == prefix + "gzip -dc 'my run.gz' | tr '\\r' '\\n'"
    made = subprocess.run(["sh", "-c", hint.removeprefix(prefix)], cwd=files, capture_output=True, check=True)
    assert made.stdout.decode() == RUN


def test_a_carriage_return_inside_a_text_is_read(files: Path, lbr: Program) -> None:
    write(
        files, {"docs.tsv": "d1\tripe\rfig colour\nd2\t\rtram\rgauge\t900\r\n", "run.tsv": "q1\td1\tripe fig\ta\rfig\n"}
    )
    ended = lbr("rerank", "run.trec", "-c", "docs.tsv", "--engine", "overlap", "--quiet")
    assert (ended.code, ended.out.splitlines()[0], ended.err) == (0, "q1 Q0 d1 1 1 lbr-overlap", "")
    ended = lbr("rerank", "run.tsv", "--engine", "overlap", "--quiet", "--output-format", "trec")
    assert (ended.code, ended.out, ended.err) == (0, "q1 Q0 d1 1 0.5 lbr-overlap\n", "")


@pytest.mark.parametrize("name", ["run.trec", "queries.tsv", "docs.jsonl", "docs.tsv"])
def test_byte_order_marks_of_concatenated_files_are_ignored(files: Path, lbr: Program, name: str) -> None:
    write(files, {"docs.tsv": "d1\tfig\nd2\ttram\n"})
    corpus = "docs.tsv" if name == "docs.tsv" else "docs.jsonl"
    command = ["rerank", "run.trec", "-c", corpus, "--engine", "overlap", "--quiet"]
    expected = lbr(*command)
    marked = b"".join(MARK + line for line in (files / name).read_bytes().splitlines(keepends=True))
    write(files, {name: marked})
    assert lbr(*command) == expected
    assert expected.code == 0


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_line_ends_and_byte_order_marks_of_a_prompt_file_are_ignored(
    chat_model: Path, files: Path, lbr: Program, end: str
) -> None:
    prompt = 'system = "Judge."\nuser = """\nQuery: {query}\nText: {document}\n"""\n'
    write(files, {"a.toml": prompt, "b.toml": MARK + prompt.replace("\n", end).encode()})
    command = ["rerank", "run.trec", "-c", "docs.jsonl", "-m", str(chat_model), "--family", "next-token", "--quiet"]
    plain, marked = (lbr(*command, "--labels", "1,2", "--prompt-file", name) for name in ("a.toml", "b.toml"))
    assert plain.code == 0
    assert marked == plain


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
@pytest.mark.parametrize("size", [4, 1 << 14, 100_000])
def test_padding_between_members_does_not_end_a_file(
    compress: Callable[[bytes], bytes], size: int, tmp_path: Path
) -> None:
    (tmp_path / "padded").write_bytes(compress(b"first\n") + bytes(size) + compress(b"second\n") + bytes(size))
    with InputFiles().open(str(tmp_path / "padded")) as stream:
        assert list(stream) == [b"first\n", b"second\n"]
