"""The command line as a whole: exact stdout, stderr and exit codes."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lbr_cli
from support.files import write
from support.paths import ROOT
from support.program import Program
from support.terminal import on_terminal

OVERLAP = ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap"]


def test_version(lbr: Program) -> None:
    ended = lbr("--version")
    assert (ended.code, ended.out, ended.err) == (0, f"lbr {lbr_cli.__version__}\n", "")
    assert f"## {lbr_cli.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_console_script_is_the_same_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"lbr": "lbr_cli.__main__:main"}


def test_no_command(lbr: Program) -> None:
    ended = lbr()
    assert (ended.code, ended.out, ended.err) == (2, "", "lbr: Missing command.\nlbr: hint: see lbr --help\n")


def test_help_names_every_environment_variable(lbr: Program) -> None:
    ended = lbr("rerank", "--help")
    assert ended.code == 0
    for name in (
        "LBR_MODEL",
        "LBR_DEVICE",
        "LBR_DTYPE",
        "LBR_THREADS",
        "LBR_BATCH_TOKENS",
        "LBR_CACHE",
        "LBR_CACHE_DIR",
        "LBR_CACHE_SIZE",
    ):
        assert name in ended.out


def test_results_are_on_stdout_and_messages_on_stderr(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP)
    assert (ended.code, ended.out) == (
        0,
        "q1 Q0 d1 1 0.33333334 lbr-overlap\nq1 Q0 d2 2 0 lbr-overlap\nq2 Q0 d2 1 0.5 lbr-overlap\n",
    )
    notes = ended.err.splitlines()
    assert notes[:2] == [
        "lbr: queries: queries.tsv",
        "lbr: --engine overlap counts shared words and uses no model: for trying files, not for ranking",
    ]
    assert notes[2].startswith("lbr: 2 queries, 3 pairs (0 truncated) in ")
    assert notes[2].endswith(" s with overlap (no model)")


def test_quiet_keeps_warnings(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "--quiet").err == ""
    write(files, {"run.trec": "q1 Q0 d1 1 2 x\nq1 Q0 d1 2 1 x\n"})
    assert lbr(*OVERLAP, "--quiet").err.startswith(
        "lbr: warning: run.trec:2: query q1, document d1: duplicate pair, scored and "
    )


def test_quiet_overrides_progress(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "--quiet", "--progress").err == ""


def test_depth_and_top_k_may_exceed_the_candidates(files: Path, lbr: Program) -> None:
    assert lbr(*OVERLAP, "--depth", "9" * 20, "--top-k", "9" * 20).out.count("\n") == 3


def test_progress_without_a_terminal_is_plain_lines(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "--progress")
    assert "lbr: reading docs.jsonl\n" in ended.err
    assert "\x1b" not in ended.err


def test_a_progress_bar_on_a_terminal_does_not_mix_with_results(files: Path) -> None:
    out, shown = on_terminal(files, *OVERLAP, env={"TERM": "xterm"})
    assert out.count(b"\n") == 3
    assert b"3/3 pairs" in shown
    assert b"2/2 queries" in shown
    assert b"\x1b[" in shown


@pytest.mark.parametrize("term", [{"TERM": "dumb"}, {"TERM": "unknown"}, {"TERM": "dumb", "FORCE_COLOR": "1"}, {}])
def test_progress_on_a_dumb_terminal_is_plain_lines(files: Path, term: dict[str, str]) -> None:
    _, shown = on_terminal(files, *OVERLAP, env=term)
    lines = shown.split(b"\r\n")
    assert lines[:-2] == [
        b"lbr: reading run.trec",
        b"lbr: queries: queries.tsv",
        b"lbr: reading queries.tsv",
        b"lbr: reading docs.jsonl",
        b"lbr: --engine overlap counts shared words and uses no model: for trying files, not for ranking",
    ]
    assert lines[-2].startswith(b"lbr: 2 queries, 3 pairs (0 truncated) in ")
    assert lines[-1] == b""


@pytest.mark.parametrize(
    ("columns", "variables"),
    # docker exec sets COLUMNS to 0 if it does not know the size (drush-ops/drush #3761)
    [(80, {}), (20, {}), (1, {}), (0, {}), (80, {"COLUMNS": "0", "LINES": "0"}), (80, {"COLUMNS": "²"})],
)
def test_messages_are_not_wrapped_at_the_width_of_the_terminal(
    files: Path, columns: int, variables: dict[str, str]
) -> None:
    _, shown = on_terminal(files, *OVERLAP, columns=columns, env={"TERM": "xterm", **variables})
    note = b"lbr: --engine overlap counts shared words and uses no model: for trying files, not for ranking\r\n"
    assert note in shown
    assert shown.endswith(b"\x1b[1A\x1b[2K")  # the bar is gone


def test_no_color_disables_colours(files: Path) -> None:
    colours = re.compile(rb"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")
    assert colours.search(on_terminal(files, *OVERLAP, env={"TERM": "xterm"})[1])
    assert not colours.search(on_terminal(files, *OVERLAP, env={"TERM": "xterm", "NO_COLOR": "1"})[1])


ODD = "d\n\r\t\x00\x07\x1b[2J\x7f\x85\x9b\u2028\u2029\u202e\u2066:cat:1[b]"
ESCAPED = rb"d\n\r\t\x00\x07\x1b[2J\x7f\x85\x9b\u2028\u2029\u202e\u2066:cat:1[b]"


def test_control_characters_in_messages_are_escaped(files: Path, lbr: Program) -> None:
    pairs = [{"query_id": "q1", "doc_id": doc_id} for doc_id in (ODD, "d1", "d2")]
    write(files, {"run.jsonl": "".join(json.dumps(pair) + "\n" for pair in pairs)})
    ask = ("rerank", "run.jsonl", "-c", "docs.jsonl", "--engine", "overlap")
    message = b"1 of 3 documents are not in docs.jsonl (1 pairs): " + ESCAPED + b" (line 1)"
    assert lbr(*ask, "--quiet").err.encode() == (
        b"lbr: run.jsonl:1: " + message + b"\nlbr: hint: --missing-docs skip leaves them out, "
        b"--missing-docs last puts them at the end, unscored\n"
    )
    warned = lbr(*ask, "--quiet", "--missing-docs", "skip").err.encode()
    assert warned == b"lbr: warning: run.jsonl: " + message + b"\n"
    _, shown = on_terminal(files, *ask, "--missing-docs", "skip", env={"TERM": "xterm"})
    assert b"lbr: warning: run.jsonl: " + message + b"\r\n" in shown


def test_names_of_files_and_options_are_escaped_in_messages(files: Path, lbr: Program) -> None:
    name = "a\nlbr: \x1b[31mforged\u202e.trec"
    shown = "a\\nlbr: \\x1b[31mforged\\u202e.trec"
    ended = lbr("rerank", name, "-c", "docs.jsonl", "--engine", "overlap")
    assert ended.err == f"lbr: {shown}: cannot be read: No such file or directory\n"
    (files / "run.trec").rename(files / name)
    terminal = on_terminal(files, "rerank", name, *OVERLAP[2:], env={"TERM": "xterm"})[1]
    assert b"\x1b[31m" not in terminal
    assert "\u202e".encode() not in terminal
    for wrong in (["rerank", "--a\nb\x1b"], ["rerank", "--depth", "1\nb\x1b"], ["a\nb\x1b"]):
        ended = lbr(*wrong)
        assert (ended.code, ended.err.count("\n"), ended.err.count("\x1b")) == (2, 2, 0)
    ended = lbr("cache", "info", "--cache-dir", "c\n\x1b[2J")
    assert ended.out == "c\\n\\x1b[2J/scores.sqlite: does not exist yet\n"
    if sys.platform == "linux":  # file names may be any bytes
        ended = lbr("rerank", os.fsdecode(b"caf\xe9\n.trec"), *OVERLAP[2:])
        assert os.fsencode(ended.err) == b"lbr: caf\xe9\\n.trec: cannot be read: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["rerank", "--nonsense"], "No such option: --nonsense", "see lbr rerank --help"),
        (["rerank", "--depth", "0"], "", "see lbr rerank --help"),
        (["nonsense"], "No such command 'nonsense'.", "see lbr --help"),
        (["rerank", "--dtype", "int3"], "", "see lbr rerank --help"),
        (["rerank", "nowhere.trec"], "nowhere.trec: cannot be read: No such file or directory", ""),
        (["rerank", "-", "-c", "-"], "only one input can be standard input", ""),
        (["rerank", "run.trec", "--bad-lines", "skip"], "--bad-lines has no effect: there is no --corpus", ""),
        (
            [*OVERLAP, "--explain"],
            "--explain needs JSONL output, not trec",
            "add --output-format jsonl",
        ),
        ([*OVERLAP, "--output-format", "jsonl", "--tag", "x"], "--tag: jsonl output has no run tag", ""),
    ],
)
def test_usage_errors(files: Path, lbr: Program, arguments: list[str], message: str, hint: str) -> None:
    ended = lbr(*arguments)
    assert (ended.code, ended.out) == (2, "")
    shown = [line for line in ended.err.splitlines() if line != "lbr: queries: queries.tsv"]
    assert all(line.startswith("lbr: ") for line in shown)
    assert message in shown[0]
    assert shown[1:] == ([f"lbr: hint: {hint}"] if hint else [])


def test_a_terminal_as_standard_input_is_an_error() -> None:
    master, slave = pty.openpty()
    ended = subprocess.run(
        [sys.executable, "-m", "lbr_cli", "rerank"], stdin=slave, capture_output=True, cwd=ROOT, timeout=60, check=False
    )
    os.close(master)
    os.close(slave)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.startswith(b"lbr: no RUN, and standard input is a terminal\n")


def test_a_json_array_is_refused_with_a_jq_command(files: Path, lbr: Program) -> None:
    write(files, {"run.json": '[{"qid":"q1"}]'})
    ended = lbr("rerank", "run.json", "-c", "docs.jsonl", "--engine", "overlap")
    assert ended.err == (
        "lbr: run.json:1: not JSONL, which is one JSON object a line\nlbr: hint: convert it: jq -c '.[]' run.json\n"
    )


def test_input_format_overrides_detection(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "--input-format", "jsonl")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("lbr: run.trec:1: not valid JSON: ")


def test_paths_may_contain_spaces(files: Path, lbr: Program) -> None:
    (files / "my data ü").mkdir()
    for name in ("run.trec", "docs.jsonl", "queries.tsv"):
        (files / name).rename(files / "my data ü" / name)
    ended = lbr("rerank", "my data ü/run.trec", "-c", "my data ü/docs.jsonl", "--engine", "overlap")
    assert ended.err.splitlines()[0] == "lbr: queries: my data ü/queries.tsv"
    assert ended.out.count("\n") == 3


REMOVED = "lbr: the current folder was removed\nlbr: hint: change to a folder that exists, with cd\n"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("FILES/run.trec -c FILES/docs.jsonl -o FILES/out.trec", 0, ""),
        ("- -c FILES/docs.jsonl -q FILES/queries.tsv < FILES/run.trec", 0, ""),
        ("- -c FILES/docs.jsonl < FILES/run.trec", 0, ""),
        ("FILES/run.trec -c FILES/docs.jsonl -o out.trec", 2, REMOVED),
        ("FILES/run.trec -c docs.jsonl", 2, REMOVED),
    ],
)
def test_a_folder_that_was_removed_is_named(files: Path, options: str, code: int, message: str) -> None:
    """A terminal can be in a folder that another program has removed; absolute paths still work. pip #4255."""
    (files / "removed").mkdir()
    program = f"{sys.executable} -m lbr_cli rerank --engine overlap --quiet {options.replace('FILES', str(files))}"
    command = f"cd removed && rmdir ../removed && {program}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["bash", "-c", command], cwd=files, env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr.decode()) == (code, message)


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (errno.EACCES, 2, "lbr: /data/file: reason"),
        (errno.EMFILE, 1, "lbr: /data/file: reason"),
        (errno.ENOENT, 1, "FileNotFoundError: [Errno 2] reason: '/data/file'"),  # a bug keeps its traceback
    ],
)
def test_a_file_that_a_library_cannot_open_is_named(number: int, code: int, message: str) -> None:
    program = f"""
import lbr_cli.commands
def fail():
    raise OSError({number}, "reason", "/data/file")
lbr_cli.commands.program = fail
lbr_cli.commands.main()
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (code, message)


def test_ids_with_rich_markup_are_printed_unchanged(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": "[red]q1[/red] Q0 d1 1 2 x\nq1 Q0 d1 2 1 x\n"})
    assert "[red]q1[/red] (line 1)" in lbr(*OVERLAP).err
