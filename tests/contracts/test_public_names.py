"""Tests use public names only, and share code through `tests/support/`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

TESTS = ROOT / "tests"
# `os._exit` is documented; the pauses between retries of the library openai can be set nowhere else
ALLOWED = ("os._exit",)

PATCHES = ("setattr", "delattr", "getattr")
REACHED = re.compile(r"_(?!_)|test_|conftest$")
# in code that a test runs in another interpreter
REACHED_IN_TEXT = re.compile(r"\blbr_cli[\w.]*( import |\.)_(?!_)|\b(from|import) (test_\w+|conftest)\b")


def reach_ins(source: str) -> Iterator[str]:
    """Yield each use of a private name, and each import of a test module or of conftest.py."""
    for node in ast.walk(ast.parse(source)):
        parts: list[str] = []
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            parts = [node.attr] if node.attr.startswith("_") else []
        elif isinstance(node, ast.Import | ast.ImportFrom):
            parts = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in PATCHES:
            parts = [str(one.value) for one in node.args if isinstance(one, ast.Constant)]
        names = ".".join(parts).split(".")
        in_text = isinstance(node, ast.Constant) and REACHED_IN_TEXT.search(str(node.value))
        if (in_text or any(map(REACHED.match, names))) and ast.unparse(node) not in ALLOWED:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_tests_use_only_public_names() -> None:
    paths = [path for path in TESTS.rglob("*.py") if path.name != Path(__file__).name]
    assert len(paths) > 50
    found = {str(path.relative_to(TESTS)): list(reach_ins(path.read_text(encoding="utf-8"))) for path in paths}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("made._digest(1)", 1),
        ("cache._database._connection", 2),
        ("self._x + cls._y + os._exit(0) + x.__name__ + cache.test_me", 0),
        ("from lbr_cli.passages import _Remembered", 1),
        ("import lbr_cli._private", 1),
        ("from lbr_cli import __version__", 0),
        ("from conftest import ROOT", 1),
        ("import test_report", 1),
        ("monkeypatch.setattr(Cache, '_write', fail)", 1),
        ("monkeypatch.setattr('test_authors.QUERIES', [])", 1),
        ("monkeypatch.setattr(engine, '__version__', '0.0.9')", 0),
        ("run('import sys; from test_vllm import in_process')", 1),
        ("run('from lbr_cli.engines.ray import _node')", 1),
    ],
)
def test_uses_of_private_names_are_detected(source: str, count: int) -> None:
    assert len(list(reach_ins(source))) == count
