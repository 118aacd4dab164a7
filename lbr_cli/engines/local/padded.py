"""Decoder-only models of any kind: rows of one length, padded on the right.

In a causal model no token sees what stands to its right, so padding cannot touch a score, and no mask is needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.plan import Budget, in_batches, longest_first, padded


class Padded:
    """Reads prompts in batches sorted by length, for a reason."""

    def __init__(self, model: Any, reason: str) -> None:
        self.manner = f"padded batches of similar lengths, for {reason}"
        self._model = model
        if getattr(model.config, "attn_logit_softcapping", None):
            model.set_attn_implementation("eager")  # the others leave the cap out

    def read(
        self, rows: Sequence[list[int]], groups: Sequence[Hashable], budget: Budget
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield places of `rows` and [places, hidden size], what the model makes of the last token of each.

        `groups` says which rows begin alike; nothing is made of it here.
        """
        sizes = [len(row) for row in rows]

        def compute(batch: list[int]) -> torch.Tensor:
            hidden = self._hidden([rows[place] for place in batch])
            return finite(hidden, self._model, lambda row: self._hidden([rows[batch[row]]]))

        return in_batches(longest_first(sizes), sizes, budget, compute, to_longest=True)

    def _hidden(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Rows of token ids -> [rows, hidden size], float32, of the last token of each."""
        ids, _ = padded(rows, self._model.device)
        hidden: torch.Tensor = self._model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])].float()
