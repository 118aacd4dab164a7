"""Cross-encoders against plain code: one pair at a time, transformers' own forward pass."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
)

from lbr_cli.core import Answer, Pair
from lbr_cli.engines import Settings
from lbr_cli.engines.local.cross_encoder import CrossEncoder
from lbr_cli.errors import RequestError
from lbr_cli.models import resolve
from support.engines import answered, load
from support.plain_loop import max_difference
from support.program import Program

PAIRS = [
    Pair(query, document)
    for query in ("ripe figs", "日本 trams?", "[SEP] bread")
    for document in ("", "x", "Ripe figs turn purple. " * 12, "[CLS] salt [SEP]", "bread needs salt and time. " * 60)
]


@pytest.fixture(scope="module")
def folder(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a BERT with one label and random weights, of 128 positions."""
    found = tmp_path_factory.mktemp("models") / "tiny-cross"
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.3,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(found)
    tokenizer.save_pretrained(found)
    return found


def engine(folder: Path, **settings: Any) -> CrossEncoder:
    loaded = load(resolve(str(folder)), Settings(**settings))
    assert isinstance(loaded, CrossEncoder)
    return loaded


def answers(loaded: CrossEncoder, pairs: Sequence[Pair] = PAIRS) -> list[Answer]:
    return answered(loaded, pairs)


def logits(loaded: CrossEncoder, pairs: Sequence[Pair] = PAIRS) -> list[float]:
    return [answer.values[0] for answer in answers(loaded, pairs)]


def plain(folder: Path, dtype: torch.dtype = torch.float32) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype).eval()
    found = []
    for pair in PAIRS:
        encoded = tokenizer(
            [pair.query],  # in lists, because a tokenizer ignores an empty document that is not in a list
            [pair.document],
            truncation="only_second",
            max_length=128,
            split_special_tokens=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found.append(model(**encoded).logits.float().item())
    return found


@pytest.mark.parametrize("budget", [None, 1, 200])
def test_logits_equal_the_plain_loop(folder: Path, budget: int | None) -> None:
    exact = plain(folder)
    loaded = engine(folder, dtype="float32", batch_tokens=budget)
    loaded.check(PAIRS)
    assert max_difference(logits(loaded), exact) < 1e-5
    assert max(exact) - min(exact) > 0.1
    assert [answer.truncated for answer in answers(loaded)] == [len(pair.document) > 1000 for pair in PAIRS]


@pytest.mark.parametrize("wide", [False, True])
def test_bfloat16_logits_are_as_close_to_float32_as_a_plain_loop(
    folder: Path, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lbr_cli.engines.local.computes_wide", lambda device, dtype: wide)
    exact = plain(folder)
    assert max_difference(logits(engine(folder, dtype="bfloat16")), exact) <= 1.5 * max_difference(
        plain(folder, torch.bfloat16), exact
    )


def test_logits_that_are_not_finite_are_recomputed_in_float32(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lbr_cli.engines.local.computes_wide", lambda device, dtype: False)
    loaded = engine(folder, dtype="bfloat16")

    def overflows(module: Any, arguments: Any, output: Any) -> None:
        if module.bert.embeddings.word_embeddings.weight.dtype == torch.bfloat16:
            output.logits[0] = math.nan

    before = logits(loaded)
    loaded.model.register_forward_hook(overflows)
    assert max_difference(logits(loaded), before) < 0.1
    assert max_difference(logits(loaded), plain(folder)) < 0.1


def test_a_query_that_exceeds_the_maximum_length_is_refused(folder: Path) -> None:
    loaded = engine(folder)
    long = Pair("fig " * 130, "x")
    for ask in (lambda: loaded.check([*PAIRS, long]), lambda: list(loaded.answer([[*PAIRS, long]]))):
        with pytest.raises(
            RequestError, match="the prompt has 133 tokens without a document, of at most 128"
        ) as caught:
            ask()
        assert caught.value.request == long


def test_the_command_line_scores_like_the_plain_loop(folder: Path, lbr: Program) -> None:
    lines = "".join(
        json.dumps({"query_id": f"q{number}", "doc_id": "d", "query": pair.query, "text": pair.document}) + "\n"
        for number, pair in enumerate(PAIRS)
    )
    ended = lbr("rerank", "-m", str(folder), "--dtype", "float32", stdin=lines.encode())
    assert ended.code == 0
    assert max_difference([record["score"] for record in ended.records], plain(folder)) < 1e-5
    assert f"{len(PAIRS)} pairs (3 truncated)" in ended.err
    counted = lbr("rerank", "-m", str(folder), "--dry-run", stdin=lines.encode())
    assert counted.code == 0
    assert "; 3 truncated at 128\n" in counted.out


@pytest.mark.parametrize("limit", [4, 5, 6])
def test_very_small_maximum_lengths_are_no_traceback(folder: Path, lbr: Program, limit: int) -> None:
    ended = lbr("rerank", "-m", str(folder), "--max-length", str(limit), stdin=b'{"query":"figs","documents":["a b"]}')
    assert ended.code == (0 if limit == 6 else 2)  # "figs" is two tokens, and three are special
    assert "Traceback" not in ended.err
