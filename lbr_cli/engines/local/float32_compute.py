"""Half-precision weights, float32 arithmetic: for processors that multiply float32 faster than bfloat16.

Weights stay in half precision. A linear layer converts its weights to float32 when it is used, into one piece of memory
that all layers share; that costs a few hundredths of a product with a thousand tokens. All activations are float32, so
scores are those of the same weights in a float32 run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from lbr_cli.engines.local.loading import in_float32
from lbr_cli.engines.local.self_check import TOLERANCE, own_hidden_states, relative_difference
from lbr_cli.errors import MissingError


class Float32Linear(nn.Module):
    """A linear layer with half-precision weights that computes in float32; `scratch` has room for its weights."""

    def __init__(self, linear: nn.Linear, scratch: torch.Tensor) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.data.float(), requires_grad=False)
        self._scratch = scratch[: linear.weight.numel()].view(linear.weight.shape)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return [..., out_features] for [..., in_features], both float32."""
        return nn.functional.linear(inputs, self._scratch.copy_(self.weight), self.bias)


def compute_in_float32(model: Any, prompts: Sequence[list[int]], *, own_code: bool) -> bool:
    """Make a model on the CPU compute in float32, whatever its weights are.

    Its hidden states of made-up prompts are compared with those of its own code in float32. Return False if they
    differ, if that code fails, or if the model has its own code (`own_code`), which may use weights in unknown ways:
    then all weights have become float32.
    """
    if own_code:
        model.float()
        return False
    with in_float32(model):
        expected = own_hidden_states(model, prompts)
    replaced = _replace_layers(model)
    with suppress(MissingError):  # the model's code fails with the replaced layers
        if relative_difference(own_hidden_states(model, prompts), expected) <= TOLERANCE:
            return True
    for parent, name, linear in replaced:
        setattr(parent, name, linear)
    model.float()
    return False


def _replace_layers(model: Any) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Replace linear layers, and convert all small tensors. Return each layer with its parent and its name."""
    for name, module in model.named_modules():
        if name.split(".")[-1] in (model._keep_in_fp32_modules or ()):
            module.float()  # the code of these modules reads the precision of their weights
    embeddings = model.get_input_embeddings()
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    linear = [module for module in model.modules() if type(module) is nn.Linear and module is not head]
    scratch = torch.empty(max((module.weight.numel() for module in linear), default=0))
    replaced = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child is not head and child.weight.dtype != torch.float32:
                setattr(parent, name, Float32Linear(child, scratch))
                replaced.append((parent, name, child))
    for module in model.modules():
        if module is embeddings:  # other embeddings are small, and some models read their weights directly
            module.register_forward_hook(lambda module, arguments, output: output.float())
        elif type(module) not in (nn.Linear, Float32Linear):
            for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                if tensor.is_floating_point():
                    tensor.data = tensor.data.float()
    return replaced
