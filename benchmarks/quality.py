"""Quality of the rankings: python benchmarks/quality.py DATA [--only NAME …] [--write]

DATA has a folder for each collection, with `queries.jsonl`, `corpus.jsonl`, `qrels.txt` and a BM25 run,
`run.bm25.trec`. Each run is reranked with all-MiniLM-L6-v2 in five ways: whole documents, truncated at 256 tokens, in
float32; the same in int8; the best passage; and whole documents and best passages, each interpolated with BM25 at
weight 0.5. `lbr evaluate` computes the measures. If DATA/README.md has a table of the measures of BM25 and the
computed ones differ in three decimals, the script ends with exit code 1 before it reranks. `--write` writes the
tables into docs/quality.md, between their marks.
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
FLOAT32 = ["--dtype", "float32"]
WAYS = {
    "whole": FLOAT32,
    "whole, int8": ["--dtype", "int8"],
    "passages": [*FLOAT32, "--passages", "max"],
    "whole + BM25": [*FLOAT32, "--interpolate", "0.5"],
    "passages + BM25": [*FLOAT32, "--passages", "max", "--interpolate", "0.5"],
}
MEASURES = ("nDCG@10", "P@1", "R@100")  # without RR@10, for which the collections use MS MARCO's rule for ties
SIGNIFICANT = 0.05  # p-value below which a difference from BM25 has a star


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.only and options.write:
        parser.error("--write is for all collections")
    names = sorted(str(run.parent.relative_to(options.data)) for run in options.data.glob("**/run.bm25.trec"))
    names = options.only or names
    readme = options.data / "README.md"
    documented = figures(readme.read_text(encoding="utf-8")) if readme.exists() else {}
    bm25 = {name: evaluated(options.data / name, [])[0] for name in names}
    different = (
        [line for name in names for line in disagreements(name, bm25[name], documented)] if readme.exists() else []
    )
    if different:
        sys.exit("\n".join(different))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            results[name] = evaluated(options.data / name, reranked(options.data / name, Path(folder)))
            print(row(name, results[name]), flush=True)
    if options.write:
        write({"quality": table(results), "bm25": bm25_table(results)})


def reranked(collection: Path, folder: Path) -> list[str]:
    """Rerank a collection in each way. Return the paths of the runs."""
    runs = []
    for way, options in WAYS.items():
        runs.append(str(folder / f"{way}.trec"))
        command = ["rerank", str(collection / "run.bm25.trec"), "-c", str(collection / "corpus.jsonl"), "-o", runs[-1]]
        cache = ["--cache-dir", str(folder / "cache")]
        lbr(*command, "-q", str(collection / "queries.jsonl"), "-m", "minilm", "--quiet", *cache, *options)
    return runs


def evaluated(collection: Path, runs: list[str]) -> list[dict[str, Any]]:
    """Return the results of `lbr evaluate` for BM25 and the runs, in this order."""
    options = ["--measures", " ".join(MEASURES), "--format", "json"]
    bm25 = str(collection / "run.bm25.trec")
    result = json.loads(lbr("evaluate", "--qrels", str(collection / "qrels.txt"), bm25, *runs, *options))
    return [run["measures"] | {"queries": result["queries"]} for run in result["runs"]]


def lbr(*arguments: str) -> str:
    """Run lbr. Return its stdout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    command = [sys.executable, "-m", "lbr_cli", *arguments]
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def figures(readme: str) -> dict[str, dict[str, str]]:
    """Return the cells, by set and column, of the first table whose first column is `set`."""
    header, _, *rows = re.findall(r"^\|.*", readme[readme.index("| set |") :].split("\n\n")[0], re.MULTILINE)
    columns = [cell.strip().removeprefix("BM25 ") for cell in header.strip("|").split("|")]
    records = (dict(zip(columns, map(str.strip, line.strip("|").split("|")), strict=True)) for line in rows)
    return {cells["set"]: cells for cells in records}


def disagreements(name: str, bm25: dict[str, Any], documented: dict[str, dict[str, str]]) -> list[str]:
    """Return a message for each measure of BM25 that differs from the table of the collections."""
    messages = []
    for measure in MEASURES:
        value, expected = f"{bm25[measure]['value']:.3f}", documented.get(name, {}).get(measure, "no figure")
        if value != expected:
            messages.append(f"{name}: {measure} of BM25 is {value}, and the collections' table has {expected}")
    return messages


def row(name: str, runs: list[dict[str, Any]]) -> str:
    """Return a table row: nDCG@10 of BM25 and each way. The best is bold, a significant difference has a star."""
    best = max(f"{run['nDCG@10']['value']:.3f}" for run in runs)
    cells = []
    for run in runs:
        ndcg = run["nDCG@10"]
        value = f"{ndcg['value']:.3f}"
        star = "\\*" if (ndcg.get("p_holm") or 1) < SIGNIFICANT else ""
        cells.append((f"**{value}**" if value == best else value) + star)
    return f"| {name} | {runs[0]['queries']} | {' | '.join(cells)} |"


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    head = f"| collection | queries | BM25 | {' | '.join(WAYS)} |\n| --- |{' ---: |' * (len(WAYS) + 2)}\n"
    return head + "\n".join(row(name, runs) for name, runs in results.items())


def bm25_table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [f"| collection | {' | '.join(MEASURES)} |\n| --- |{' ---: |' * len(MEASURES)}"]
    for name, runs in results.items():
        cells = [f"{runs[0][measure]['value']:.3f}" for measure in MEASURES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write(tables: dict[str, str]) -> None:
    """Replace each table in the page, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    for mark, text in tables.items():
        begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}{text}\n{end}{rest.split(end)[1]}"
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
