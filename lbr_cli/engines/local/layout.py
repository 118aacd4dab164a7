"""Attention over a packed row: who may see whom, in as few calls as the lengths of the prompts allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

ALIKE = 1.25  # prompts that differ in length by no more share one call of attention, the shorter ones padded
MASKED = 512  # on a CPU a mask is faster than rows that only align the triangle, up to about this many tokens

KeysValues = tuple[torch.Tensor, torch.Tensor]


class KeysAndValuesKnown(Exception):
    """Ends the first pass through the last layer, whose output nobody needs."""


@dataclass(slots=True)
class Call:
    """Prompts that share one call of attention: where their own tokens lie, and what they see besides.

    They see the first `shared` tokens of a prefix, which lies in the same row at `behind` or is `known` from an
    earlier one. `ends` says which of the row's prompts these are, None for a prefix itself.
    """

    spans: list[slice]
    shared: int
    behind: slice
    known: dict[int, KeysValues] | None
    ends: slice | None
    take: torch.Tensor | None = None  # [prompts, longest], places in the row; beyond a prompt's end its last one
    put: torch.Tensor | None = None  # the same, but one place behind the row beyond a prompt's end
    mask: torch.Tensor | None = None  # [longest, shared + longest], True where seen
    last_mask: torch.Tensor | None = None  # [prompts, 1, 1, shared + longest]


class Layout:
    """Who sees whom in one packed row, and what attention has to keep of it."""

    def __init__(self, last_layer: int) -> None:
        self.calls: list[Call] = []
        self.keeps: slice | None = None
        self.kept: dict[int, KeysValues] = {}
        self.ends = torch.empty(0, dtype=torch.long)
        self._last_layer = last_layer
        self._prompts: list[int] = []
        self._all: KeysValues | None = None

    def add(self, spans: list[tuple[int, slice]], behind: slice, known: dict[int, KeysValues] | None) -> None:
        """Prompts in the order of the row, each with the length it shares, cut into calls of similar lengths."""
        start = 0
        for place in range(1, len(spans) + 1):
            shared, first = spans[start]
            if place < len(spans):
                longest = first.stop - first.start
                length = spans[place][1].stop - spans[place][1].start
                if spans[place][0] == shared and length <= longest <= ALIKE * length:
                    continue
            ends = slice(len(self._prompts), len(self._prompts) + place - start)
            self._prompts += [span.stop - 1 for _, span in spans[start:place]]
            self.calls.append(Call([span for _, span in spans[start:place]], shared, behind, known, ends))
            start = place

    def finish(self, tokens: int, device: torch.device) -> None:
        """All prompts are added, and the row has so many tokens: make the index tensors."""
        self.ends = torch.tensor(self._prompts, device=device)
        for call in self.calls:
            lengths = torch.tensor([span.stop - span.start for span in call.spans])
            starts = torch.tensor([span.start for span in call.spans])
            longest = int(lengths.max())
            steps = torch.arange(longest)
            inside = steps < lengths[:, None]
            call.take = (starts[:, None] + torch.minimum(steps, lengths[:, None] - 1)).to(device)
            call.put = torch.where(inside, starts[:, None] + steps, tokens).to(device)
            if call.shared and 1 < longest <= MASKED and device.type == "cpu":
                call.mask = torch.ones(longest, call.shared + longest, dtype=torch.bool).tril(call.shared)
            call.last_mask = pad(inside, (call.shared, 0), value=True)[:, None, None].to(device)

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> Any:
        """[1, heads, tokens, size] each -> [1, tokens, heads, size]; in the last layer for last tokens alone."""
        if self._all is not None:
            return self._attend_last(layer, query, *self._all, scale)
        if self.keeps is not None:
            self.kept[layer] = key[:, :, self.keeps].clone(), value[:, :, self.keeps].clone()
        if layer == self._last_layer:
            self._all = key, value
            raise KeysAndValuesKnown
        out = query.new_empty(query.shape[2] + 1, query.shape[1], value.shape[3])
        for call in self.calls:
            queries = query[0][:, call.take].transpose(0, 1)
            keys, values = _seen(call, layer, key, value)
            out[call.put] = _causal(queries, keys, values, scale, call.mask).transpose(1, 2)
        return out[None, :-1]

    def _attend_last(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        out = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
        for call in self.calls:
            if call.ends is not None:
                keys, values = _seen(call, layer, key, value)
                queries = query[0][:, call.ends].transpose(0, 1)[:, :, None]
                gqa = queries.shape[1] != keys.shape[1]
                out[call.ends] = scaled_dot_product_attention(
                    queries, keys, values, attn_mask=call.last_mask, scale=scale, enable_gqa=gqa
                )[:, :, 0]
        return out[None]


def _seen(call: Call, layer: int, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
    """Keys and values that the prompts of a call see, [prompts, heads, shared + longest, size] each."""
    own = [part[0][:, call.take].transpose(0, 1) for part in (key, value)]
    if not call.shared:
        return own[0], own[1]
    before = call.known[layer] if call.known else (key[:, :, call.behind], value[:, :, call.behind])
    count = len(call.spans)
    keys, values = (
        torch.cat([part[:, :, : call.shared].expand(count, -1, -1, -1), mine], 2)
        for part, mine in zip(before, own, strict=True)
    )
    return keys, values


def _causal(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Causal attention of the last `query.shape[2]` of the keys' places."""
    gqa = query.shape[1] != key.shape[1]
    before = key.shape[2] - query.shape[2]
    if mask is not None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=gqa)
    # the fast kernels know only triangles that begin with the first key: rows that nobody reads make it one
    square = pad(query, (0, 0, before, 0)) if before else query
    out = scaled_dot_product_attention(square, key, value, is_causal=True, scale=scale, enable_gqa=gqa)
    return out[:, :, before:]
