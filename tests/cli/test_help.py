"""`--help`: plain text in groups, at any width, for every command."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

import pytest

from lbr_cli.commands import COMMANDS
from lbr_cli.engines import ENGINES
from lbr_cli.families import FAMILIES
from lbr_cli.formats import RUN_FORMATS
from support.program import Program
from support.terminal import on_terminal

CALLS = [
    [],
    *([name] for name in COMMANDS),
    ["models", "fetch"],
    *(["cache", name] for name in ("info", "prune", "clear")),
]
HEADING = re.compile(r"^(\S.*):$", re.MULTILINE)
every_command = pytest.mark.parametrize("call", CALLS, ids=" ".join)


def test_the_options_of_rerank_are_grouped(lbr: Program) -> None:
    assert HEADING.findall(lbr("rerank", "--help").out) == [
        "Arguments",
        *("Input", "Output", "Model", "Scoring", "Long documents", "Engine", "Cache", "Diagnostics"),
        "Examples",
    ]


@pytest.mark.parametrize(
    ("command", "headings"),
    [
        ("fuse", ["Arguments", "Input", "Output", "Diagnostics", "Examples"]),
        ("evaluate", ["Arguments", "Options", "Examples"]),
        ("tune", ["Arguments", "Options", "Examples"]),
        ("report", ["Arguments", "Input", "Output", "Diagnostics", "Examples"]),
        ("models", ["Options", "Commands"]),
        ("doctor", ["Model", "Engine", "Reference scores", "Diagnostics", "Examples"]),
        ("cache", ["Options", "Commands"]),
    ],
)
def test_the_options_of_other_commands_are_grouped(lbr: Program, command: str, headings: list[str]) -> None:
    assert HEADING.findall(lbr(command, "--help").out) == headings


@every_command
@pytest.mark.parametrize("columns", [80, 200])
def test_help_fits_and_has_no_placeholders(lbr: Program, call: list[str], columns: int) -> None:
    ended = lbr(*call, "--help", env={"COLUMNS": str(columns)})
    assert (ended.code, ended.err) == (0, "")
    prose = ended.out.partition("\nExamples:\n")[0]
    assert max(map(len, prose.splitlines())) <= min(columns, 120)
    assert max(map(len, ended.out.splitlines())) <= 80 or columns > 80
    assert not re.search(r"[<│╭\x1b]|list\[|\bstr\b|\{", re.sub(r"nDCG@\{.*?\}|x?<=?x?", "", prose))


@every_command
def test_every_option_is_described_and_names_its_value(lbr: Program, call: list[str]) -> None:
    help_text = lbr(*call, "--help", env={"COLUMNS": "120"}).out
    rows = re.findall(r"^  (?=-)(.*?)(?:$|  +(.*)$)", help_text, re.MULTILINE)
    assert all(text for _, text in rows)
    flags = re.compile(r"--\S+( / --no-\S+)?|-h, --help")
    for name, _ in rows:
        assert flags.fullmatch(name) or re.fullmatch(r"(-\w, )?--[a-z-]+ [A-Za-z0-9,|]+", name), name


def test_option_names_are_not_broken_at_hyphens(lbr: Program) -> None:
    for columns in (80, 97, 120):
        out = lbr("rerank", "--help", env={"COLUMNS": str(columns)}).out
        assert not re.search(r"\w-$", out, re.MULTILINE)


def test_choices_come_from_the_registries(lbr: Program) -> None:
    out = " ".join(lbr("rerank", "--help").out.split())
    for name in (*ENGINES, *(known.name for known in (*FAMILIES, *RUN_FORMATS))):
        assert re.search(rf"(?<!\S){name}\b", out), name
    for option, known in (("--family", FAMILIES), ("--input-format", RUN_FORMATS)):
        ended = lbr("rerank", option, "x")
        names = ", ".join(repr(one.name) for one in known)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == (
            f"lbr: Invalid value for '{option}': 'x' is not one of {names}.\nlbr: hint: see lbr rerank --help\n"
        )


def test_summaries_of_commands_equal_their_help(lbr: Program) -> None:
    listed = lbr("--help").out
    for name, summary in COMMANDS.items():
        command = getattr(import_module(f"lbr_cli.commands.{name}"), name)
        assert command.help.splitlines()[0] == summary
        assert f"  {name:<10}{summary}\n" in listed


def test_a_misspelt_command_is_an_error_with_a_suggestion(lbr: Program) -> None:
    assert lbr("rernak").err.startswith("lbr: No such command 'rernak'. Did you mean 'rerank'?\n")


def test_help_is_equal_on_a_terminal_and_in_a_pipe(tmp_path: Path, lbr: Program) -> None:
    shown, _ = on_terminal(tmp_path, "rerank", "--help", env={"COLUMNS": "100", "TERM": "xterm"})
    assert shown.decode() == lbr("rerank", "--help", env={"COLUMNS": "100"}).out
    assert "\x1b" not in shown.decode()
    assert os.linesep in shown.decode()
