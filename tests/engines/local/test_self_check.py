"""Fast paths that replace code of a model are compared with that code when the model is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from lbr_cli.engines.local.float32_compute import Float32Linear
from lbr_cli.engines.local.packed import Packed
from lbr_cli.engines.local.self_check import made_up_prompts
from lbr_cli.errors import MissingError
from support import checkpoints
from support.plain_loop import PAIRS, engine, max_difference, plain_scores, scores
from support.tokenizers import chat_tokenizer

SOME_PAIRS = PAIRS[::5]


def causal(folder: Path, name: str) -> Path:
    sizes = {
        key: value for key, value in checkpoints.SIZES.items() if key not in ("head_dim", "max_position_embeddings")
    }
    config = getattr(transformers, f"{name}Config")(**sizes, max_position_embeddings=1024)
    return checkpoints.saved(folder, f"{name}ForCausalLM", config, chat_tokenizer())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DiffLlama", r"custom attention \(hidden states differ by [\d.]+ of their norm when packed\)"),
        ("Nemotron", r"custom attention \(it fails: .+ when packed\)"),
    ],
)
def test_an_architecture_with_different_packed_scores_is_padded(name: str, reason: str, tmp_path: Path) -> None:
    folder = causal(tmp_path / "tiny", name)
    loaded = engine(folder, device="cpu", dtype="float32")
    assert max_difference(scores(loaded, SOME_PAIRS), plain_scores(folder, torch.float32, SOME_PAIRS)) < 1e-5
    assert re.fullmatch(f"cpu, float32, padded for {reason}", loaded.description)
    assert re.fullmatch(f"padded batches of similar lengths, for {reason}", loaded.attention)


def test_wrong_packed_attention_is_not_used(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model gets its own attention and its own last layer back."""
    read = Packed.read

    def wrong(self: Packed, *arguments: Any) -> Any:
        for batch, tokens, hidden in read(self, *arguments):
            yield batch, tokens, hidden * 1.01

    monkeypatch.setattr(Packed, "read", wrong)
    loaded = engine(chat_model, device="cpu", dtype="float32")
    assert "padded for custom attention (hidden states differ by 0.01 of their norm when packed)" in loaded.description
    assert max_difference(scores(loaded), plain_scores(chat_model, torch.float32)) < 1e-5


def test_a_model_that_fails_packed_and_padded_is_refused(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lbr_cli.engines.local.own_hidden_states", lambda model, rows: torch.ones(len(rows), 32))
    with pytest.raises(
        MissingError, match="a Qwen2ForCausalLM cannot be read in padded batches: hidden states differ by"
    ):
        engine(chat_model, device="cpu", dtype="float32")


@pytest.mark.parametrize("problem", ["wrong", "fails"])
def test_wrong_float32_arithmetic_is_not_used(problem: str, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights become float32, and the model's own code computes."""

    def forward(self: Float32Linear, inputs: torch.Tensor) -> torch.Tensor:
        if problem == "fails":
            raise TypeError("no such layer")
        return torch.nn.functional.linear(inputs, self.weight.float() * 1.5)

    monkeypatch.setattr("lbr_cli.engines.local.computes_wide", lambda device, dtype: True)
    usual = engine(chat_model, device="cpu", dtype="bfloat16")
    assert "converted" not in usual.description
    expected = scores(usual)
    monkeypatch.setattr(Float32Linear, "forward", forward)
    loaded = engine(chat_model, device="cpu", dtype="bfloat16")
    assert "weights converted to float32" in loaded.description
    assert max_difference(scores(loaded), expected) < 1e-5


def test_made_up_prompts_share_a_prefix_and_fit_the_model(chat_model: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_model)
    model = transformers.AutoModelForCausalLM.from_pretrained(chat_model)
    for longest in (1, 2, 3, 9, 512):
        one, other = made_up_prompts(tokenizer, model, longest)
        assert 1 <= len(one) <= longest
        assert 1 <= len(other) <= longest
        assert not set(one + other) & set(tokenizer.all_special_ids)
    assert one[:8] == other[:8]
    assert one[8:] != other[8:11]
    assert (len(one), len(other)) == (11, 14)
