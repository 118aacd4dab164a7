"""Decoder-only models of any kind: rows of similar lengths, padded on the right.

In a causal model no token attends to tokens on its right, so padding cannot change a score, and no mask is needed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from lbr_cli.engines import UNLIMITED
from lbr_cli.engines.local.batching import TokenBudget, padded_batches, padded_rows
from lbr_cli.engines.prompts import Prompt


class Padded:
    """A `Backbone` that reads prompts in batches sorted by length; `reason` says why they are not packed."""

    def __init__(self, model: Any, reason: str) -> None:
        self.reason = reason
        self.attention = f"padded batches of similar lengths, for {reason}"
        self.model = model
        # longrope computes other positions if any text of a batch is longer than this
        rope = getattr(model.config, "rope_parameters", None) or {}
        self._original_length = rope.get("original_max_position_embeddings") or UNLIMITED
        if getattr(model.config, "attn_logit_softcapping", None):
            model.set_attn_implementation("eager")  # other implementations ignore the cap

    @contextmanager
    def own_code(self) -> Iterator[None]:
        """Do nothing: the model always computes with its own code."""
        yield

    def read(
        self, prompts: Sequence[Prompt], keys: Sequence[Hashable], budget: TokenBudget
    ) -> Iterator[tuple[list[Prompt], int, torch.Tensor]]:
        """Yield batches, tokens and hidden states as `Backbone` defines them. `keys` are not used."""
        for is_long in (True, False):
            part = [prompt for prompt in prompts if (len(prompt.ids) > self._original_length) is is_long]
            yield from padded_batches(part, budget, self.model, self._hidden)

    def _hidden(self, batch: Sequence[Prompt]) -> torch.Tensor:
        """Return the hidden states of the last tokens, [prompts, hidden size], float32."""
        rows = [prompt.ids for prompt in batch]
        ids, _ = padded_rows(rows, self.model.device)
        hidden: torch.Tensor = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])].float()
