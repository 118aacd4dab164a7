"""Decoder-only models of any kind: rows of one length, padded on the right.

In a causal model no token sees what stands to its right, so padding cannot touch a score, and no mask is needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from lbr_cli.engines import UNLIMITED
from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.plan import Budget, in_batches, longest_first, padded


class Padded:
    """Reads prompts in batches sorted by length, for a reason."""

    def __init__(self, model: Any, reason: str) -> None:
        self.reason = reason
        self.manner = f"padded batches of similar lengths, for {reason}"
        self._model = model
        # longrope turns its positions otherwise when any text of a batch is longer than this
        rope = getattr(model.config, "rope_parameters", None) or {}
        self._turn = rope.get("original_max_position_embeddings") or UNLIMITED
        if getattr(model.config, "attn_logit_softcapping", None):
            model.set_attn_implementation("eager")  # the others leave the cap out

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """Let the model compute as its own code does in this block, which it does anyway."""
        yield

    def read(
        self, rows: Sequence[list[int]], groups: Sequence[Hashable], budget: Budget
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield places of `rows` and [places, hidden size], what the model makes of the last token of each.

        `groups` says which rows begin alike; nothing is made of it here.
        """
        sizes = [len(row) for row in rows]
        order = longest_first(sizes)

        def compute(batch: list[int]) -> torch.Tensor:
            hidden = self._hidden([rows[place] for place in batch])
            return finite(hidden, self._model, lambda row: self._hidden([rows[batch[row]]]))

        for part in ([place for place in order if (sizes[place] > self._turn) is long] for long in (True, False)):
            yield from in_batches(part, sizes, budget, compute, to_longest=True)

    def _hidden(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Rows of token ids -> [rows, hidden size], float32, of the last token of each."""
        ids, _ = padded(rows, self._model.device)
        hidden: torch.Tensor = self._model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])].float()
