"""Compile the operations between the matrix products, for jobs that are long enough to repay the compiler.

The parts of a layer that work token by token (norms, MLP) are compiled once for all layers; torch keeps the result on
disk for the next run (`TORCHINDUCTOR_CACHE_DIR`). Attention is not compiled.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lbr_cli.engines.local.int8_compute import Int8Linear
from lbr_cli.errors import MissingError, UsageError, first_line

MIN_PAIRS = 5000  # `auto` compiles for jobs of at least this many pairs


def compile_layers(model: Any, layers: Sequence[nn.Module], dtype: torch.dtype, pairs: int) -> bool:
    """Compile the layers of a packed model that computes in `dtype`, if it speeds up a job of `pairs` pairs.

    `LBR_COMPILE` is `on`, `off`, or `auto`, which compiles for a CPU that computes in bfloat16, the only case with a
    measured gain. Return whether the layers are compiled. Raises UsageError for another value, and MissingError if they
    cannot be compiled with `on`.
    """
    mode = os.environ.get("LBR_COMPILE") or "auto"
    if mode not in ("auto", "on", "off"):
        raise UsageError(f"LBR_COMPILE={mode}: has to be auto, on or off")
    if any(isinstance(module, Int8Linear) for module in model.modules()):
        if mode == "on":
            raise UsageError("LBR_COMPILE=on: unsupported with --dtype int8", hint="set LBR_COMPILE=off")
        return False
    is_faster = model.device.type == "cpu" and dtype == torch.bfloat16 and pairs >= MIN_PAIRS
    if mode == "off" or (mode == "auto" and not is_faster):
        return False
    problem = _compile(model, layers, dtype)
    if problem and mode == "on":
        hint = "install a compiler, or set LBR_COMPILE=off"
        raise MissingError(f"LBR_COMPILE=on: no working compiler: {problem}", hint=hint)
    return not problem


@torch.inference_mode()
def _compile(model: Any, layers: Sequence[nn.Module], dtype: torch.dtype) -> str:
    """Compile the layers; return the reason if that fails, else ""."""
    if model.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++"))):
        return "neither g++ nor clang++ is installed"
    parts = [part for layer in layers for name, part in layer.named_children() if name != "self_attn"]
    for part in parts:
        part.compile(dynamic=True)
    try:
        for part in parts[: len(parts) // len(layers)]:
            part(torch.zeros(1, 8, model.config.hidden_size, dtype=dtype, device=model.device))
    except RuntimeError as error:
        for part in parts:
            part._compiled_call_impl = None  # as before `compile`
        return first_line(error)
    return ""
