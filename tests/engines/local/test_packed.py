"""Packed prompts against the same prompts read one by one by transformers' own forward pass."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from lbr_cli.core import Embedding, Request
from lbr_cli.engines import Settings, prepare_engine
from lbr_cli.engines.local.batching import TokenBudget
from lbr_cli.engines.local.packed import Packed, reason_not_packable
from lbr_cli.engines.local.padded import Padded
from lbr_cli.engines.local.prompt_engine import PromptEngine
from lbr_cli.engines.prompts import Prompt
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import LbRev
from lbr_cli.models import resolve
from support.engines import answered, ask, load
from support.plain_loop import PAIRS, engine, max_difference, plain_scores, scores

TINY: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
}
PACKED: list[Any] = [
    Qwen2Config(**TINY),
    Qwen3Config(**TINY),
    LlamaConfig(**TINY),
    LlamaConfig(**TINY, tie_word_embeddings=True, attention_bias=True),
    GemmaConfig(**TINY),
    MistralConfig(**TINY, sliding_window=None),
]
PADDED: list[tuple[Any, str]] = [
    (MistralConfig(**TINY, sliding_window=16), "a sliding window"),
    (Qwen2Config(**TINY, use_sliding_window=True, sliding_window=16, max_window_layers=1), "sliding_attention layers"),
    (Gemma2Config(**TINY, sliding_window=16), "sliding_attention layers"),
    (Gemma2Config(**TINY, layer_types=["full_attention"] * 3), "capped attention"),
    (
        LlamaConfig(**TINY, rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}),
        "dynamic position embeddings",
    ),
]


def made(config: Any) -> Any:
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(copy.deepcopy(config), dtype=torch.float32).eval().requires_grad_(False)


@torch.inference_mode()
def one_by_one(model: Any, rows: list[list[int]]) -> torch.Tensor:
    return torch.cat([model.base_model(input_ids=torch.tensor([row])).last_hidden_state[:, -1] for row in rows])


@torch.inference_mode()
def read(backbone: Packed | Padded, rows: list[list[int]], keys: list[Any], budget: int) -> torch.Tensor:
    """Return the hidden states of rows, in their order."""
    prompts = [Prompt(Embedding(str(number)), row, False) for number, row in enumerate(rows)]
    found: dict[Request, torch.Tensor] = {}
    for batch, _, hidden in backbone.read(prompts, keys, TokenBudget(budget)):
        found |= {prompt.request: state for prompt, state in zip(batch, hidden, strict=True)}
    return torch.stack([found[prompt.request] for prompt in prompts])


def prompts() -> tuple[list[list[int]], list[str]]:
    """Return the prompts of three groups, one with a single prompt, of 1 to 900 tokens."""
    torch.manual_seed(2)
    rows, groups = [], []
    for group, prefix, lengths in (("a", 40, (1, 1, 7, 8, 9, 300, 900)), ("b", 3, (5,)), ("c", 0, (2, 30))):
        shared = torch.randint(0, 64, (prefix,)).tolist()
        for length in lengths:
            rows.append(shared + torch.randint(0, 64, (length,)).tolist())
            groups.append(group)
    return rows, groups


@pytest.mark.parametrize("config", PACKED, ids=lambda config: config.model_type)
@pytest.mark.parametrize("budget", [1, 100, 5000])
def test_packed_hidden_states_equal_those_of_single_prompts(config: Any, budget: int) -> None:
    model = made(config)
    rows, groups = prompts()
    plain = one_by_one(model, rows)
    assert reason_not_packable(model) == ""
    packed = Packed(model)
    assert (read(packed, rows, groups, budget) - plain).abs().max() < 1e-4


@pytest.mark.parametrize(("config", "reason"), PADDED, ids=lambda value: getattr(value, "model_type", value))
def test_models_that_cannot_be_packed_are_detected_and_padded(config: Any, reason: str) -> None:
    rows, groups = prompts()
    model = made(config)
    if getattr(config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")
    plain = one_by_one(model, rows)
    assert reason_not_packable(model) == reason
    assert (read(Padded(made(config), reason), rows, groups, 5000) - plain).abs().max() < 1e-4


MODEL = made(Qwen2Config(**TINY))
PLAIN = made(Qwen2Config(**TINY))
READER = Packed(MODEL)
TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=12)  # few token ids, so that prompts often share a prefix


@settings(max_examples=60)
@given(st.lists(st.lists(TOKENS, min_size=1, max_size=5), min_size=1, max_size=4), st.integers(1, 60))
def test_shared_prefixes_do_not_change_hidden_states(groups: list[list[list[int]]], budget: int) -> None:
    rows = [row for group in groups for row in group]
    keys = [number for number, group in enumerate(groups) for _ in group]
    assert (read(READER, rows, keys, budget) - one_by_one(PLAIN, rows)).abs().max() < 1e-4


def read_tokens(model: Any) -> list[int]:
    """Return a list that grows by the number of tokens of each row that the model reads."""
    sizes: list[int] = []
    model.base_model.register_forward_pre_hook(
        lambda module, arguments, options: sizes.append(options["input_ids"].numel()), with_kwargs=True
    )
    return sizes


def test_a_prefix_is_read_once_for_all_batches_of_its_group() -> None:
    model = made(Qwen2Config(**TINY))
    reader = Packed(model)
    sizes = read_tokens(model)
    rows = [[*range(40), number, 1, 2] for number in range(20)]
    read(reader, rows, ["q"] * 20, 12)
    assert sum(sizes) == 40 + 20 * 3
    assert len(sizes) > 4


def test_only_the_last_tokens_go_through_the_last_layer() -> None:
    model = made(Qwen2Config(**TINY))
    reader = Packed(model)
    sizes: list[int] = []
    model.base_model.layers[-1].layer.mlp.register_forward_pre_hook(
        lambda module, inputs: sizes.append(inputs[0].shape[1])
    )
    rows, groups = prompts()
    read(reader, rows, groups, 5000)
    assert sizes == [len(rows)]


def rev_engine(folder: Path, **options: Any) -> PromptEngine:
    loaded = load(resolve(str(folder), "lb-rev"), Settings(dtype="float32", **options))
    assert isinstance(loaded, PromptEngine)
    return loaded


def test_a_document_prefix_is_read_once_for_all_queries(chat_model: Path) -> None:
    requests = [ask(LbRev(), *pair)[0] for pair in PAIRS]
    loaded = rev_engine(chat_model)
    plain = [answered(loaded, [request])[0] for request in requests]
    sizes = read_tokens(loaded.model)
    for request in requests:
        answered(loaded, [request])
    alone = sum(sizes)
    sizes.clear()
    found = answered(loaded, requests)
    assert sum(sizes) < 0.6 * alone
    assert (
        max_difference([LbRev().score([one]).value for one in found], [LbRev().score([one]).value for one in plain])
        < 1e-6
    )
    once = sum(sizes)
    (batch,) = loaded.answer([requests])
    assert batch.tokens == once


@pytest.mark.slow  # runs the C++ compiler
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler")
def test_a_compiled_model_scores_like_the_plain_loop(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LBR_COMPILE", "on")
    loaded = engine(chat_model, dtype="float32")
    assert loaded.description == "cpu, float32, compiled"
    assert max_difference(scores(loaded), plain_scores(chat_model, torch.float32)) < 1e-5


@pytest.mark.parametrize(
    ("mode", "dtype", "pairs"), [("off", "bfloat16", 10_000), ("auto", "float32", 10_000), ("auto", "bfloat16", 10)]
)
def test_small_jobs_and_float32_are_not_compiled(
    mode: str, dtype: str, pairs: int, chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LBR_COMPILE", mode)
    for module in ("lbr_cli.engines.local", "lbr_cli.engines.local.devices"):
        monkeypatch.setattr(f"{module}.computes_wide", lambda device, dtype: False)
    loaded = prepare_engine("local", resolve(str(chat_model), "lb"), Settings(dtype=dtype)).load(pairs)
    assert loaded.description == f"cpu, {dtype}"


def test_a_missing_compiler_is_an_error(chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("LBR_COMPILE", "on")
    message = r"LBR_COMPILE=on: no working compiler: neither g\+\+ nor clang\+\+ is installed"
    with pytest.raises(MissingError, match=message):
        engine(chat_model)
    monkeypatch.setenv("LBR_COMPILE", "yes")
    with pytest.raises(UsageError, match="LBR_COMPILE=yes: has to be auto, on or off"):
        engine(chat_model)


def test_prompts_with_different_rope_factors_are_not_batched() -> None:
    rope = {"rope_type": "longrope", "short_factor": [1.0, 1.2, 1.4, 2.0], "long_factor": [2.0, 4.0, 8.0, 16.0]}
    more = {"rope_theta": 10000.0, "original_max_position_embeddings": 100, "factor": 9.0}
    config = Phi3Config(**TINY | {"num_key_value_heads": 4, "pad_token_id": 0}, rope_parameters=rope | more)
    rows, groups = prompts()
    model = made(config)
    plain = one_by_one(model, rows)
    assert reason_not_packable(model) == "longrope position embeddings"
    found = read(Padded(made(config), "longrope"), rows, groups, 50_000)
    assert (found - plain).abs().max() < 1e-4
