"""Half-precision weights, float32 arithmetic: for processors that multiply float32 faster than bfloat16.

Weights stay as they are, half the size of float32. A linear layer turns its own into float32 when it is used, into
one piece of memory that all layers share; that costs a few hundredths of a product with a thousand tokens. All that
runs through the model is float32, so scores are those of the same weights in a float32 run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn

from lbr_cli.engines.local.loading import in_float32
from lbr_cli.engines.local.self_check import TOLERANCE, own_hidden_states, relative_difference
from lbr_cli.errors import MissingError


def widen_checked(model: Any, rows: Sequence[list[int]], *, its_own: bool) -> bool:
    """Widen a model and compare its hidden states of made-up prompts with those of its own code in float32.

    Returns False if they differ or its code fails: then all weights have become float32.
    """
    if its_own:
        widen(model, its_own=True)
        return False
    with in_float32(model):
        expected = own_hidden_states(model, rows)
    widen(model, its_own=False)
    with suppress(MissingError):  # its code cannot run like this
        if relative_difference(own_hidden_states(model, rows), expected) <= TOLERANCE:
            return True
    for module in model.modules():
        vars(module).pop("forward", None)  # what `widen` assigned to linear layers
    model.float()
    return False


def widen(model: Any, *, its_own: bool) -> None:
    """Make a model on the CPU compute in float32, whatever its weights are.

    A model with code of `its_own` may use its weights in ways that cannot be known here: those become float32.
    """
    if its_own:
        model.float()
        return
    for name, module in model.named_modules():
        if name.split(".")[-1] in (model._keep_in_fp32_modules or ()):
            module.float()  # they look at their weights to know what to compute in
    words = model.get_input_embeddings()
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    linear = [module for module in model.modules() if type(module) is nn.Linear and module is not head]
    scratch = torch.empty(max((module.weight.numel() for module in linear), default=0))
    for module in model.modules():
        if type(module) is nn.Linear:
            if module is not head and module.weight.dtype != torch.float32:
                module.forward = partial(_linear, module, scratch)  # type: ignore[method-assign]
                if module.bias is not None:
                    module.bias.data = module.bias.data.float()
        elif module is words:  # other embeddings are small, and some models take their weights as they are
            module.register_forward_hook(lambda module, arguments, output: output.float())
        else:
            for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                if tensor.is_floating_point():
                    tensor.data = tensor.data.float()


def _linear(module: nn.Linear, scratch: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    weight = scratch[: module.weight.numel()].view(module.weight.shape)
    return nn.functional.linear(inputs, weight.copy_(module.weight), module.bias)
