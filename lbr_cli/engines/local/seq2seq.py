"""Encoder-decoder models: what the decoder makes of its first token, when it has seen the whole prompt."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.plan import Budget, in_batches, longest_first, padded
from lbr_cli.errors import MissingError


class Seq2Seq:
    """Reads prompts in batches sorted by length.

    The model's own forward pass is asked for logits, with a head that does nothing: what it would have given to its
    head, scaled as T5 scales it, comes out, for a head that computes in float32.
    """

    manner = "padded batches of similar lengths, masked"

    def __init__(self, model: Any) -> None:
        self._start = model.generation_config.decoder_start_token_id
        if self._start is None:
            self._start = getattr(model.config, "decoder_start_token_id", None)
        if self._start is None or hasattr(model, "final_logits_bias"):
            what = "adds a bias to its logits" if self._start is not None else "names no first token of an answer"
            raise MissingError(f"a {type(model).__name__} that {what} cannot be read by lbr")
        self._model = model
        self._model.set_output_embeddings(torch.nn.Identity())

    def read(
        self, rows: Sequence[list[int]], groups: Sequence[Hashable], budget: Budget
    ) -> Iterator[tuple[list[int], torch.Tensor]]:
        """Yield places of `rows` and [places, hidden size]. `groups` says which rows begin alike: no matter here."""
        sizes = [len(row) for row in rows]

        def compute(batch: list[int]) -> torch.Tensor:
            hidden = self._hidden([rows[place] for place in batch])
            return finite(hidden, self._model, lambda row: self._hidden([rows[batch[row]]]))

        return in_batches(longest_first(sizes), sizes, budget, compute, to_longest=True)

    def _hidden(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Rows of token ids -> [rows, hidden size], float32."""
        ids, mask = padded(rows, self._model.device)
        start = torch.full((len(rows), 1), self._start, device=self._model.device)
        hidden: torch.Tensor = self._model(
            input_ids=ids, attention_mask=mask, decoder_input_ids=start, use_cache=False
        ).logits
        return hidden[:, 0].float()
