"""How good the rankings are: python benchmarks/quality.py DATA [--only NAME …] [--write]

DATA holds collections in folders: `queries.jsonl`, `corpus.jsonl`, `qrels.txt` and a BM25 run, `run.bm25.trec`. Each is
reranked with all-MiniLM-L6-v2 in four ways: documents as a whole, cut off at 256 tokens; by their best window; and both
of these interpolated half and half with BM25. `lbr evaluate` judges the runs. Where DATA/README.md has a table of the
figures of BM25, the script ends with 1 if ours are not the same to three decimals. `--write` puts the tables into
docs/quality.md, between their marks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "quality.md"
WAYS = {
    "whole": [],
    "windows": ["--passages", "max"],
    "whole + BM25": ["--interpolate", "0.5"],
    "windows + BM25": ["--passages", "max", "--interpolate", "0.5"],
}
MEASURES = {"nDCG@10": "nDCG@10", "P@1": "P@1", "MRR@10": "RR@10", "R@100": "R@100"}  # theirs -> ours
SIGNIFICANT = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    names = sorted(str(run.parent.relative_to(options.data)) for run in options.data.glob("**/run.bm25.trec"))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or names:
            results[name] = measured(options.data / name, Path(folder))
            print(row(name, results[name]), flush=True)
    wrong = disagreements(results, options.data / "README.md")
    for line in wrong:
        print(line, file=sys.stderr)
    if options.write and not wrong:
        write({"quality": table(results), "bm25": bm25_table(results)})
    sys.exit(1 if wrong else 0)


def measured(collection: Path, folder: Path) -> list[dict[str, Any]]:
    """What `lbr evaluate` says of BM25 and of each way, in this order."""
    runs = [str(collection / "run.bm25.trec")]
    for way, options in WAYS.items():
        runs.append(str(folder / f"{way}.trec"))
        command = ["rerank", runs[0], "-c", str(collection / "corpus.jsonl"), "-q", str(collection / "queries.jsonl")]
        lbr(*command, "-m", "minilm", "-o", runs[-1], "--quiet", "--cache-dir", str(folder / "cache"), *options)
    asked = ["--measures", " ".join(MEASURES.values()), "--format", "json"]
    told = json.loads(lbr("evaluate", "--qrels", str(collection / "qrels.txt"), *runs, *asked))
    return [run["measures"] | {"queries": told["queries"]} for run in told["runs"]]


def lbr(*arguments: str) -> str:
    """What the program prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    command = [sys.executable, "-m", "lbr_cli", *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def disagreements(results: dict[str, list[dict[str, Any]]], readme: Path) -> list[str]:
    """BM25's figures that differ from those which the collections' own table gives."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    header = re.search(r"^\| set .*$", text, re.MULTILINE)
    columns = [cell.strip().removeprefix("BM25 ") for cell in header[0].strip("|").split("|")] if header else []
    found = []
    for line in text.splitlines():
        cells = dict(zip(columns, (cell.strip() for cell in line.strip("|").split("|")), strict=False))
        name = cells.get("set", "")
        for theirs, ours in MEASURES.items():
            if name in results and theirs in cells:
                value = results[name][0][ours]["value"]
                if abs(value - float(cells[theirs])) > 0.00051:
                    found.append(f"{name}: BM25's {theirs} is {value:.4f}, and {readme} has {cells[theirs]}")
    return found


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """nDCG@10 of BM25 and each way; the best one is bold, what differs from BM25 by more than chance has a star."""
    best = max(f"{run['nDCG@10']['value']:.3f}" for run in runs)
    cells = []
    for run in runs:
        told = run["nDCG@10"]
        value = f"{told['value']:.3f}"
        star = "\\*" if told.get("p_holm", 1) < SIGNIFICANT else ""
        cells.append((f"**{value}**" if value == best else value) + star)
    return f"| {name} | {runs[0]['queries']} | {' | '.join(cells)} |"


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    head = f"| collection | queries | BM25 | {' | '.join(WAYS)} |\n| --- |{' ---: |' * (len(WAYS) + 2)}\n"
    return head + "\n".join(row(name, runs) for name, runs in results.items())


def bm25_table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"| collection | {' | '.join(MEASURES)} |\n| --- |{' ---: |' * len(MEASURES)}"]
    for name, runs in results.items():
        cells = [f"{runs[0][ours]['value']:.3f}" for ours in MEASURES.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(tables: dict[str, str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    for mark, text in tables.items():
        begin, end = f"<!-- {mark} -->\n", f"\n<!-- /{mark} -->"
        before, rest = page.split(begin)
        page = before + begin + text + end + rest.split(end)[1]
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
