"""Plain causal models: prompts packed end to end in one row, without padding, after a shared prefix.

The common beginning of a group of prompts (the system message and the query or, if documents come first, the document)
is read once. A prompt's own tokens attend to that prefix and to each other. Projections, norms and MLP compute one long
row; only attention depends on which token attends to which (`packing.py`, `packed_attention.py`). The last layer
computes keys and values of all tokens, and everything else only for the last token of each prompt.

Scores are those of prompts read one by one: every token attends to the same keys at the same positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import nn

from lbr_cli.engines.local.batching import TokenBudget, batches
from lbr_cli.engines.local.loading import recompute_nonfinite
from lbr_cli.engines.local.packed_attention import PackedAttention, Prefix
from lbr_cli.engines.local.packing import Group, Member, members, pack
from lbr_cli.engines.prompts import Prompt

ATTENTION = "lbr_packed"
LENGTH_INDEPENDENT_ROPE = ("default", "linear", "llama3", "yarn", None)  # others depend on the longest text of a batch


def reason_not_packable(model: Any) -> str:
    """Return why a model cannot be packed, from its configuration and its parts; "" if it can."""
    config, base = model.config, model.base_model
    kinds = set(getattr(config, "layer_types", None) or ())
    rope = getattr(config, "rope_parameters", None) or {}
    layers = list(getattr(base, "layers", ()))
    attentions = [getattr(layer, "self_attn", None) for layer in layers]
    if kinds - {"full_attention"}:
        return f"{', '.join(sorted(kinds - {'full_attention'}))} layers"
    if not kinds and getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "a sliding window"
    if getattr(config, "attn_logit_softcapping", None):
        return "capped attention"
    if rope.get("rope_type") not in LENGTH_INDEPENDENT_ROPE:
        return f"{rope['rope_type']} position embeddings"
    if not (hasattr(base, "rotary_emb") and getattr(model, "_supports_attention_backend", False)):
        return "custom attention"
    if not layers or not all(getattr(attention, "is_causal", False) for attention in attentions):
        return "custom layers"
    if any(hasattr(attention, "sinks") for attention in attentions):
        return "attention sinks"
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return "custom positions"
    return ""


class Packed:
    """Reads packed prompts. For models for which `reason_not_packable` returns ""."""

    attention = "packed without padding, prefixes shared"

    def __init__(self, model: Any) -> None:
        from transformers import AttentionInterface  # imports torch's compiler

        AttentionInterface.register(ATTENTION, _attention)
        self.model = model
        self._base = model.base_model
        self._own_attention = model.config._attn_implementation
        self._own_last_layer = self._base.layers[-1]
        self._last_tokens_only = LastTokensOnly(self._own_last_layer)
        self._install()

    @property
    def layers(self) -> list[nn.Module]:
        """The model's own layers."""
        return [*self._base.layers[:-1], self._own_last_layer]

    def _install(self) -> None:
        self.model.set_attn_implementation(ATTENTION)
        self._base.layers[-1] = self._last_tokens_only

    def release(self) -> None:
        """Restore the model's own attention and last layer."""
        self.model.set_attn_implementation(self._own_attention)
        self._base.layers[-1] = self._own_last_layer

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """Let the model compute with its own code in this block."""
        self.release()
        try:
            yield
        finally:
            self._install()

    def read(
        self, prompts: Sequence[Prompt], keys: Sequence[Hashable], budget: TokenBudget
    ) -> Iterator[tuple[list[Prompt], int, torch.Tensor]]:
        """Yield batches, tokens and hidden states as `Backbone` defines them."""
        ordered = members(prompts, keys)
        prefix: Prefix | None = None

        def compute(batch: list[Member]) -> tuple[int, torch.Tensor]:
            nonlocal prefix
            tokens, hidden, prefix = self._forward(batch, prefix)

            def alone(number: int) -> torch.Tensor:
                # without the shared prefix, because its keys and values may be the non-finite ones
                prompt = batch[number].prompt
                return self._forward([Member(prompt, Group(()), 0, len(prompt.ids))], None)[1]

            return tokens, recompute_nonfinite(hidden, self.model, alone)

        sizes = [member.size for member in ordered]
        for batch, (tokens, hidden) in batches(ordered, sizes, budget, compute, padded=False):
            yield [member.prompt for member in batch], tokens, hidden

    def _forward(self, batch: Sequence[Member], prefix: Prefix | None) -> tuple[int, torch.Tensor, Prefix | None]:
        """Return the number of tokens read, float32 states [prompts, hidden size], and the prefix for the next row."""
        row = pack(batch, prefix.group if prefix else None)
        device = self._base.device
        packed = PackedAttention(row, prefix, device)
        hidden: torch.Tensor = self._base(
            input_ids=torch.tensor([row.tokens], device=device),
            position_ids=torch.tensor([row.positions], device=device),
            use_cache=False,
            packed=packed,
        ).last_hidden_state
        return len(row.tokens), hidden[0].float(), packed.carried


class LastTokensOnly(nn.Module):
    """The last layer of a model: keys and values of all tokens, everything else for the last token of each prompt."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        """Return the attributes of the layer, which a model's own code may read."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden: torch.Tensor, *args: Any, packed: PackedAttention, **kwargs: Any) -> Any:
        """Return the output of the layer for the last tokens, [1, prompts, size], of `hidden`, [1, tokens, size]."""
        try:
            self.layer(hidden, *args, packed=_KeysAndValues.raised, **kwargs)
        except _KeysAndValues as computed:
            layer, key, value = computed.layer, computed.key, computed.value
        packed.keep(layer, key, value)

        def attention(_: int, query: torch.Tensor, __: Any, ___: Any, scale: float) -> torch.Tensor:
            return packed.of_last_tokens(layer, query, key, value, scale)

        last = {
            name: tuple(part[:, packed.last] for part in value) if isinstance(value, tuple) else value[:, packed.last]
            for name, value in kwargs.items()
            if name in ("position_embeddings", "position_ids") and value is not None
        }
        return self.layer(hidden[:, packed.last], *args, packed=attention, **(kwargs | last))


class _KeysAndValues(Exception):
    """Ends the pass through the last layer that computes keys and values, and carries them out of it."""

    def __init__(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        super().__init__()
        self.layer, self.key, self.value = layer, key, value

    @classmethod
    def raised(cls, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> NoReturn:
        """Raise the keys and values; called instead of attention."""
        raise cls(layer, key, value)


def _attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: None, scaling: float, *, packed: Any, **_: Any
) -> tuple[torch.Tensor, None]:
    """Call `packed` with the tensors of the attention of transformers, which this function replaces."""
    return packed(module.layer_idx, query, key, value, scaling), None
