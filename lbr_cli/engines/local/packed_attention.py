"""Attention over a packed row: each prompt attends to its prefix and itself, in as few calls as lengths allow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from lbr_cli.engines.local import block_attention
from lbr_cli.engines.local.packing import Group, Row, Segment

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
        call = _BlockCall if device.type == "cpu" else _SquareCall
        self._calls: list[_Call] = [call(segment, len(row.tokens), device) for segment in row.segments]

    def __call__(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Return [1, tokens, heads, size] for [1, heads, tokens, size] each."""
        self.keep(layer, key, value)
        out = query.new_empty(query.shape[2] + 1, query.shape[1], value.shape[3])
        for call in self._calls:
            keys, values = self._attended(call, layer, key, value)
            queries = query[0][:, call.queries].transpose(0, 1)
            out[call.results] = call.attend(queries, keys, values, scale).transpose(1, 2)
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
                out[outputs] = call.attend_last(query[0][:, outputs].transpose(0, 1), keys, values, scale)
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
        """Return keys and values for the prompts of a call, [prompts, heads, shared + own, size] each."""
        own = [part[0][:, call.keys].transpose(0, 1) for part in (key, value)]
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
    """The attention of a segment: positions in the row of the tokens that it reads and computes, [prompts, …] each.

    `keys` are the prompts' own tokens, `queries` the tokens whose attention is computed, and `results` where it goes.
    Past the end of a prompt, its last token is read instead, and the results go behind the row.
    """

    keys: torch.Tensor
    queries: torch.Tensor
    results: torch.Tensor

    def __init__(self, segment: Segment, tokens: int, device: torch.device) -> None:
        self.segment = segment
        self._device = device
        self._starts = torch.tensor([span.start for span in segment.spans])[:, None]
        self._lengths = torch.tensor([span.stop - span.start for span in segment.spans])[:, None]
        self._behind = tokens

    def _read(self, begin: int, end: int) -> torch.Tensor:
        """Return positions in the row of the tokens from `begin` to `end` of each prompt, relative to its own first."""
        steps = torch.arange(begin, end).clamp(min=0)
        return (self._starts + torch.minimum(steps, self._lengths - 1)).to(self._device)

    def _written(self, begin: int, end: int) -> torch.Tensor:
        """Return where the results of these tokens go."""
        steps = torch.arange(begin, end)
        inside = (steps >= 0) & (steps < self._lengths)
        return torch.where(inside, self._starts + steps, self._behind).to(self._device)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        """Return causal attention of the tokens at `queries`: [prompts, heads, tokens, size] for such tensors."""
        raise NotImplementedError

    def attend_last(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        """Return attention of the last tokens: [prompts, heads, size] for queries of this shape."""
        raise NotImplementedError


class _BlockCall(_Call):
    """Attention in blocks at fixed positions, for CPUs."""

    def __init__(self, segment: Segment, tokens: int, device: torch.device) -> None:
        super().__init__(segment, tokens, device)
        shared = segment.shared
        self._prompt_lengths = [shared + length for length in self._lengths[:, 0].tolist()]
        end = block_attention.padded_length(max(self._prompt_lengths)) - shared
        begin = -(shared % block_attention.BLOCK)
        self.keys, self.queries = self._read(0, end), self._read(begin, end)
        self.results = self._written(begin, end)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        return block_attention.attend(query, key, value, self._prompt_lengths, scale)

    def attend_last(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        return block_attention.attend_last(query, key, value, self._prompt_lengths, scale)


class _SquareCall(_Call):
    """Attention in one call, for GPUs: their fast kernels support only square causal masks."""

    def __init__(self, segment: Segment, tokens: int, device: torch.device) -> None:
        super().__init__(segment, tokens, device)
        longest = int(self._lengths.max())
        self.keys = self.queries = self._read(0, longest)
        self.results = self._written(0, longest)
        inside = torch.arange(longest) < self._lengths
        self._attended = pad(inside, (segment.shared, 0), value=True)[:, None, None].to(device)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        grouped = query.shape[1] != key.shape[1]
        before = key.shape[2] - query.shape[2]
        # rows are added in front, and their results are dropped
        square = pad(query, (0, 0, before, 0)) if before else query
        out = scaled_dot_product_attention(square, key, value, is_causal=True, scale=scale, enable_gqa=grouped)
        return out[:, :, before:]

    def attend_last(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        queries, grouped = query[:, :, None], query.shape[1] != key.shape[1]
        mask = self._attended
        out = scaled_dot_product_attention(queries, key, value, attn_mask=mask, scale=scale, enable_gqa=grouped)
        return out[:, :, 0]
