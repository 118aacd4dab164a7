"""A job that is stopped while its cache fills."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from support.paths import ROOT


def start_long_job(model: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    """Start a job of 9,000 pairs with the cache `c` and the output `out.jsonl`, and wait for its first score."""
    documents = [f"{number} figs " * (1 + number % 45) for number in range(9000)]
    (folder / "run.jsonl").write_text(json.dumps({"query_id": "1", "query": "figs", "documents": documents}))
    command = [sys.executable, "-m", "lbr_cli", "rerank", "run.jsonl", "-m", str(model), "--family", "lb"]
    process = subprocess.Popen(
        [*command, *options, "-o", "out.jsonl", "--cache-dir", "c"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not stored_scores(folder / "c"):
        time.sleep(0.1)
    return process


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
