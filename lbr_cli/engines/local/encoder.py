"""Bi-encoders: a text after its prompt -> a vector, as the folder of the model defines it (`pooling.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from lbr_cli.core import Embedding, Request
from lbr_cli.engines.local.batching import TokenBudget, padded_batches, padded_rows
from lbr_cli.engines.local.engine import LocalEngine
from lbr_cli.engines.local.pooling import Pooling
from lbr_cli.engines.local.text_tokenizer import TextTokenizer
from lbr_cli.engines.prompts import narrowed


class TextInput(NamedTuple):
    """The token ids of a text after its prompt, how many of them pooling skips, and whether the text was truncated."""

    request: Embedding
    ids: list[int]
    skipped: int
    truncated: bool


class Encoder(LocalEngine[TextInput]):
    """Answers `Embedding` requests with vectors (NumPy, float32)."""

    def __init__(
        self, model: Any, batch_tokens: int, description: str, pooling: Pooling, tokenizer: TextTokenizer
    ) -> None:
        super().__init__(model, batch_tokens, description)
        self._pooling = pooling
        self._tokenizer = tokenizer

    def check(self, requests: Iterable[Request]) -> None:
        """Accept all requests: any text can be encoded."""

    def _inputs(self, requests: Sequence[Request]) -> list[TextInput]:
        texts = [narrowed(Embedding, request) for request in requests]
        lengths = [0 if self._pooling.with_prompt else self._tokenizer.prompt_length(text.prompt) for text in texts]
        return [
            TextInput(text, prompt.ids, skipped, prompt.truncated)
            for text, skipped, prompt in zip(texts, lengths, self._tokenizer.inputs(texts), strict=True)
        ]

    def _values(self, inputs: list[TextInput], budget: TokenBudget) -> Iterator[tuple[list[TextInput], int, Any]]:
        for batch, tokens, vectors in padded_batches(inputs, budget, self.model, self._vectors):
            yield batch, tokens, vectors.numpy()

    def _vectors(self, batch: Sequence[TextInput]) -> torch.Tensor:
        """Return the vectors of inputs, [inputs, size], float32 on the CPU."""
        ids, mask = padded_rows([text.ids for text in batch], self.model.device, self._tokenizer.pad)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return self._pooling(hidden, mask, [text.skipped for text in batch]).cpu()
