"""The scores in a cache, while a job fills it."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def stored_scores(folder: Path) -> int:
    """Return the number of scores in the cache of a folder; 0 while it has no table."""
    path = folder / "scores.sqlite"
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(path)) as database:
        try:
            (count,) = database.execute("SELECT count(*) FROM scores").fetchone()
        except sqlite3.OperationalError:
            return 0
    return int(count)
