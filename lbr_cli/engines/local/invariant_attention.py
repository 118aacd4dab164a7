"""Attention whose values do not depend on the batch, for models that compute in int8.

The order of the sums in a kernel depends on the shape of its batch, so float32 attention differs by about 1e-7 from
batch to batch. That changes the rounding of some activations to int8, and by the last layer the score in its third
digit. So an encoder's sequences are computed one by one, without padding. Causal attention in padded batches is
computed in float64 and rounded to float32, which gives the same values in any order of the sums, except for about one
in 1e8. That of packed prompts does not depend on the batch anyway (`block_attention.py`).
"""

from __future__ import annotations

from typing import Any

import torch

SUFFIX = "_invariant"


def make_attention_invariant(model: Any) -> None:
    """Replace the attention function of a model. Attention in the model's own code stays as it is."""
    # both modules import torch's compiler
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = model.config._attn_implementation
    functions, masks = ALL_ATTENTION_FUNCTIONS, ALL_MASK_ATTENTION_FUNCTIONS
    if name not in functions or name.endswith(SUFFIX):
        return
    attention = functions[name]

    def invariant(
        module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
    ) -> tuple[torch.Tensor, Any]:
        """Return [rows, tokens, heads, size] for [rows, heads, tokens, size] each, as functions of transformers do."""
        if (lengths := _lengths(module, query, key, mask, options)) is None:
            wide = {name: _double(option) for name, option in options.items()}
            return attention(module, *map(_double, (query, key, value, mask)), **wide)[0].float(), None
        output = query.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[3])
        for row, length in enumerate(lengths):
            parts = (part[row : row + 1, :, :length] for part in (query, key, value))
            output[row, :length] = attention(module, *parts, None, **options)[0][0]
        return output, None

    functions.register(name + SUFFIX, invariant)
    if name in masks:
        masks.register(name + SUFFIX, masks[name])
    model.set_attn_implementation(name + SUFFIX)


def _lengths(
    module: Any, query: torch.Tensor, key: torch.Tensor, mask: Any, options: dict[str, Any]
) -> list[int] | None:
    """Return the length of each row if its tokens attend to each other and to nothing else, else None."""
    is_causal = options.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    has_tensors = any(torch.is_tensor(option) for option in options.values())  # such as a bias of relative positions
    if is_causal or has_tensors or query.shape[2] != key.shape[2]:
        return None
    if mask is None:
        return [query.shape[2]] * len(query)
    if not torch.is_tensor(mask) or mask.dtype != torch.bool or mask.shape[1] != 1:
        return None
    attended = mask[:, 0, 0]
    lengths = attended.sum(-1)
    padded = torch.arange(key.shape[2]) < lengths[:, None]
    is_padding = torch.equal(attended, padded) and bool((mask[:, 0] == attended[:, None]).all())
    return lengths.expand(len(query)).tolist() if is_padding and bool((lengths > 0).all()) else None


def _double(value: Any) -> Any:
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value
