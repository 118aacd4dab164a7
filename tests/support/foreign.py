"""The small collection of `write_foreign_files`, and the folder of its files."""

from __future__ import annotations

from pathlib import Path

FOREIGN = Path(__file__).parents[1] / "formats" / "foreign"
# ids and texts that are easily misread: numbers with zeros in front, separators, quotes, other scripts
CORPUS = {
    "0001": {"title": "", "text": 'a wing, "swept" back at 45°'},
    "d:2/é": {"title": "", "text": "flow over a wing; the 壁 boundary layer"},
    "1e5": {"title": "", "text": "heat transfer 🙂 in a slender body"},
    "-": {"title": "", "text": "wing flow"},
}
QUERIES = {"007": "wing flow", "Q2": 'the "boundary" layer of a body'}
# not in the order of the scores, and with scores that need all digits of a double
SCORES = {
    "007": {"1e5": -1.5, "0001": 0.1, "d:2/é": 17.123456789012345, "-": 3.0},
    "Q2": {"d:2/é": 1e-7, "0001": 2.0},
}
QRELS = {"007": {"-": 1, "0001": 0}, "Q2": {"d:2/é": 2}}
