"""The time from a command to ten scores, imports included: python benchmarks/cold_start.py MODEL... [options]

One query and ten documents of the samples are scored by `lbr rerank --no-cache` and by sentence-transformers
(`CrossEncoder` for a classifier, `SentenceTransformer` for a bi-encoder), each in a separate process, in turn. The
results are medians of the processor time (user and system, which depends less on other programs) and of the wall time.
`--before DIR` adds another checkout of lbr; `--family` is the family of a causal model, for which sentence-transformers
is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lbr_cli.models import LocalModel, resolve

ROOT = Path(__file__).parents[1]
DOCUMENTS = 10
QUERY = "how to remove limescale from a kettle"
SENTENCE_TRANSFORMERS = """
import json, sys
folder, path, kind = sys.argv[1:]
lines = [json.loads(line) for line in open(path, encoding="utf-8")]
query, texts = lines[0]["query"], [line["text"] for line in lines]
if kind == "bi-encoder":
    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer(folder, device="cpu")
    scores = model.similarity(model.encode([query]), model.encode(texts))[0].tolist()
else:
    from sentence_transformers import CrossEncoder
    scores = CrossEncoder(folder, device="cpu").predict([(query, text) for text in texts]).tolist()
assert len(scores) == len(texts)
"""


class Seconds(NamedTuple):
    """The times of a process."""

    processor: float
    wall: float


class Contender(NamedTuple):
    """A command to measure, and the folder to run it in."""

    name: str
    command: Sequence[str]
    folder: Path


def run(contender: Contender) -> Seconds:
    """Run a command to its end, and return its times."""
    began = time.perf_counter()
    process = subprocess.Popen(contender.command, cwd=contender.folder, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{contender.name}: exit code {process.returncode}: {' '.join(contender.command[:4])}")
    return Seconds(usage.ru_utime + usage.ru_stime, wall)


def contenders(model: str, family: str | None, before: Path | None, lines: Path) -> list[Contender]:
    """Return the commands for a model. lbr runs in the folder of its checkout, so that Python imports this checkout."""
    local = resolve(model, family)
    if not isinstance(local, LocalModel):
        raise SystemExit(f"{model}: not on this machine")
    lbr = [sys.executable, "-m", "lbr_cli", "rerank", str(lines), "--model", model, "--no-cache", "-o", os.devnull]
    lbr += ["--family", family] if family else []
    compared = [Contender("lbr", lbr, ROOT)]
    if before:
        compared.append(Contender(f"lbr in {before}", lbr, before))
    if local.family.name in ("bi-encoder", "classifier"):
        arguments = [str(local.folder), str(lines), local.family.name]
        compared.append(
            Contender("sentence-transformers", [sys.executable, "-c", SENTENCE_TRANSFORMERS, *arguments], ROOT)
        )
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--family")
    parser.add_argument("--before", type=Path, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    documents = (ROOT / "samples" / "docs.jsonl").read_text(encoding="utf-8").splitlines()[:DOCUMENTS]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "pairs.jsonl"
        records = [json.loads(line) for line in documents]
        pairs = [
            {"query_id": "1", "query": QUERY, "doc_id": record["_id"], "text": record["text"]} for record in records
        ]
        lines.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
        print("| model | | processor, s | wall, s |\n| --- | --- | ---: | ---: |")
        for model in options.models:
            compared = contenders(model, options.family, options.before, lines)
            rounds = [[run(contender) for contender in compared] for _ in range(options.rounds)]
            for contender, times in zip(compared, zip(*rounds, strict=True), strict=True):
                processor, wall = (statistics.median(values) for values in zip(*times, strict=True))
                print(f"| {Path(model).name} | {contender.name} | {processor:.1f} | {wall:.1f} |")


if __name__ == "__main__":
    main()
