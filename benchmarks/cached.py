"""The time of a job whose scores are cached: python benchmarks/cached.py [--pairs 1000000] [--rounds 3]

1. The samples with minilm, first with an empty cache, then with a full one, and `import torch` in a separate process.
2. A run of a million pairs: 1,000 queries, 100,000 documents of 100 words. lbr fills the cache with a stand-in for the
   model that returns vectors at once. Then complete lbr processes read all scores from the cache. In the first one, the
   rows were last used on the day before, so that every row is marked as used.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "samples"
# lbr with an engine that returns made-up vectors
STAND_IN = """
import numpy as np
from lbr_cli.core import Answer, Batch
from lbr_cli.scoring import Scorer
from lbr_cli.commands import main
class StandIn:
    description, window = "stand-in", 1
    def check(self, requests):
        for _ in requests: pass
    def answer(self, windows):
        for window in windows:
            for start in range(0, len(window), 1000):
                batch = window[start : start + 1000]
                vectors = [np.array([1, len(request.text) % 97], dtype=np.float32) for request in batch]
                yield Batch([(request, Answer(vector)) for request, vector in zip(batch, vectors)])
Scorer._loaded = lambda self, pairs: StandIn()
main()
"""
# lbr, which prints at its end whether it has imported torch
TORCH_LOADED = """
import sys
from lbr_cli.commands import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LBR_CACHE_DIR"] = str(Path(folder) / "cache")
        measure_samples(options.rounds)
        measure_large_run(Path(folder), options.pairs, options.rounds)


def timed(code: str | None, *arguments: str) -> tuple[float, str]:
    """Run a Python process to its end. Return its seconds and its stderr."""
    began = time.perf_counter()
    start = ["-c", code] if code else ["-m", "lbr_cli"]
    process = subprocess.run([sys.executable, *start, *arguments], capture_output=True, text=True, check=False)
    if process.returncode:
        sys.exit(process.stderr)
    return time.perf_counter() - began, process.stderr


def measure_samples(rounds: int) -> None:
    job = ("rerank", str(SAMPLES / "run.trec"), "-c", str(SAMPLES / "docs.jsonl"), "-m", "minilm", "-o", os.devnull)
    cold, stderr = timed(None, *job)
    print(f"samples, empty cache: {cold:.2f} s; {stderr.splitlines()[-1]}")
    warm, torch = [], []
    for _ in range(rounds):
        seconds, stderr = timed(None, *job)
        warm.append(seconds)
        torch.append(timed("import torch")[0])
    ratio = statistics.median(cached / bare for cached, bare in zip(warm, torch, strict=True))
    print(f"samples, full cache: {statistics.median(warm):.2f} s; {stderr.splitlines()[-1]}")
    print(f"import torch: {statistics.median(torch):.2f} s; the cached job takes {ratio:.2f} of this time")


def measure_large_run(folder: Path, pairs: int, rounds: int) -> None:
    source = random.Random(0)
    words = [f"word{number}" for number in range(20_000)]
    with (folder / "docs.jsonl").open("w") as docs:
        for number in range(100_000):
            docs.write(f'{{"_id":"d{number}","title":"","text":"{" ".join(source.choices(words, k=100))}"}}\n')
    with (folder / "queries.tsv").open("w") as queries, (folder / "run.trec").open("w") as run:
        for number in range(1000):
            queries.write(f"q{number}\t{' '.join(source.choices(words, k=8))}\n")
            for rank, document in enumerate(source.sample(range(100_000), pairs // 1000), 1):
                run.write(f"q{number} Q0 d{document} {rank} {1000 - rank} bm25\n")
    job = ("rerank", str(folder / "run.trec"), "-c", str(folder / "docs.jsonl"), "-q", str(folder / "queries.tsv"))
    job = (*job, "-m", "minilm", "-o", str(folder / "out.trec"))
    seconds, stderr = timed(STAND_IN, *job)
    first = (folder / "out.trec").read_bytes()
    size = (folder / "cache" / "scores.sqlite").stat().st_size
    print(f"cache filled: {seconds:.1f} s, {size / 1e6:.0f} MB; {stderr.splitlines()[-1]}")
    yesterday = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript('UPDATE scores SET day = day - 1')"
    timed(yesterday, str(folder / "cache" / "scores.sqlite"))
    for number in range(rounds):
        seconds, stderr = timed(TORCH_LOADED, *job)
        same = (folder / "out.trec").read_bytes() == first
        when = "same day" if number else "next day"
        print(f"{when}: {seconds:.1f} s, same bytes: {same}, torch loaded: {stderr.split()[-1]}")
    print(stderr.splitlines()[-2])
    seconds, _ = timed(None, *job[:-4], "--engine", "overlap", "-o", str(folder / "out.trec"))
    print(f"for comparison, with --engine overlap: {seconds:.1f} s")
    print(f"peak memory of the largest process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
