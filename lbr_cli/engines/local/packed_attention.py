"""Attention over a packed row: each prompt attends to its prefix and itself, in as few calls as lengths allow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from lbr_cli.engines.local.packing import Group, Row, Segment

MASKED = 512  # up to about this many tokens, a mask is faster on a CPU than queries padded to a square

KeysValues = tuple[torch.Tensor, torch.Tensor]


class Prefix(NamedTuple):
    """The prefix of a group, and the keys and values of its tokens by layer."""

    group: Group
    layers: dict[int, KeysValues]


class PackedAttention:
    """Attention of one row. `prefix` is the one carried over from the row before, if the row continues it."""

    def __init__(self, row: Row, prefix: Prefix | None, device: torch.device) -> None:
        self.last = torch.tensor(row.last, device=device)
        self._row = row
        self._prefix_layers = prefix.layers if prefix else {}
        self._next_layers: dict[int, KeysValues] = {}
        self._calls = [_Call(segment, len(row.tokens), device) for segment in row.segments]

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Return [1, tokens, heads, size] for [1, heads, tokens, size] each."""
        self.keep(layer, key, value)
        out = query.new_empty(query.shape[2] + 1, query.shape[1], value.shape[3])
        for call in self._calls:
            keys, values = self._attended(call, layer, key, value)
            queries = query[0][:, call.gather].transpose(0, 1)
            out[call.scatter] = call.attend(queries, keys, values, scale).transpose(1, 2)
        return out[None, :-1]

    def of_last_tokens(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Return [1, prompts, heads, size] for the queries of last tokens, and the keys and values of all tokens."""
        out = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
        for call in self._calls:
            outputs = call.segment.outputs
            if outputs is not None:
                keys, values = self._attended(call, layer, key, value)
                queries = query[0][:, outputs].transpose(0, 1)[:, :, None]
                grouped = queries.shape[1] != keys.shape[1]
                out[outputs] = scaled_dot_product_attention(
                    queries, keys, values, attn_mask=call.last_mask, scale=scale, enable_gqa=grouped
                )[:, :, 0]
        return out[None]

    def keep(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep the keys and values of the prefix that the next row may continue."""
        span = self._row.carried_at
        if span is not None:
            self._next_layers[layer] = key[:, :, span].clone(), value[:, :, span].clone()

    @property
    def carried(self) -> Prefix | None:
        """The prefix that the next row may continue, when all layers have been computed."""
        if self._row.carried is None:
            return None
        return Prefix(self._row.carried, self._next_layers if self._row.carried_at is not None else self._prefix_layers)

    def _attended(self, call: _Call, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
        """Return keys and values for the prompts of a call, [prompts, heads, shared + longest, size] each."""
        own = [part[0][:, call.gather].transpose(0, 1) for part in (key, value)]
        shared, span = call.segment.shared, call.segment.prefix
        if not shared:
            return own[0], own[1]
        prefix = self._prefix_layers[layer] if span is None else (key[:, :, span], value[:, :, span])
        keys, values = (
            torch.cat([part[:, :, :shared].expand(len(own_part), -1, -1, -1), own_part], 2)
            for part, own_part in zip(prefix, own, strict=True)
        )
        return keys, values


class _Call:
    """The index tensors and masks of a segment.

    `gather` and `scatter` [prompts, longest] are positions in the row. Past the end of a prompt, `gather` is its last
    position, and `scatter` the position behind the row. `last_mask` [prompts, 1, 1, shared + longest] is True for the
    tokens that the last token of a prompt attends to.
    """

    def __init__(self, segment: Segment, tokens: int, device: torch.device) -> None:
        self.segment = segment
        lengths = torch.tensor([span.stop - span.start for span in segment.spans])
        starts = torch.tensor([span.start for span in segment.spans])
        longest = int(lengths.max())
        steps = torch.arange(longest)
        inside = steps < lengths[:, None]
        self.gather = (starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)).to(device)
        self.scatter = torch.where(inside, starts[:, None] + steps, tokens).to(device)
        self.last_mask = pad(inside, (segment.shared, 0), value=True)[:, None, None].to(device)
        self._mask: torch.Tensor | None = None  # [longest, shared + longest], True for attention
        if segment.shared and 1 < longest <= MASKED and device.type == "cpu":
            self._mask = torch.ones(longest, segment.shared + longest, dtype=torch.bool).tril(segment.shared)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        """Return causal attention, in which the queries are at the last `query.shape[2]` positions of the keys."""
        grouped = query.shape[1] != key.shape[1]
        before = key.shape[2] - query.shape[2]
        if self._mask is not None:
            mask = self._mask
            return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped)
        # the fast kernels support only square causal masks, so rows are added in front and their output is dropped
        square = pad(query, (0, 0, before, 0)) if before else query
        out = scaled_dot_product_attention(square, key, value, is_causal=True, scale=scale, enable_gqa=grouped)
        return out[:, :, before:]
