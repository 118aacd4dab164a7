"""docs/python.md: its examples run as they are shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
RECIPE = EXAMPLES[-1]

pytestmark = pytest.mark.slow


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minilm: Path) -> dict[str, Any]:
    """Return the names that the examples of one page define."""
    monkeypatch.setenv("LBR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("LBR_DEVICE", "cpu")
    return {}


def test_examples_run_in_order(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for example in EXAMPLES[:-1]:
        exec(example, names)
    assert names["best"] == "Vinegar dissolves the limescale in a kettle."
    assert capsys.readouterr().out.startswith("1 d1 ")


@pytest.mark.filterwarnings("default")  # of pandas and PyTerrier
def test_the_pyterrier_example_is_a_transformer(names: dict[str, Any]) -> None:
    pt = pytest.importorskip("pyterrier", reason="pyterrier is not installed: pip install pyterrier")
    pd = pytest.importorskip("pandas", reason="pandas is not installed: pip install pandas")
    exec(RECIPE, names)
    lbr = names["LbrTransformer"]()
    columns = ["qid", "query", "docno", "text", "score", "rank"]
    rows = [
        ("q1", "ripe figs", "d1", "Trams run on rails.", 2.0, 0),
        ("q1", "ripe figs", "d2", "Figs turn purple.", 1.0, 1),
        ("q2", "trams", "d2", "Figs turn purple.", 2.0, 0),
        ("q2", "trams", "d1", "Trams run on rails.", 1.0, 1),
    ]
    frame = pd.DataFrame(rows, columns=columns)
    bm25 = pt.Transformer.from_df(frame, uniform=True)
    topics = frame[["qid", "query"]].drop_duplicates()
    qrels = pd.DataFrame([("q1", "d2", 1), ("q2", "d1", 1)], columns=["qid", "docno", "label"])
    table = pt.Experiment([bm25, bm25 >> lbr], topics, qrels, ["recip_rank"], names=["bm25", "lbr"])
    assert dict(zip(table["name"], table["recip_rank"], strict=True)) == {"bm25": 0.5, "lbr": 1.0}
    reranked = lbr(frame)
    scores = {("q1", row.docno): row.score for row in reranked[reranked.qid == "q1"].itertuples()}
    alone = lbr.reranker.score("ripe figs", ["Trams run on rails.", "Figs turn purple."])
    assert [scores["q1", "d1"], scores["q1", "d2"]] == pytest.approx(alone, abs=1e-6)
    assert list(lbr(frame.iloc[:0]).columns) == columns
