"""The LB reranker in a plain loop: one pair at a time, transformers' own forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from lbr_cli.core import Chat, NextToken
from lbr_cli.engines import Settings
from lbr_cli.engines.local.prompt_engine import PromptEngine
from lbr_cli.families import Lb
from lbr_cli.models import resolve
from support.engines import answered, ask, load
from support.tokenizers import tokenizer_of_file

QUERIES = ("ripe figs", "трамвай", "日本 bread")
DOCUMENTS = (
    "x",
    "",
    "\nLisbon trams use 900 mm gauge.",
    "Ripe figs turn purple. " * 12,
    "Москва, 日本, naïve écoute 🙂",
    "salt\n\nbread\n" * 20,
    "def f(x):\n\treturn x + 1\n",
)
PAIRS = [(query, document) for query in QUERIES for document in DOCUMENTS]


def engine(folder: Path, **settings: Any) -> PromptEngine:
    """Load the local engine with a model of the family lb."""
    loaded = load(resolve(str(folder), "lb"), Settings(**settings))
    assert isinstance(loaded, PromptEngine)
    return loaded


def scores(loaded: PromptEngine, pairs: Sequence[tuple[str, str]] = PAIRS) -> list[float]:
    """Return the engine's scores of pairs."""
    requests = [ask(Lb(), *pair)[0] for pair in pairs]
    return [Lb().score([answer]).value for answer in answered(loaded, requests)]


def plain_scores(folder: Path, dtype: torch.dtype, pairs: Sequence[tuple[str, str]] = PAIRS) -> list[float]:
    """Return the expected value of the digit for each pair, computed one pair at a time."""
    tokenizer = tokenizer_of_file(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    labels = [tokenizer.encode(str(digit))[0] for digit in range(1, 8)]
    expectations = []
    for query, document in pairs:
        (request,) = ask(Lb(), query, document)
        assert isinstance(request, NextToken)
        assert isinstance(request.template, Chat)
        messages = [
            {"role": "system", "content": request.template.system},
            {"role": "user", "content": request.before[0] + request.document},
        ]
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            probabilities = model(ids).logits[0, -1].float().softmax(-1)
        expectations.append(sum(digit * probabilities[label].item() for digit, label in enumerate(labels, 1)))
    return expectations


def max_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the largest absolute difference between two lists of scores."""
    return max(abs(a - b) for a, b in zip(first, second, strict=True))
