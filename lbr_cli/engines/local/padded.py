"""Decoder-only models of any kind: rows of one length, padded on the right.

In a causal model no token sees what stands to its right, so padding cannot touch a score, and no mask is needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.engines.local.plan import Budget, in_batches


class Padded:
    """Reads prompts in batches sorted by length."""

    def __init__(self, model: Any) -> None:
        self._base = model.base_model
        if getattr(model.config, "attn_logit_softcapping", None):
            model.set_attn_implementation("eager")  # the others leave the cap out

    def read(
        self, rows: Sequence[list[int]], groups: Sequence[Hashable], budget: Budget
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield places of `rows` and [places, hidden size], what the model makes of the last token of each.

        `groups` says which rows begin alike; nothing is made of it here.
        """
        order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
        sizes = [len(row) for row in rows]
        return in_batches(
            order, sizes, budget, lambda batch: self.hidden([rows[place] for place in batch]), padded=True
        )

    def hidden(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Rows of token ids -> [rows, hidden size], of the last token of each."""
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
        ids = ids.to(self._base.device)
        hidden: torch.Tensor = self._base(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
