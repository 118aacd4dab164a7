"""Compare cross-encoders batch by batch: python benchmarks/lockstep.py MODEL COLLECTION [--queries 40] [--depth 10]

If the speed of a machine varies, the times of successive jobs cannot be compared. Here the contenders take turns: the
one with the fewest scored pairs computes its next batch. So a change of speed affects all of them. All compute on the
CPU, in float32 unless their name says int8; loading is not measured.

    lbr          the local engine, with the windows that a job sends
    lbr int8     the same with --dtype int8
    ST 8, 16     sentence-transformers' CrossEncoder, all pairs sorted by length, batches of 8 and of 16
    ONNX …       with --peers PYTHON: the contenders of peers.py in processes of their own, sorted as well, with batches
                 of each of --sizes
    products     only the matrix products and the attention of lbr's batches, on random numbers and for all tokens
                 of all layers: no norms, activations, masks or additions

Each round scores all pairs. The limit is the time of all these products, attention included, at the speed at which
this machine multiplies a 2048 x 896 by an 896 x 4864 matrix. This speed is measured after each turn. The table has the
medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import torch
from peers import PEERS
from scoring import collection_pairs
from sentence_transformers import CrossEncoder
from torch.nn.functional import linear, scaled_dot_product_attention

from lbr_cli.computation import GROWTH
from lbr_cli.core import Engine, Pair
from lbr_cli.engines import Settings, prepare_engine
from lbr_cli.models import fetch, resolve
from lbr_cli.progress import Console

ROWS, INNER, OUTER = 2048, 896, 4864
HERE = Path(__file__).parent


def lbr(engine: Engine, pairs: list[Pair], depth: int) -> Iterator[int]:
    """Score the pairs with the engine. Yield the number of pairs of each batch."""

    def windows() -> Iterator[list[Pair]]:
        start, size = 0, depth
        while start < len(pairs):
            yield pairs[start : start + size]
            start, size = start + size, min(GROWTH * size, engine.window)

    for batch in engine.answer(windows()):
        yield len(batch.answers)


def sentence_transformers(model: CrossEncoder, pairs: list[Pair], size: int) -> Iterator[int]:
    """Score the pairs with a `CrossEncoder`. Yield the number of pairs of each batch."""
    ordered = sorted(pairs, key=lambda pair: -len(pair.query) - len(pair.document))
    for start in range(0, len(ordered), size):
        batch = [(pair.query, pair.document) for pair in ordered[start : start + size]]
        model.predict(batch, batch_size=size, show_progress_bar=False)
        yield len(batch)


@torch.inference_mode()
def products(shapes: list[tuple[int, int]], config: object) -> Iterator[int]:
    """Compute the products of batches of `shapes` [rows, length of the longest]. Yield the number of rows of each."""
    size, inner = config.hidden_size, config.intermediate_size  # type: ignore[attr-defined]
    heads, layers = config.num_attention_heads, config.num_hidden_layers  # type: ignore[attr-defined]
    weights = [torch.randn(shape) for shape in [(size, size)] * 4 + [(inner, size), (size, inner)]]
    for rows, longest in shapes:
        hidden, wide = torch.randn(rows * longest, size), torch.randn(rows * longest, inner)
        split = torch.randn(rows, longest, heads, size // heads).transpose(1, 2)
        for _ in range(layers):
            for weight in weights:
                linear(wide if weight.shape[1] == inner else hidden, weight)
            scaled_dot_product_attention(split, split, split)
        yield rows


class Peer:
    """A contender of peers.py in a process of its own."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read_until_ready()

    def _read_until_ready(self) -> None:
        while (line := self._output.readline()) != "ready\n":
            if not line:
                raise SystemExit("a contender of peers.py failed")

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout
        return self._process.stdout

    def batches(self) -> Iterator[int]:
        """Yield how many pairs each batch of a round had."""
        assert self._process.stdin
        while True:
            self._process.stdin.write("next\n")
            self._process.stdin.flush()
            count = int(self._output.readline())
            if not count:
                return
            yield count


def start_peers(
    python: str, folder: str, texts: list[tuple[str, str]], sizes: list[int], scratch: Path
) -> dict[str, Peer]:
    """Export the model, and start a process for each contender of peers.py and each batch size."""
    file, exports = scratch / "pairs.json", scratch / "exports"
    file.write_text(json.dumps(texts), encoding="utf-8")
    command = [python, str(HERE / "peers.py"), folder, "--exports", str(exports)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    command += ["--file", str(file), "--turns"]
    return {
        f"{name} {size}": Peer([*command, "--contender", name, "--size", str(size)]) for name in PEERS for size in sizes
    }


def round_of_turns(start: dict[str, Callable[[], Iterator[int]]]) -> tuple[dict[str, float], float]:
    """Let all contenders score all pairs; return the seconds of each, and the FLOPS of the machine meanwhile."""
    left, right, out = torch.randn(ROWS, INNER), torch.randn(INNER, OUTER), torch.empty(ROWS, OUTER)
    seconds, done = dict.fromkeys(start, 0.0), dict.fromkeys(start, 0)
    turns, peak_seconds = 0, 0.0
    unfinished = {name: batches() for name, batches in start.items()}
    while unfinished:
        name = min(unfinished, key=lambda name: done[name])
        began = time.perf_counter()
        count = next(unfinished[name], 0)
        seconds[name] += time.perf_counter() - began
        done[name] += count
        if not count:
            del unfinished[name]
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        peak_seconds += time.perf_counter() - began
        turns += 1
    return seconds, 2 * ROWS * INNER * OUTER * turns / peak_seconds


def shapes_of_batches(engine: Engine, pairs: list[Pair], depth: int) -> list[tuple[int, int]]:
    """Return rows and longest row of each batch of lbr, which computes them once."""
    shapes: list[tuple[int, int]] = []

    def record_shape(module: object, arguments: object, kwargs: dict[str, torch.Tensor]) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))  # type: ignore[arg-type]

    hook = engine.model.register_forward_pre_hook(record_shape, with_kwargs=True)  # type: ignore[attr-defined]
    for _ in lbr(engine, pairs, depth):
        pass
    hook.remove()
    return shapes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("collection", type=Path)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", help="an interpreter that has what peers.py needs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16], help="batch sizes of peers.py's contenders")
    options = parser.parse_args()
    texts = collection_pairs(options.collection, options.queries * options.depth, options.depth)
    pairs = list(dict.fromkeys(Pair(*pair) for pair in texts))
    with Console(bar=False, quiet=True) as console:
        model = fetch(resolve(options.model), console)
    engine = prepare_engine("local", model, Settings("cpu", "float32")).load()
    int8 = prepare_engine("local", model, Settings("cpu", "int8")).load()
    cross_encoder = CrossEncoder(options.model, device="cpu", activation_fn=torch.nn.Identity())
    shapes = shapes_of_batches(engine, pairs, options.depth)
    config = engine.model.config  # type: ignore[attr-defined]
    contenders: dict[str, Callable[[], Iterator[int]]] = {
        "lbr": lambda: lbr(engine, pairs, options.depth),
        "lbr int8": lambda: lbr(int8, pairs, options.depth),
        "ST 8": lambda: sentence_transformers(cross_encoder, pairs, 8),
        "ST 16": lambda: sentence_transformers(cross_encoder, pairs, 16),
        "products": lambda: products(shapes, config),
    }
    lengths = [
        len(row)
        for row in cross_encoder.tokenizer([[p.query, p.document] for p in pairs], truncation=True)["input_ids"]
    ]
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    work = config.num_hidden_layers * sum(2 * layer * n + 4 * config.hidden_size * n * n for n in lengths) / len(pairs)
    with tempfile.TemporaryDirectory() as scratch:
        if options.peers:
            texts = [(pair.query, pair.document) for pair in pairs]
            peers = start_peers(options.peers, options.model, texts, options.sizes, Path(scratch))
            contenders |= {name: peer.batches for name, peer in peers.items()}
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        peaks = []
        for _ in range(options.rounds):
            seconds, peak = round_of_turns(contenders)
            peaks.append(peak)
            for name, taken in seconds.items():
                rates[name].append(len(pairs) / taken)
    peak = statistics.median(peaks)
    print(f"{len(pairs)} pairs of {sum(lengths) / len(pairs):.0f} tokens; {peak / 1e9:.0f} GFLOPS")
    print("| | pairs/s | rounds | share of the limit |\n| --- | ---: | ---: | ---: |")
    for name, each in rates.items():
        rounds = ", ".join(f"{rate:.2f}" for rate in each)
        share = statistics.median(rate * work / peak for rate, peak in zip(each, peaks, strict=True))
        print(f"| {name} | {statistics.median(each):.2f} | {rounds} | {share:.2f} |")


if __name__ == "__main__":
    main()
