"""What a job costs whose scores are known: python benchmarks/cached.py [--pairs 1000000] [--rounds 3]

1. The samples with minilm, first with an empty cache and then again, beside `import torch` in a process of its own.
2. A run of a million pairs, of 1,000 queries over 100,000 documents of 100 words: the cache is filled by the program
   with a stand-in for the model, that gives numbers at once; then it is run as anybody would, as a whole process. The
   first time on the day after, when every row is marked as used.
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
# the program with an engine that makes vectors up
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
                some = window[start : start + 1000]
                yield Batch([(one, Answer(np.array([1, len(one.text) % 97], dtype=np.float32))) for one in some])
Scorer._loaded = lambda self, pairs: StandIn()
main()
"""
# the program, which prints at its end whether it has loaded torch
LOADED = """
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
        samples(options.rounds)
        many(Path(folder), options.pairs, options.rounds)


def timed(code: str | None, *arguments: str) -> tuple[float, str]:
    """Seconds of a whole process, and what it said."""
    began = time.perf_counter()
    start = ["-c", code] if code else ["-m", "lbr_cli"]
    ended = subprocess.run([sys.executable, *start, *arguments], capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(ended.stderr)
    return time.perf_counter() - began, ended.stderr


def samples(rounds: int) -> None:
    job = ("rerank", str(SAMPLES / "run.trec"), "-c", str(SAMPLES / "docs.jsonl"), "-m", "minilm", "-o", os.devnull)
    cold, said = timed(None, *job)
    print(f"samples, nothing known: {cold:.2f} s; {said.splitlines()[-1]}")
    warm, torch = [], []
    for _ in range(rounds):
        took, said = timed(None, *job)
        warm.append(took)
        torch.append(timed("import torch")[0])
    ratio = statistics.median(one / other for one, other in zip(warm, torch, strict=True))
    print(f"samples, all known: {statistics.median(warm):.2f} s; {said.splitlines()[-1]}")
    print(f"import torch: {statistics.median(torch):.2f} s; the warm job takes {ratio:.2f} of that")


def many(folder: Path, pairs: int, rounds: int) -> None:
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
    took, said = timed(STAND_IN, *job)
    first = (folder / "out.trec").read_bytes()
    size = (folder / "cache" / "scores.sqlite").stat().st_size
    print(f"filled: {took:.1f} s, {size / 1e6:.0f} MB; {said.splitlines()[-1]}")
    yesterday = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript('UPDATE scores SET day = day - 1')"
    timed(yesterday, str(folder / "cache" / "scores.sqlite"))
    for number in range(rounds):
        took, said = timed(LOADED, *job)
        same = (folder / "out.trec").read_bytes() == first
        when = "again" if number else "the day after"
        print(f"{when}: {took:.1f} s, same bytes: {same}, torch loaded: {said.split()[-1]}")
    print(said.splitlines()[-2])
    took, _ = timed(None, *job[:-4], "--engine", "overlap", "-o", str(folder / "out.trec"))
    print(f"for comparison, with --engine overlap: {took:.1f} s")
    print(f"peak memory of the largest: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
