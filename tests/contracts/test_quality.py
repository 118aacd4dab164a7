"""The script that writes docs/quality.md: its checks and its tables."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from support.paths import ROOT

README = """# Collections

| set | documents | BM25 nDCG@10 | P@1 | MRR@10 | R@100 |
| --- | --- | --- | --- | --- | --- |
| a | 9 | 0.500 | 0.250 | 0.400 | 1.000 |

Measured beside BM25, nDCG@10:

| set | BM25 | other |
| --- | --- | --- |
| a | .500 | .433 |
"""


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    script = ROOT / "benchmarks" / "quality.py"
    if not script.exists():
        pytest.skip("the benchmarks are not here")
    spec = importlib.util.spec_from_file_location("quality", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(value: float, p_holm: float | None = None) -> dict[str, Any]:
    run_measures = {"nDCG@10": {"value": value, "p_holm": p_holm}, "queries": 7}
    return run_measures | {"P@1": {"value": 0.25}, "R@100": {"value": 1.0}}


def test_different_bm25_values_are_reported(quality: ModuleType) -> None:
    documented = quality.figures(README)
    assert quality.disagreements("a", run(0.4996), documented) == []
    assert quality.disagreements("a", run(0.4994), documented) == [
        "a: nDCG@10 of BM25 is 0.499, and the collections' table has 0.500"
    ]
    assert len(quality.disagreements("b", run(0.5), documented)) == 3


def test_the_best_value_is_bold_and_significance_is_marked(quality: ModuleType) -> None:
    runs = [run(0.5), run(0.4, 0.01), run(0.6, 0.2), run(0.6004, 0.04), run(0.5, None)]
    assert quality.row("a", runs) == r"| a | 7 | 0.500 | 0.400\* | **0.600** | **0.600**\* | 0.500 |"


def test_tables_are_written_between_their_markers(
    quality: ModuleType, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(quality, "PAGE", page)
    for old in ("", "old\n"):
        page.write_text(f"before\n<!-- quality -->\n{old}<!-- /quality -->\nafter\n")
        quality.write({"quality": "new"})
        assert page.read_text() == "before\n<!-- quality -->\nnew\n<!-- /quality -->\nafter\n"


def test_the_page_has_markers_for_each_table() -> None:
    page = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    for mark in ("quality", "bm25"):
        assert page.index(f"<!-- {mark} -->\n") < page.index(f"\n<!-- /{mark} -->\n")
