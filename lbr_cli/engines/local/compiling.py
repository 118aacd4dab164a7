"""Fusing what lies between the matrix products, for jobs long enough to repay the compiler.

The parts of a layer that work token by token (norms, MLP) are compiled once for all layers; torch keeps the result on
disk for the next run (`TORCHINDUCTOR_CACHE_DIR` says where). Attention stays as it is.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any

import torch

from lbr_cli.errors import MissingError, UsageError

REPAID = 5000  # pairs: from here on `auto` compiles


@dataclass(slots=True)
class Compiling:
    """Whether to compile, by `LBR_COMPILE`: `on`, `off`, or `auto`: where a CPU computes in bfloat16, the case seen to
    gain by it.

    `model` is one that is read packed, `dtype` what it computes in.
    """

    model: Any
    dtype: torch.dtype
    done: bool = False

    def expect(self, pairs: int) -> None:
        """Compile the parts of a packed model if so many pairs repay it. MissingError where `on` cannot."""
        mode = os.environ.get("LBR_COMPILE") or "auto"
        if mode not in ("auto", "on", "off"):
            raise UsageError(f"LBR_COMPILE={mode}: it is auto, on or off")
        helps = self.model.device.type == "cpu" and self.dtype == torch.bfloat16
        if self.done or not (mode == "on" or (mode == "auto" and helps and pairs >= REPAID)):
            return
        problem = self._compile()
        self.done = not problem
        if problem and mode == "on":
            hint = "install one, or set LBR_COMPILE=off"
            raise MissingError(f"LBR_COMPILE=on: no working compiler: {problem}", hint=hint)

    @torch.inference_mode()
    def _compile(self) -> str:
        """Why it was not possible, or ""."""
        model = self.model
        if model.device.type == "cpu" and not any(map(shutil.which, ("g++", "clang++"))):
            return "neither g++ nor clang++ is here"
        layers = model.base_model.layers
        parts = [part for layer in layers for name, part in layer.named_children() if name != "self_attn"]
        for part in parts:
            part.compile(dynamic=True)
        try:
            for part in parts[: len(parts) // len(layers)]:
                part(torch.zeros(1, 8, model.config.hidden_size, dtype=self.dtype, device=model.device))
        except RuntimeError as error:
            for part in parts:
                part._compiled_call_impl = None  # as it was before `compile`
            return str(error).splitlines()[0]
        return ""
