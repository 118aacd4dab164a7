"""Encoder-decoder models: the hidden state of the decoder's first token, which attends to the whole prompt."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.engines.local.batching import TokenBudget, padded_batches, padded_rows
from lbr_cli.engines.prompts import Prompt
from lbr_cli.errors import MissingError


class Seq2Seq:
    """A `Backbone` that reads prompts in batches sorted by length.

    The head of the model is replaced by the identity, so that its forward pass returns the input of the head, scaled as
    T5 scales it, for a head that computes in float32.
    """

    attention = "padded batches of similar lengths, masked"

    def __init__(self, model: Any) -> None:
        self._start = model.generation_config.decoder_start_token_id
        if self._start is None:
            self._start = getattr(model.config, "decoder_start_token_id", None)
        if self._start is None or hasattr(model, "final_logits_bias"):
            problem = "with final_logits_bias" if self._start is not None else "without decoder_start_token_id"
            raise MissingError(f"unsupported model: a {type(model).__name__} {problem}")
        self.model = model
        self.model.set_output_embeddings(torch.nn.Identity())

    def read(
        self, prompts: Sequence[Prompt], keys: Sequence[Hashable], budget: TokenBudget
    ) -> Iterator[tuple[list[Prompt], int, torch.Tensor]]:
        """Yield batches, tokens and hidden states as `Backbone` defines them. `keys` are not used."""
        return padded_batches(prompts, budget, self.model, self._hidden)

    def _hidden(self, batch: Sequence[Prompt]) -> torch.Tensor:
        """Return the hidden states of the decoder's first token, [prompts, hidden size], float32."""
        ids, mask = padded_rows([prompt.ids for prompt in batch], self.model.device)
        start = torch.full((len(batch), 1), self._start, device=self.model.device)
        output = self.model(input_ids=ids, attention_mask=mask, decoder_input_ids=start, use_cache=False)
        hidden: torch.Tensor = output.logits[:, 0]
        return hidden.float()
