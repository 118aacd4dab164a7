"""Plain causal models, the fast way: prompts laid end to end in one row, without padding, behind what they share.

Prompts of one group begin alike: a query's prompts with the system line and the query, or, where the document comes
first, a document's prompts with the document. What they share, the *prefix*, is read once, and each prompt's own
tokens see the prefix and themselves. All that works token by token (projections, norms, MLP) sees one long row;
attention alone has to know who may see whom, and is told by a `Layout`. In the last layer only the last token of
each prompt goes further than its keys and values.

Scores are those of prompts read one by one: every token meets the same keys at the same positions.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from transformers import AttentionInterface

from lbr_cli.engines.local.layout import Call, KeysAndValuesKnown, KeysValues, Layout
from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.plan import Budget, in_batches

ATTENTION = "lbr_packed"
STEADY_ROPE = ("default", "linear", "llama3", "yarn", None)  # others change with the longest text of a batch


def why_not(model: Any) -> str:
    """Why a model cannot be packed, "" where it can: from its configuration and the parts it is made of."""
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
    if rope.get("rope_type") not in STEADY_ROPE:
        return f"{rope['rope_type']} position embeddings"
    if not (hasattr(base, "rotary_emb") and getattr(model, "_supports_attention_backend", False)):
        return "attention of its own kind"
    if not layers or not all(getattr(attention, "is_causal", False) for attention in attentions):
        return "layers of its own kind"
    if any(hasattr(attention, "sinks") for attention in attentions):
        return "attention sinks"
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return "positions of its own kind"
    return ""


class Packed:
    """Reads prompts packed, each group behind its prefix. For models of which `why_not` says nothing."""

    manner = "packed without padding, prefixes shared"

    def __init__(self, model: Any) -> None:
        AttentionInterface.register(ATTENTION, _attention)
        self._model = model
        self._base = model.base_model
        self._last = self._base.layers[-1]
        self._last_forward = self._last.forward
        self._own_attention = model.config._attn_implementation
        self._prefix: _Prefix | None = None
        self._replace()

    def _replace(self) -> None:
        self._model.set_attn_implementation(ATTENTION)
        self._last.forward = self._last_layer

    def release(self) -> None:
        """Give the model back its own attention and its own last layer."""
        self._model.set_attn_implementation(self._own_attention)
        del self._last.forward

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """Let the model compute as its own code does in this block."""
        self.release()
        try:
            yield
        finally:
            self._replace()

    def read(
        self, rows: Sequence[list[int]], groups: Sequence[Hashable], budget: Budget
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield places of `rows` and [places, hidden size], what the model makes of the last token of each.

        `groups` names for each row the group it belongs to. The prefix of the group that came last is kept, should
        the next call go on with it.
        """
        members: dict[Hashable, list[int]] = {}
        for place, group in enumerate(groups):
            members.setdefault(group, []).append(place)
        prefixes = {
            group: self._prefix_of(group, [rows[place] for place in places]) for group, places in members.items()
        }
        order: list[int] = []
        sizes = [0] * len(rows)
        for group, places in members.items():
            first = len(order)
            order += sorted(places, key=lambda place: -len(rows[place]))
            for place in places:
                sizes[place] = len(rows[place]) - _shared(prefixes[group], rows[place])
            if self._prefix is None or self._prefix.group != group:
                sizes[order[first]] += len(prefixes[group])

        def compute(batch: list[int]) -> torch.Tensor:
            parts = [
                (group, prefixes[group], [rows[place] for place in places])
                for group, places in groupby(batch, key=lambda place: groups[place])
            ]
            # again, and alone: what other prompts made of the prefix is not finite either
            return finite(
                self._compute(parts), self._model, lambda row: self._compute([(None, [], [rows[batch[row]]])])
            )

        return in_batches(order, sizes, budget, compute, to_longest=False)

    def _prefix_of(self, group: Hashable, rows: list[list[int]]) -> list[int]:
        if self._prefix is not None and self._prefix.group == group:
            return self._prefix.tokens
        # what the first and the last in alphabetical order share, all share
        return rows[0][:0] if len(rows) == 1 else min(rows)[: _shared(max(rows), min(rows))]

    def _compute(self, parts: list[tuple[Hashable, list[int], list[list[int]]]]) -> torch.Tensor:
        """Groups with their prefix and their rows -> [rows, hidden size], float32, of the last token of each."""
        row: list[int] = []
        positions: list[int] = []
        layout = Layout(len(self._base.layers) - 1)
        for group, prefix, rows in parts:
            known = None
            behind = slice(0, 0)
            if prefix and self._prefix is not None and self._prefix.group == group:
                known = self._prefix.known
            elif prefix:
                behind = slice(len(row), len(row) + len(prefix))
                row += prefix
                positions += range(len(prefix))
                layout.calls.append(Call([behind], 0, behind, None, ends=None))
            spans = []
            for tokens in rows:
                shared = _shared(prefix, tokens)
                spans.append((shared, slice(len(row), len(row) + len(tokens) - shared)))
                row += tokens[shared:]
                positions += range(shared, len(tokens))
            layout.add(spans, behind, known)
            if group is not None and prefix and known is None:
                layout.keeps = behind  # of several the last one, which may go on in the next batch
                kept = _Prefix(group, prefix, layout.kept)
        device = self._base.device
        layout.finish(len(row), device)
        hidden: torch.Tensor = self._base(
            input_ids=torch.tensor([row], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            layout=layout,
        ).last_hidden_state
        if layout.keeps is not None:
            self._prefix = kept
        return hidden[0].float()

    def _last_layer(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """The last layer: keys and values of all tokens, everything else for the last token of each prompt."""
        layout: Layout = kwargs["layout"]
        with suppress(KeysAndValuesKnown):
            self._last_forward(hidden, *args, **kwargs)
        cut = {
            name: tuple(part[:, layout.ends] for part in value) if isinstance(value, tuple) else value[:, layout.ends]
            for name, value in kwargs.items()
            if name in ("position_embeddings", "position_ids") and value is not None
        }
        return self._last_forward(hidden[:, layout.ends], *args, **(kwargs | cut))


@dataclass(frozen=True, slots=True)
class _Prefix:
    """What a group shares, and what each layer made of it."""

    group: Hashable
    tokens: list[int]
    known: dict[int, KeysValues]


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    *,
    layout: Layout,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in place of its own attention."""
    return layout.attend(module.layer_idx, query, key, value, scaling), None


def _shared(one: list[int], other: list[int]) -> int:
    """How many tokens two begin with alike; at least one of `other` is left to it."""
    most = min(len(one), len(other) - 1)
    return next((place for place in range(most) if one[place] != other[place]), most)
