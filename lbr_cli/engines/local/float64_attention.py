"""Attention in float64, for models that compute in int8.

The order of the sums in a kernel depends on the shape of its batch, so float32 attention differs by about 1e-7 from
batch to batch. That changes the rounding of some activations to int8, and by the last layer the score in its third
digit. Sums in float64, rounded to float32, are the same in any order, except about once in 1e8 values.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

SUFFIX = "_float64"


def attend_in_float64(model: Any) -> None:
    """Make a model compute its current attention in float64. Attention of its own code stays as it is."""
    name = model.config._attn_implementation
    functions, masks = ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS
    if name not in functions or name.endswith(SUFFIX):
        return
    attention = functions[name]

    def wide(module: Any, *arguments: Any, **options: Any) -> tuple[torch.Tensor, Any]:
        output, weights = attention(module, *map(_double, arguments), **{key: _double(options[key]) for key in options})
        return output.float(), weights

    functions.register(name + SUFFIX, wide)
    if name in masks:
        masks.register(name + SUFFIX, masks[name])
    model.set_attn_implementation(name + SUFFIX)


def _double(value: Any) -> Any:
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value
