"""Compare cross-encoders batch by batch: python benchmarks/lockstep.py MODEL COLLECTION [--queries 40] [--depth 10]

If the speed of a machine varies, the times of successive jobs cannot be compared. Here the contenders run in one
process and take turns: the one with the fewest scored pairs computes its next batch. So a change of speed affects all
of them. All compute in float32 on the CPU; loading is not measured.

    lbr        the local engine, with the windows that a job sends
    ST 8, 16   sentence-transformers' CrossEncoder, all pairs sorted by length, batches of 8 and of 16
    products   only the matrix products and the attention of lbr's batches, on random numbers: no norms, activations,
               masks or additions

The limit is the time of all these products, attention included, at the speed at which this machine multiplies a
2048 x 896 by an 896 x 4864 matrix. This speed is measured after each turn.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from scoring import collection_pairs
from sentence_transformers import CrossEncoder
from torch.nn.functional import linear, scaled_dot_product_attention

from lbr_cli.computation import GROWTH
from lbr_cli.core import Engine, Pair
from lbr_cli.engines import Settings, load_engine
from lbr_cli.models import fetch, resolve
from lbr_cli.progress import Console

ROWS, INNER, OUTER = 2048, 896, 4864


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("collection", type=Path)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--depth", type=int, default=10)
    options = parser.parse_args()
    texts = collection_pairs(options.collection, options.queries * options.depth, options.depth)
    pairs = list(dict.fromkeys(Pair(*pair) for pair in texts))
    with Console(bar=False, quiet=True) as console:
        model = fetch(resolve(options.model), console)
    engine = load_engine("local", model, Settings("cpu", "float32"))
    cross_encoder = CrossEncoder(options.model, device="cpu", activation_fn=torch.nn.Identity())
    shapes: list[tuple[int, int]] = []  # of lbr's batches, from one computation before the measurement

    def record_shape(module: object, arguments: object, kwargs: dict[str, torch.Tensor]) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))  # type: ignore[arg-type]

    hook = engine.model.register_forward_pre_hook(record_shape, with_kwargs=True)  # type: ignore[attr-defined]

    for _ in lbr(engine, pairs, options.depth):
        pass
    hook.remove()
    config = engine.model.config  # type: ignore[attr-defined]
    contenders = {
        "lbr": lbr(engine, pairs, options.depth),
        "ST 8": sentence_transformers(cross_encoder, pairs, 8),
        "ST 16": sentence_transformers(cross_encoder, pairs, 16),
        "products": products(shapes, config),
    }
    lengths = [
        len(row)
        for row in cross_encoder.tokenizer([[p.query, p.document] for p in pairs], truncation=True)["input_ids"]
    ]
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    work = config.num_hidden_layers * sum(2 * layer * n + 4 * config.hidden_size * n * n for n in lengths) / len(pairs)
    seconds, done = dict.fromkeys(contenders, 0.0), dict.fromkeys(contenders, 0)
    left, right, out = torch.randn(ROWS, INNER), torch.randn(INNER, OUTER), torch.empty(ROWS, OUTER)
    turns, peak_seconds = 0, 0.0
    unfinished = set(contenders)
    while unfinished:
        name = min(unfinished, key=lambda name: done[name])
        began = time.perf_counter()
        count = next(contenders[name], 0)
        seconds[name] += time.perf_counter() - began
        done[name] += count
        if not count:
            unfinished.discard(name)
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        peak_seconds += time.perf_counter() - began
        turns += 1
    peak = 2 * ROWS * INNER * OUTER * turns / peak_seconds
    print(f"{len(pairs)} pairs of {sum(lengths) / len(pairs):.0f} tokens, float32; {peak / 1e9:.0f} GFLOPS")
    print("| | pairs/s | share of the limit |\n| --- | ---: | ---: |")
    for name in contenders:
        rate = done[name] / seconds[name]
        print(f"| {name} | {rate:.2f} | {rate * work / peak:.2f} |")


if __name__ == "__main__":
    main()
