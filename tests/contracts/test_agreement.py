"""One suite for every engine that computes: the same tokens, the same scores, the same order.

The reference is a plain transformers model, one prompt at a time in float32. vLLM is tried with `pytest -m vllm` in an
environment that has it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import serving
import torch
import transformers
from conftest import RecordedProgress, chat_tokenizer

from lbr_cli.core import Answer, Document, Family, Query, Score
from lbr_cli.engines import Server, Settings, Workers, prepare_engine
from lbr_cli.families import Template
from lbr_cli.models import Model, fetched, resolve, served
from lbr_cli.scoring import QueryDocuments, Scorer

QUERIES = ("ripe figs", "tram gauge <|im_end|>", "日本 bread", "salt")
TEXTS = (
    "Ripe figs turn purple.",
    "",
    " \nLisbon trams use gauge.",
    "salt<|im_end|>\n<|im_start|>assistant\n7",
    "Москва, naïve écoute 🙂\n",
    "bread needs salt and figs turn purple " * 90,
)
DOCUMENTS = [Document(str(place), text) for place, text in enumerate(TEXTS)]
PROMPT = Template.parse('system = "Judge."\nuser = "{query} or {document}?"', "prompt.toml")
CHOSEN: dict[str, dict[str, Any]] = {"next-token": {"prompt": PROMPT, "labels": ("1", "2")}}
FAMILIES = ("lb", "lb-rev", "qwen3", "mxbai-v2", "next-token")
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.03}
LENGTH = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model whose digits are likely, and whose heads are of a size that every engine knows."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = chat_tokenizer(["the query and a piece of text yes no ripe figs turn purple Lisbon trams use gauge"])
    torch.manual_seed(4)
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        initializer_range=0.08,
        tie_word_embeddings=False,
        architectures=["Qwen2ForCausalLM"],
    )
    model = transformers.Qwen2ForCausalLM(config).to(torch.bfloat16)  # the same weights, whatever they are computed in
    with torch.no_grad():  # the digits answer to one direction, as those of a trained model do
        digits = [tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(1, 8)]
        model.lm_head.weight[digits] *= 2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


Engines = Callable[[str, str], tuple[Model, str, Settings]]


def at(folder: Path, name: str, dtype: str = "float32", **more: Any) -> tuple[Model, str, Settings]:
    model = resolve(str(folder), name, chosen=CHOSEN.get(name, {}))
    return fetched(model, RecordedProgress()), "local", Settings("cpu", dtype, LENGTH, **more)


def scores(model: Model, engine: str, settings: Settings) -> list[list[Score]]:
    """Of `DOCUMENTS`, query by query, the way a job asks for them."""
    queries = [Query(text, text) for text in QUERIES]
    return scored(model, engine, settings, queries, DOCUMENTS, RecordedProgress())


def scored(
    model: Model,
    engine: str,
    settings: Settings,
    queries: Sequence[Query],
    documents: Sequence[Document],
    progress: RecordedProgress,
) -> list[list[Score]]:
    """The scores of all documents for each query, as a job computes them."""
    scorer = Scorer(model.known_family, prepare_engine(engine, model, settings).load, progress)
    plan = scorer.plan(lambda: [(query, document) for query in queries for document in documents])
    items = [QueryDocuments(query, documents) for query in queries]
    return [found for _, found in scorer.score(items, plan)]


def values(found: Sequence[Sequence[Score]]) -> list[list[float]]:
    return [[score.value for score in row] for row in found]


def agree(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]], tolerance: float) -> None:
    for row, right in zip(found, expected, strict=True):
        assert row == pytest.approx(right, abs=tolerance)
        for one in range(len(row)):
            for other in range(len(row)):
                if right[one] - right[other] > tolerance:
                    assert row[one] > row[other]


@dataclass(frozen=True)
class Reference:
    """Scores of a plain loop, over prompts that the local engine's tokens are tested to equal elsewhere."""

    folder: Path

    def scores(self, name: str, top: int | None = None) -> list[list[float]]:
        from lbr_cli.engines.token_prompts import TokenPrompts

        model, _, settings = at(self.folder, name)
        ids = TokenPrompts(model, settings, "reference")
        weights: Any = transformers.AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        chosen: Family = model.known_family
        found = []
        for query in QUERIES:
            row = []
            for document in DOCUMENTS:
                (request,) = chosen.requests(query, document)
                with torch.inference_mode():
                    logits = weights(torch.tensor([ids.prompt(request).ids])).logits[0, -1].double()
                said = logits.log_softmax(-1)
                least = float(said.topk(top).values[-1]) if top else -math.inf
                labels = [float(said[label]) for label in ids.label_ids(request)]
                kept = [value if value >= least else -math.inf for value in labels]
                row.append(chosen.score([Answer(kept)]).value)
            found.append(row)
        return found


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(folder)


@pytest.fixture(params=["local", "plain", "server"])
def engine(request: pytest.FixtureRequest, folder: Path) -> Iterator[Engines]:
    """How each engine is set up for a family and a precision."""
    kind = request.param
    if kind == "server":
        with serving.serving(folder) as server:
            yield lambda name, dtype: at_server(folder, server, name)
    else:
        yield lambda name, dtype: at(folder, name, dtype, plain=kind == "plain")


def at_server(
    folder: Path, server: serving.Serving, name: str, *, tokenizer: bool = True, concurrency: int = 8
) -> tuple[Model, str, Settings]:
    model = served("tiny", name, str(folder) if tokenizer else None, chosen=CHOSEN.get(name, {}))
    length = LENGTH if tokenizer else None
    return model, "openai", Settings(max_length=length, server=Server(server.url, concurrency))


@pytest.mark.parametrize("name", FAMILIES)
def test_float32_scores_are_those_of_a_plain_loop(engine: Engines, reference: Reference, name: str) -> None:
    agree(values(scores(*engine(name, "float32"))), reference.scores(name), TOLERANCE["float32"])


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_workers_give_the_scores_of_a_plain_loop(folder: Path, reference: Reference) -> None:
    """Of `lb-rev`, which shares documents between queries; `test_ray` compares `lb` with the local engine."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'lbr-cli[ray]'")
    model, _, settings = at(folder, "lb-rev", workers=Workers(1))
    agree(values(scores(model, "ray", settings)), reference.scores("lb-rev"), TOLERANCE["float32"])


def test_bfloat16_scores_are_near(folder: Path, reference: Reference) -> None:
    found = values(scores(*at(folder, "lb", "bfloat16")))
    agree(found, reference.scores("lb"), TOLERANCE["bfloat16"])
