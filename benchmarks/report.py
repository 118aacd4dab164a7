"""Time to open and use a large report: python benchmarks/report.py [--queries 1000] [--documents 100] [--rounds 3]

The script writes two runs over a corpus of 60,000 documents of 120 words, and the page of `lbr report`. It opens the
page in Chromium, sorts, searches, and opens a query. It prints the size of the page, and seconds as medians of the
rounds.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

DOCUMENTS = 60_000
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = write_report(Path(folder), options.queries, options.documents)
        print(f"size            {page.stat().st_size / 1e6:.1f} MB")
        rounds = [measure(page) for _ in range(options.rounds)]
        for name in rounds[0]:
            print(f"{name:<15} {statistics.median(seconds[name] for seconds in rounds):.2f} s")


def write_report(folder: Path, queries: int, documents: int) -> Path:
    """Write the input files and the page. Return the path of the page."""
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 9))) for _ in range(5000)]
    ids = [f"doc-{number}" for number in range(DOCUMENTS)]
    with (folder / "docs.jsonl").open("w") as file:
        for doc_id in ids:
            title, text = (" ".join(source.choices(words, k=count)) for count in (5, 120))
            file.write(json.dumps({"_id": doc_id, "title": title, "text": text}) + "\n")
    names = ("before.trec", "after.trec", "queries.tsv", "qrels.txt")
    before, after, texts, qrels = ((folder / name).open("w") for name in names)
    with before, after, texts, qrels:
        for number in range(queries):
            texts.write(f"q{number}\t{' '.join(source.choices(words, k=7))}\n")
            chosen = source.sample(ids, documents)
            qrels.writelines(f"q{number} 0 {doc_id} {source.randint(0, 3)}\n" for doc_id in chosen[:8])
            for run in (before, after):
                run.writelines(f"q{number} Q0 {doc_id} 1 {-rank} x\n" for rank, doc_id in enumerate(chosen))
                source.shuffle(chosen)
    page = folder / "report.html"
    runs = [str(folder / name) for name in names[:2]]
    files = ["--qrels", str(folder / names[3]), "-c", str(folder / "docs.jsonl"), "-q", str(folder / names[2])]
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "lbr_cli", "report", *runs, *files, "-o", str(page)], check=True)
    print(f"written in      {time.perf_counter() - began:.1f} s")
    return page


def measure(file: Path) -> dict[str, float]:
    """Open and use the page in a new browser. Return the seconds of each action."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        seconds = {"opens in": timed(page, lambda: page.goto(file.as_uri()))}
        for column in ("query", "change", "climb"):
            button = page.locator(f'#queries thead th[data-key="{column}"] button')
            seconds[f"sorts by {column}"] = timed(page, button.click)
        seconds["searches in"] = timed(page, lambda: page.locator("#search").fill("q99"))
        link = page.locator("#queries tbody tr:not([hidden]) a").first
        seconds["a query opens"] = timed(page, link.click)
        browser.close()
    return seconds


def timed(page: Any, action: Callable[[], object]) -> float:
    """Return the seconds from an action until its changes are drawn."""
    began = time.perf_counter()
    action()
    page.evaluate(DRAWN)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
