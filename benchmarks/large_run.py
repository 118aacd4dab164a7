"""Time and memory of a large run: python benchmarks/large_run.py [options]

A run of `--lines` lines is reranked with `--engine overlap`: this measures reading, grouping and writing, without a
model. The lines of `--queries` queries are interleaved; the corpus has `--documents` documents of `--words` words, all
of which are in the run. The script prints seconds and peak resident memory of the process, also per million lines.

The files are written to `--folder` (default: a temporary one, which is removed), or reused if they exist.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POOL = 5000  # distinct texts, to which each document adds its number


def make_files(folder: Path, options: argparse.Namespace) -> None:
    """Write the corpus, the queries and the run."""
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(2, 10))) for _ in range(5000)]
    texts = [" ".join(source.choices(words, k=options.words - 1)) for _ in range(POOL)]
    with (folder / "docs.jsonl").open("w") as corpus:
        for number in range(options.documents):
            corpus.write(f'{{"_id": "doc{number}", "text": "{texts[number % POOL]} {number}"}}\n')
    with (folder / "queries.tsv").open("w") as queries:
        queries.writelines(f"q{number}\t{' '.join(source.choices(words, k=6))}\n" for number in range(options.queries))
    depth = options.lines // options.queries
    with (folder / "run.trec").open("w") as run:
        for rank in range(1, depth + 1):
            for query in range(options.queries):
                # the step is prime to the number of documents, so that the run has all of them
                number = (query * depth + rank) * 7_368_787 % options.documents
                run.write(f"q{query} Q0 doc{number} {rank} {depth - rank}.5 bm25\n")


def measure(folder: Path) -> tuple[float, float]:
    """Run lbr. Return its seconds, and its peak resident memory in MB."""
    command = [sys.executable, "-m", "lbr_cli", "rerank", "run.trec", "-c", "docs.jsonl", "-q", "queries.tsv"]
    command += ["--engine", "overlap", "--quiet", "-o", "out.trec"]
    environment = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit("lbr failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=7_000_000)
    parser.add_argument("--queries", type=int, default=7_000)
    parser.add_argument("--documents", type=int, default=3_500_000)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "run.trec").exists():
            make_files(folder, options)
        seconds, megabytes = measure(folder)
        written = sum(1 for _ in (folder / "out.trec").open("rb"))
    millions = written / 1e6
    print(f"{written:,} lines, {options.queries:,} queries, {options.documents:,} documents of {options.words} words")
    print(f"{seconds:.0f} s, {megabytes:,.0f} MB")
    print(f"per million lines: {seconds / millions:.1f} s, {megabytes / millions:,.0f} MB")


if __name__ == "__main__":
    main()
