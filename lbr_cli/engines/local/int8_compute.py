"""Linear layers with int8 weights and int8 activations; everything else computes in float32.

The linear layers inside a model's stacks of layers are replaced. Embeddings, norms, attention, poolers and heads stay
as they are. Inputs and weights are rotated (`rotation.py`), rounded to int8 and multiplied (`int8_kernel.py`).
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from lbr_cli.engines.local.int8_kernel import HINT, Int8Kernel, Int8Weight, QuantizedRows, int8_kernel
from lbr_cli.engines.local.rotation import rotate
from lbr_cli.engines.local.self_check import own_hidden_states, relative_difference
from lbr_cli.errors import MissingError

TOLERANCE = 0.5  # relative; quantisation changes hidden states by a few hundredths, other code by more than their norm
TOKENS = 1024  # of the products that `measure_speed` times
REPETITIONS = 5
BLOCK = 1 << 18  # values that are quantised together: 1 MB of float32, for the second-level caches of two cores


class LastInput:
    """Rotates and quantises inputs of a model's layers. Layers that read one tensor in succession share the result."""

    def __init__(self, kernel: Int8Kernel) -> None:
        self.kernel = kernel
        self.shared = True
        self._input: Callable[[], torch.Tensor | None] = lambda: None
        self._rows: QuantizedRows

    def quantized(self, inputs: torch.Tensor) -> QuantizedRows:
        """Return the rows of inputs, [..., size], float32."""
        if not self.shared or self._input() is not inputs:
            rows = inputs.reshape(-1, inputs.shape[-1])
            blocks = torch.split(rows, max(BLOCK // rows.shape[1], 1))  # each is read several times, from the cache
            values, scales = zip(*(self.kernel.quantize(rotate(block)) for block in blocks), strict=True)
            self._rows = QuantizedRows(torch.cat(values), torch.cat(scales))
            self._input = weakref.ref(inputs)
        return self._rows


class Int8Linear(nn.Module):
    """A linear layer that computes in int8. It has no `weight`, so code that reads one fails."""

    def __init__(self, linear: nn.Linear, last_input: LastInput) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.data.float(), requires_grad=False)
        self._weight = Int8Weight(rotate(linear.weight.detach().float()))
        self._last_input = last_input

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return [..., out_features] for [..., in_features], both float32."""
        rows = self._last_input.quantized(inputs)
        product = self._weight.product(rows, self._last_input.kernel)
        if self.bias is None:
            product *= rows.scales
        else:
            torch.addcmul(self.bias, product, rows.scales, out=product)
        return product.view(*inputs.shape[:-1], self.out_features)


class Speed(NamedTuple):
    """Billions of multiplications and additions per second, in linear layers of the sizes of a model."""

    int8: float
    float32: float


@torch.inference_mode()
def compute_in_int8(model: Any, prompts: Sequence[list[int]]) -> None:
    """Make the layers of a float32 model on the CPU compute in int8, one by one to save memory.

    Raises MissingError if the model has no such layers, if its code reads their weights, or if its hidden states of
    made-up prompts are no longer those of float32.
    """
    expected = own_hidden_states(model, prompts)
    last_input = LastInput(int8_kernel())
    linear_layers = list(_linear_layers(model))
    if not linear_layers:
        raise MissingError(f"--dtype int8: unsupported model: a {type(model).__name__} has no linear layers", hint=HINT)
    for parent, name in linear_layers:
        setattr(parent, name, Int8Linear(getattr(parent, name), last_input))
    states = own_hidden_states(model, prompts)
    last_input.shared = False
    unshared = own_hidden_states(model, prompts)
    last_input.shared = True
    if not torch.equal(states, unshared):
        what = f"a {type(model).__name__} changes the inputs of its layers in place"
        raise MissingError(f"--dtype int8: unsupported model: {what}", hint=HINT)
    difference = relative_difference(states, expected)
    if not difference <= TOLERANCE:
        what = f"hidden states of a {type(model).__name__} differ by {difference:.2g} of their norm from float32"
        raise MissingError(f"--dtype int8: unsupported model: {what}", hint=HINT)


def measure_speed(model: Any) -> Speed:
    """Return the speed of the products of a model that computes in int8, and of the same products in float32."""
    shapes: Counter[tuple[int, int]] = Counter()
    for module in model.modules():
        if isinstance(module, Int8Linear):
            shapes[module.in_features, module.out_features] += 1
    last_input = LastInput(int8_kernel())
    operations, int8_seconds, float32_seconds = 0.0, 0.0, 0.0
    for (inputs, outputs), count in shapes.items():
        linear = nn.Linear(inputs, outputs, bias=False)
        rows = torch.randn(TOKENS, inputs)
        operations += count * 2 * TOKENS * inputs * outputs
        last_input.shared = False
        int8_seconds += count * _seconds(Int8Linear(linear, last_input), rows)
        float32_seconds += count * _seconds(linear, rows)
    return Speed(operations / int8_seconds / 1e9, operations / float32_seconds / 1e9)


@torch.inference_mode()
def _seconds(layer: nn.Module, rows: torch.Tensor) -> float:
    """Return the shortest time of a layer in several calls, in seconds."""
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        layer(rows)
        times.append(time.perf_counter() - start)
    return min(times)


def _linear_layers(model: Any) -> Iterator[tuple[nn.Module, str]]:
    """Yield the parent and the name of each linear layer in a stack of layers, except layers to keep in float32."""
    kept = {*(getattr(model, "_keep_in_fp32_modules", None) or ())}
    stacks = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    seen = set()
    for parent in (parent for stack in stacks for parent in stack.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear and name not in kept and (id(parent), name) not in seen:
                seen.add((id(parent), name))
                yield parent, name
