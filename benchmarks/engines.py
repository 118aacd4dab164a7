"""Speed and agreement of engines: python benchmarks/engines.py MODEL COLLECTION ENGINE… [options]

MODEL is a folder. COLLECTION is a folder with a run, queries.jsonl and corpus.jsonl; the first `--queries` queries of
the run are scored, with `--depth` documents each. ENGINE is one of

    local       this machine
    vllm        vLLM in this process
    openai      the server at `--base-url`, by token ids; `messages` is the same server by chat messages
    ray:N       N workers of one thread each, on this machine

In each of `--rounds`, every engine in turn is loaded, scores a warm-up query, and is timed; the result is the median.
`--save` stores the scores and `--against` compares with stored scores, because vLLM needs a separate environment.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

from lbr_cli.core import Document, Query
from lbr_cli.engines import Server, Settings, Workers, prepare_engine
from lbr_cli.formats.input_files import InputFiles
from lbr_cli.inputs import Inputs
from lbr_cli.inputs.load import load_run
from lbr_cli.models import fetch, resolve, resolve_served
from lbr_cli.progress import Console
from lbr_cli.scoring import QueryDocuments, Scorer

Scores = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("collection", type=Path)
    parser.add_argument("engines", nargs="*", metavar="ENGINE")
    parser.add_argument("--family", default="lb")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, help="of the local engine")
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--tolerance", type=float, default=1e-3)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--against", type=Path)
    arguments = parser.parse_args()
    with Console(bar=False, quiet=True) as console:
        rankings = _rankings(arguments, console)
        reference: Scores | None = json.loads(arguments.against.read_text()) if arguments.against else None
        rates: dict[str, list[float]] = {name: [] for name in arguments.engines}
        scores: dict[str, Scores] = {}
        descriptions: dict[str, str] = {}
        for _ in range(arguments.rounds):
            for name in arguments.engines:
                scorer = _loaded(name, arguments, console)
                rate, scores[name] = _timed(scorer, rankings)
                rates[name].append(rate)
                descriptions[name] = scorer.description
                del scorer
                if name.startswith("ray"):
                    ray = importlib.import_module("ray")
                    ray.shutdown()
    print(f"{sum(len(documents) for _, documents in rankings)} pairs of {len(rankings)} queries")
    print("| engine | pairs/s | | largest difference of a score | order |\n| --- | --- | --- | --- | --- |")
    for name in arguments.engines:
        reference = {pair: score for pair, score in (reference or scores[name]).items() if pair in scores[name]}
        difference = max(abs(scores[name][pair] - reference[pair]) for pair in reference)
        order = _swapped(scores[name], reference, arguments.tolerance)
        print(f"| {name} | {statistics.median(rates[name]):.2f} | {descriptions[name]} | {difference:.1g} | {order} |")
    if arguments.save:
        arguments.save.write_text(json.dumps(next(iter(scores.values()))))


def _rankings(arguments: argparse.Namespace, console: Console) -> list[tuple[Query, list[Document]]]:
    folder = arguments.collection
    (run,) = folder.glob("run*.trec")
    inputs = Inputs((str(run),), (str(folder / "corpus.jsonl"),), str(folder / "queries.jsonl"))
    rankings = []
    for ranking in load_run(inputs, InputFiles(), console).rankings:
        documents = [candidate.document for candidate in ranking.candidates[: arguments.depth]]
        rankings.append((ranking.query, [document for document in documents if document]))
        if len(rankings) == arguments.queries:
            break
    return rankings


def _loaded(name: str, arguments: argparse.Namespace, console: Console) -> Scorer:
    kind, _, count = name.partition(":")
    settings = Settings(dtype=arguments.dtype)
    if kind in ("openai", "messages"):
        tokenizer = str(arguments.model) if kind == "openai" else None
        model = resolve_served(arguments.model.name, arguments.family, tokenizer)
        kind, settings = "openai", Settings(server=Server(arguments.base_url))
    else:
        model = fetch(resolve(str(arguments.model), arguments.family), console)
        settings = replace(settings, threads=arguments.threads if kind == "local" else None)
        if kind == "ray":
            settings = replace(settings, workers=Workers(int(count)))
    engine = prepare_engine(kind, model, settings).load()
    return Scorer(model.family, lambda pairs: engine, console)


def _timed(scorer: Scorer, rankings: list[tuple[Query, list[Document]]]) -> tuple[float, Scores]:
    """Score a warm-up query, then the rankings. Return the pairs per second, and the scores."""
    warm_up = [(Query("", "warm"), [Document("", f"a text to begin with {number} " * 20) for number in range(32)])]
    _scored(scorer, warm_up)
    began = time.perf_counter()
    scores = _scored(scorer, rankings)
    return len(scores) / (time.perf_counter() - began), scores


def _scored(scorer: Scorer, rankings: list[tuple[Query, list[Document]]]) -> Scores:
    plan = scorer.plan(lambda: ((query, document) for query, documents in rankings for document in documents))
    items = [QueryDocuments(query, documents) for query, documents in rankings]
    by_pair: Scores = {}
    for item, scores in scorer.score(items, plan):
        for document, score in zip(item.documents, scores, strict=True):
            by_pair[f"{item.query.query_id} {document.doc_id}"] = score.value
    return by_pair


def _swapped(scores: Scores, reference: Scores, tolerance: float) -> str:
    """Count the pairs of documents that are swapped, among those farther apart than `tolerance` in the reference."""
    rows: dict[str, list[str]] = {}
    for pair in reference:
        rows.setdefault(pair.split()[0], []).append(pair)
    apart = swapped = 0
    for row in rows.values():
        for better in row:
            for worse in row:
                if reference[better] - reference[worse] > tolerance:
                    apart += 1
                    swapped += scores[better] <= scores[worse]
    return f"{swapped} of {apart} swapped"


if __name__ == "__main__":
    main()
