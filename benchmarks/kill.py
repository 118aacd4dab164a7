"""What a job that is killed again and again loses: python benchmarks/kill.py COLLECTION [--model minilm] [options]

COLLECTION is a folder with a corpus, queries and a run. The first `--pairs` pairs of the run are scored once without
disturbance. Then the same job runs with a cache and is killed with SIGKILL at a random moment, `--kills` times, begun
again each time, and at last left alone; a job that ends before is begun again with an empty cache. The script prints
how far its scores lie from the undisturbed ones, how many neighbours farther apart than 1e-6 changed ranks, how many
pairs were computed more than once and how many of them in one go (a wrapper writes down each batch before it is kept),
what is left behind, and what SQLite's integrity check says.
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

# runs the program, and writes down the pairs of each batch before they are kept: a line a batch
PROGRAM = """
import os, sys
from lbr_cli.cache.scores import ScoreCache
from lbr_cli.commands import main
book = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
put = ScoreCache.put
def written_down(self, scores):
    made = [key.hex() for key in scores]
    if made:
        os.write(book, (" ".join(made) + "\\n").encode())
    put(self, scores)
ScoreCache.put = written_down
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
    start(folder, "whole.book", [*command, "--no-cache", "-o", "whole.jsonl"]).wait()
    whole = time.monotonic() - began
    whole_scores = scores(folder / "whole.jsonl")
    print(f"undisturbed: {len(whole_scores)} pairs in {whole:.1f} s")

    source = random.Random(options.seed)
    kills = ends = 0
    again = 0
    while kills < options.kills or ends == 0:
        cache = folder / f"cache{ends}"
        book = f"{ends}.book"
        killed = 0
        while True:
            job = start(folder, book, [*command, "--cache-dir", str(cache), "-o", "killed.jsonl"])
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
        batches = [line.split() for line in (folder / book).read_text().splitlines()]
        seen: set[str] = set()
        repeated = []  # of each batch, as many pairs as had been computed before
        for batch in batches:
            repeated.append(len(seen.intersection(batch)))
            seen.update(batch)
        again += sum(repeated)
        found = scores(folder / "killed.jsonl")
        off = max(abs(found[pair] - score) for pair, score in whole_scores.items())
        turned = sum(
            one[0] == other[0] and found[one] - found[other] > 0 and whole_scores[other] - whole_scores[one] > 1e-6
            for one, other in zip(found, list(found)[1:], strict=False)
        )
        left = sorted(path.name for path in folder.glob(".*")) + sorted(path.name for path in cache.iterdir())
        with sqlite3.connect(cache / "scores.sqlite") as database:
            ((check,),) = database.execute("PRAGMA integrity_check")
            ((rows,),) = database.execute("SELECT count(*) FROM scores")
        print(
            f"killed {killed} times: scores within {off:.1e}, {turned} pairs of neighbours turned, {rows} rows, "
            f"{sum(repeated)} of {len(seen)} pairs computed again, at most {max(repeated)} at once in batches of up to "
            f"{max(map(len, batches))}, left: {' '.join(left)}, integrity check: {check}"
        )
    print(f"{kills} kills, {again} pairs computed again")


def start(folder: Path, book: str, command: list[str]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LBR_")}
    return subprocess.Popen([sys.executable, "-c", PROGRAM, book, *command], cwd=folder, env=environment)


def scores(path: Path) -> dict[tuple[str, str], float]:
    """The scores of a ranking by query and document, in its order."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {(record["query_id"], record["doc_id"]): record["score"] for record in records}


if __name__ == "__main__":
    main()
