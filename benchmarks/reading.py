"""Speed and memory of reading: python benchmarks/reading.py [MEGABYTES]

1. A JSONL corpus of MEGABYTES (default 1,000), and a run with 1 % of its documents: the time and the resident memory of
   the whole job, and the size of the texts that it keeps.
2. Corpora of a tenth of the size, with documents of 90 and of 250 words: the processor time of lbr's reader and of a
   bare loop of `orjson.loads` over the same lines, in turn; medians of 15 rounds.
3. A run of 1,000,000 lines and 1,000 queries: the time and the resident memory of `lbr rerank --engine overlap`.

The files are written to a temporary folder, and removed at the end.
"""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from lbr_cli.errors import InputError
from lbr_cli.formats.corpus import WantedDocuments, read_corpus
from lbr_cli.formats.fields import Fields
from lbr_cli.formats.input_files import InputFiles

ROUNDS = 15
LENGTHS = (90, 250)  # words
SHARE = 100  # the run has one of so many documents


def make_corpus(path: Path, megabytes: int, shortest: int = 50, longest: int = 250) -> int:
    """Write documents of `shortest` to `longest` words. Return the number of documents."""
    source = random.Random(0)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyzäöüé", k=source.randint(2, 10))) for _ in range(5000)]
    texts = [" ".join(source.choices(words, k=source.randint(shortest, longest))) for _ in range(2000)]
    count = size = 0
    with path.open("wb") as file:
        while size < megabytes * 1_000_000:
            record = {"_id": f"doc-{count}", "title": "a title", "text": texts[count % len(texts)], "url": "u"}
            size += file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def read_bare(path: Path) -> None:
    """Parse each line of a file, and do nothing else."""
    loads = orjson.loads
    with path.open("rb") as file:
        for line in file:
            loads(line)


def read_lbr(path: Path, wanted: set[str]) -> WantedDocuments:
    """Read the wanted documents of a corpus with lbr's reader."""

    def fail(error: InputError) -> None:
        raise error

    texts = WantedDocuments(wanted)
    read_corpus(InputFiles().open(str(path)), texts, Fields(), lambda _: None, fail)
    return texts


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def processor_seconds(work: Callable[..., object], *arguments: Any) -> float:
    began = time.process_time()
    work(*arguments)
    return time.process_time() - began


def run_lbr(*arguments: str) -> tuple[float, float]:
    """Run lbr. Return its seconds, and its peak resident memory in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    elapsed = seconds(lambda: subprocess.run([sys.executable, "-m", "lbr_cli", *arguments], check=True))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # ru_maxrss is that of the largest child so far, so the jobs have to run from small to large
    return elapsed, max(peak, before) / 1000


def corpus_part(folder: Path, megabytes: int) -> None:
    path = folder / "docs.jsonl"
    count = make_corpus(path, megabytes)
    wanted = {f"doc-{number}" for number in range(0, count, SHARE)}
    with (folder / "run.trec").open("w") as run:
        run.writelines(f"q Q0 {doc_id} 1 1 x\n" for doc_id in sorted(wanted))
    (folder / "queries.tsv").write_text("q\tsome words\n")
    # before this process reads the corpus, because the memory of a forked child includes that of its parent
    elapsed, peak = run_lbr(
        "rerank", str(folder / "run.trec"), "-c", str(path), "--engine", "overlap", "--quiet", "-o", str(folder / "out")
    )
    texts = read_lbr(path, wanted)
    kept = sum(len(document.text.encode()) for document in texts.documents.values()) / 1e6
    print(f"corpus of {path.stat().st_size / 1e6:,.0f} MB, {count:,} documents, {len(wanted):,} of them wanted")
    print(f"  whole process {elapsed:.1f} s, {peak:,.0f} MB resident, of which texts {kept:,.0f} MB")
    path.unlink()


def speed_part(folder: Path, megabytes: int) -> None:
    print("| words | orjson alone, s | lbr's reader, s | share of the speed of orjson |\n| ---: | ---: | ---: | ---: |")
    for words in LENGTHS:
        path = folder / f"docs-{words}.jsonl"
        count = make_corpus(path, megabytes, words, words)
        wanted = {f"doc-{number}" for number in range(0, count, SHARE)}
        pairs = [(processor_seconds(read_bare, path), processor_seconds(read_lbr, path, wanted)) for _ in range(ROUNDS)]
        loop, reader = (statistics.median(times) for times in zip(*pairs, strict=True))
        share = statistics.median(loop / reader for loop, reader in pairs)
        print(f"| {words} | {loop:.2f} | {reader:.2f} | {share:.2f} |")
        path.unlink()


def run_part(folder: Path) -> None:
    source = random.Random(1)
    with (folder / "big.trec").open("w") as run:
        for rank in range(1, 1001):
            for query in range(1000):  # interleaved queries
                run.write(f"q{query} Q0 d{source.randrange(100_000)}-{rank} {rank} {1000 - rank} bm25\n")
    wanted = {line.split()[2] for line in (folder / "big.trec").open()}
    with (folder / "big.jsonl").open("w") as corpus:
        corpus.writelines(f'{{"_id":"{doc_id}","text":"some words of a text {doc_id}"}}\n' for doc_id in sorted(wanted))
    (folder / "big.tsv").write_text("".join(f"q{query}\tsome words {query}\n" for query in range(1000)))
    arguments = ["-c", str(folder / "big.jsonl"), "-q", str(folder / "big.tsv"), "--engine", "overlap", "--quiet"]
    elapsed, peak = run_lbr("rerank", str(folder / "big.trec"), *arguments, "-o", str(folder / "out.trec"))
    print(f"run of 1,000,000 lines, 1,000 queries, {len(wanted):,} documents")
    print(f"  whole process {elapsed:.1f} s, {peak:,.0f} MB resident")


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        corpus_part(Path(folder), megabytes)
        speed_part(Path(folder), max(megabytes // 10, 1))
        run_part(Path(folder))


if __name__ == "__main__":
    main()
