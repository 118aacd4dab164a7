"""Work lost when a job is killed repeatedly: python benchmarks/kill.py COLLECTION [--model minilm] [options]

COLLECTION is a folder with a corpus, queries and a run. The first `--pairs` pairs of the run are scored once without a
kill. Then the same job runs with a cache. It is killed with SIGKILL at a random time and restarted, `--kills` times in
total, and the last job runs to its end. If a job ends before it is killed, the next one starts with an empty cache. For
each cache, the script prints

- the largest difference from the scores of the job without a kill, and the number of neighbours in the ranking that
  were swapped although their scores differ by more than 1e-6
- how many pairs were computed more than once, in total and at most in one batch (a wrapper logs the keys of each batch
  before they are stored)
- the files that are left, and the result of SQLite's integrity check.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# lbr, which logs the keys of each batch before its scores are stored, one batch a line
PROGRAM = """
import os, sys
from lbr_cli.cache.scores import ScoreCache
from lbr_cli.commands import main
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
put = ScoreCache.put
def logged_put(self, scores):
    keys = [key.hex() for key in scores]
    if keys:
        os.write(log, (" ".join(keys) + "\\n").encode())
    put(self, scores)
ScoreCache.put = logged_put
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--family")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(options, Path(folder))


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Run the jobs in a folder, and print the results."""
    (run,) = options.collection.glob("*.trec")
    (corpus,) = [*options.collection.glob("corpus.jsonl*"), *options.collection.glob("docs.jsonl*")][:1]
    lines = run.read_text(encoding="utf-8").splitlines(keepends=True)[: options.pairs]
    (folder / "run.trec").write_text("".join(lines), encoding="utf-8")
    command = [
        *("rerank", "run.trec", "-c", str(corpus), "-q", str(options.collection / "queries.jsonl")),
        *("-m", options.model, "--dtype", "float32", "--quiet", "--output-format", "jsonl"),
        *(["--family", options.family] if options.family else []),
    ]
    began = time.monotonic()
    start(folder, "whole.log", [*command, "--no-cache", "-o", "whole.jsonl"]).wait()
    whole = time.monotonic() - began
    whole_scores = scores(folder / "whole.jsonl")
    print(f"without a kill: {len(whole_scores)} pairs in {whole:.1f} s")

    source = random.Random(options.seed)
    kills = ends = repeated_pairs = 0
    while kills < options.kills or ends == 0:
        cache = folder / f"cache{ends}"
        log = f"{ends}.log"
        killed = 0
        while True:
            job = start(folder, log, [*command, "--cache-dir", str(cache), "-o", "killed.jsonl"])
            if kills < options.kills:
                try:
                    job.wait(source.uniform(0, 0.3 * whole + 3))
                except subprocess.TimeoutExpired:
                    job.send_signal(signal.SIGKILL)
                    job.wait()
                    kills += 1
                    killed += 1
                    continue
            if job.wait() != 0:
                sys.exit(f"the job ended with {job.returncode}")
            break
        ends += 1
        batches = [line.split() for line in (folder / log).read_text().splitlines()]
        seen: set[str] = set()
        repeated = []  # for each batch, the number of pairs that had been computed before
        for batch in batches:
            repeated.append(len(seen.intersection(batch)))
            seen.update(batch)
        repeated_pairs += sum(repeated)
        killed_scores = scores(folder / "killed.jsonl")
        difference = max(abs(killed_scores[pair] - score) for pair, score in whole_scores.items())
        swapped = sum(
            pair[0] == below[0]
            and killed_scores[pair] > killed_scores[below]
            and whole_scores[below] - whole_scores[pair] > 1e-6
            for pair, below in zip(killed_scores, list(killed_scores)[1:], strict=False)
        )
        left = sorted(path.name for path in folder.glob(".*")) + sorted(path.name for path in cache.iterdir())
        with sqlite3.connect(cache / "scores.sqlite") as database:
            ((check,),) = database.execute("PRAGMA integrity_check")
            ((rows,),) = database.execute("SELECT count(*) FROM scores")
        print(
            f"killed {killed} times: scores within {difference:.1e}, {swapped} neighbours swapped, {rows} rows, "
            f"{sum(repeated)} of {len(seen)} pairs computed again, at most {max(repeated)} in one batch of up to "
            f"{max(map(len, batches))}, left: {' '.join(left)}, integrity check: {check}"
        )
    print(f"{kills} kills, {repeated_pairs} pairs computed again")


def start(folder: Path, log: str, command: list[str]) -> subprocess.Popen[bytes]:
    """Start lbr, which appends the keys of its batches to the file `log`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, log, *command], cwd=folder, env=environment)


def scores(path: Path) -> dict[tuple[str, str], float]:
    """Return the scores of a ranking by query and document, in its order."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(record["query_id"], record["doc_id"]): record["score"] for record in records}


if __name__ == "__main__":
    main()
