"""The engine on this machine: transformers and torch, on a CPU, CUDA or MPS device."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from lbr_cli.core import Embedding, Engine, Family, NextToken
from lbr_cli.engines import Settings
from lbr_cli.engines.local.causal import Causal
from lbr_cli.engines.local.devices import choose_device, choose_dtype, default_budget, dtype_name
from lbr_cli.engines.local.encoder import MeanEncoder
from lbr_cli.engines.local.loading import load_model, load_tokenizer, longest_input
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.models import Model


def load(model: Model | None, family: Family, settings: Settings) -> Engine:
    """The engine for a family's requests, with the weights of `model.folder`."""
    if model is None or model.folder is None:
        raise ValueError("the local engine needs a model that has been fetched")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    budget = settings.batch_tokens or default_budget(device)
    setting = f"{device}, {dtype_name(dtype)}"
    tokenizer = load_tokenizer(model.folder)
    limit = longest_input(tokenizer, transformers.AutoConfig.from_pretrained(model.folder, local_files_only=True))
    max_length = settings.max_length or min(model.max_length or limit, limit)
    if max_length > limit:
        raise UsageError(f"--max-length {max_length}: {model.name} reads {limit} tokens at most")
    if family.asks is NextToken:
        if not tokenizer.chat_template:
            raise MissingError(f"{model.folder}: its tokenizer has no chat template, and {family.name} needs one")
        causal = load_model(transformers.AutoModelForCausalLM, model.folder, device, dtype)
        return Causal(causal, tokenizer, max_length, budget, model.name, setting)
    if family.asks is Embedding:
        _check_pooling(model.folder)
        encoder = load_model(transformers.AutoModel, model.folder, device, dtype)
        return MeanEncoder(encoder, tokenizer, max_length, budget, setting)
    raise ValueError(f"no local engine answers {family.asks.__name__} requests")


def _check_pooling(folder: Path) -> None:
    """Refuse a sentence-transformers folder that pools otherwise than by the mean over its tokens."""
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        raise MissingError(f"{folder}: no 1_Pooling/config.json, so how its vectors are made is not known")
    pooling = json.loads(path.read_text(encoding="utf-8"))
    modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    if modes != ["pooling_mode_mean_tokens"]:
        raise MissingError(f"{folder}: pools by {', '.join(modes) or 'nothing'}, and lbr by the mean over tokens")
