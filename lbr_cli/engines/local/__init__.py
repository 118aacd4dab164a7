"""The engine on this machine: transformers and torch, on a CPU, CUDA or MPS device."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers

from lbr_cli.core import Embedding, Engine, Family, NextToken, Pair, Request
from lbr_cli.engines import Settings
from lbr_cli.engines.local.causal import Causal, prompt_for
from lbr_cli.engines.local.compiling import Compiling
from lbr_cli.engines.local.cross_encoder import CrossEncoder, check_room, encode
from lbr_cli.engines.local.devices import (
    choose_budget,
    choose_device,
    choose_dtype,
    computes_wide,
    dtype_name,
    keep_freed_memory,
)
from lbr_cli.engines.local.encoder import MeanEncoder
from lbr_cli.engines.local.loading import load_config, load_model, load_tokenizer, longest_input
from lbr_cli.engines.local.plan import Budget
from lbr_cli.engines.local.prompts import Chat
from lbr_cli.engines.local.widen import widen
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.models import Model

KINDS = {
    NextToken: transformers.AutoModelForCausalLM,
    Pair: transformers.AutoModelForSequenceClassification,
    Embedding: transformers.AutoModel,
}


def load(model: Model | None, family: Family, settings: Settings) -> Engine:
    """The engine for a family's requests, with the weights of `model.folder`."""
    if model is None or model.folder is None:
        raise ValueError("the local engine needs a model that has been fetched")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    if device.type == "cpu":
        keep_freed_memory()
    tokenizer, max_length = _tokenizer(model, model.folder, family, settings)
    if family.asks is Embedding:
        _check_pooling(model.folder)
    weights = load_model(KINDS[family.asks], model.folder, device, dtype)
    wide = computes_wide(device, dtype)
    if wide:
        widen(weights)
    budget = Budget(1 if settings.plain else settings.batch_tokens or choose_budget(device, weights.config))
    setting = f"{device}, {dtype_name(dtype)}{' computed in float32' if wide else ''}"
    if family.asks is NextToken:
        chat = Chat(tokenizer, max_length, model.name)
        compiling = Compiling(torch.float32 if wide else dtype)
        return Causal(weights, chat, budget, compiling, setting, plain=settings.plain)
    if family.asks is Pair:
        return CrossEncoder(weights, tokenizer, max_length, budget, setting)
    if family.asks is Embedding:
        return MeanEncoder(weights, tokenizer, max_length, budget, setting)
    raise ValueError(f"no local engine answers {family.asks.__name__} requests")


def attention(engine: Engine) -> str:
    """How an engine of this room lets tokens see each other, in a few words."""
    if not isinstance(engine, Causal):
        return "padded batches of similar lengths, masked"
    if engine.padded_because:
        return f"padded batches of similar lengths, for {engine.padded_because}"
    return "packed without padding, prefixes shared"


def measure(
    model: Model, family: Family, settings: Settings, requests: Iterable[Request]
) -> tuple[list[int], int, int]:
    """How long the distinct texts of `requests` are in tokens, how many would be truncated, and at which length.

    Needs the model's tokenizer and not its weights. Raises RequestError for a request that cannot be answered.
    """
    if model.folder is None:
        raise ValueError("only a model on this machine can be measured for")
    choose_dtype(settings.dtype, choose_device(settings.device))  # refuses what is not here
    tokenizer, max_length = _tokenizer(model, model.folder, family, settings)
    chat = Chat(tokenizer, max_length, model.name) if family.asks is NextToken else None
    measured: dict[Request, tuple[int, bool]] = {}
    for place, request in enumerate(requests):
        if request in measured:
            continue
        if isinstance(request, Embedding):
            length = len(tokenizer(request.text, split_special_tokens=True, verbose=False)["input_ids"])
            measured[request] = min(length, max_length), length > max_length
        elif isinstance(request, Pair):
            check_room(tokenizer, max_length, request.query, place)
            encoded = encode(tokenizer, max_length, [request])
            measured[request] = len(encoded["input_ids"][0]), bool(encoded.encodings[0].overflowing)
        elif chat is not None:
            prompt = prompt_for(chat, request, place)
            measured[request] = len(prompt.ids), prompt.truncated
    lengths = [length for length, _ in measured.values()]
    return lengths, sum(truncated for _, truncated in measured.values()), max_length


def _tokenizer(model: Model, folder: Path, family: Family, settings: Settings) -> tuple[Any, int]:
    """The tokenizer, and how many tokens a text may have."""
    tokenizer = load_tokenizer(folder)
    limit = longest_input(tokenizer, load_config(folder))
    max_length = settings.max_length or min(model.max_length or limit, limit)
    if max_length > limit:
        raise UsageError(f"--max-length {max_length}: {model.name} reads {limit} tokens at most")
    least = tokenizer.num_special_tokens_to_add(pair=family.asks is Pair) + 1
    if max_length < least:
        raise UsageError(f"--max-length {max_length}: {model.name} needs {least} tokens to read anything")
    if family.asks is NextToken and not tokenizer.chat_template:
        raise MissingError(f"{folder}: its tokenizer has no chat template, and {family.name} needs one")
    return tokenizer, max_length


def _check_pooling(folder: Path) -> None:
    """Refuse a sentence-transformers folder that pools otherwise than by the mean over its tokens."""
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        raise MissingError(f"{folder}: no 1_Pooling/config.json, so how its vectors are made is not known")
    pooling = json.loads(path.read_text(encoding="utf-8"))
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    if modes != ["pooling_mode_mean_tokens"]:
        raise MissingError(f"{folder}: pools by {', '.join(modes) or 'nothing'}, and lbr by the mean over tokens")
