"""Bi-encoders: a text after its prompt -> a vector, as the folder of the model defines it (`pooling.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from lbr_cli.core import Embedding, Request
from lbr_cli.engines.local.batching import TokenBudget, padded_batches, padded_rows
from lbr_cli.engines.local.engine import LocalEngine
from lbr_cli.engines.local.pooling import Pooling
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
        self, model: Any, batch_tokens: int, description: str, pooling: Pooling, tokenizer: Any, max_length: int
    ) -> None:
        super().__init__(model, batch_tokens, description)
        self._pooling = pooling
        self._tokenizer = tokenizer
        self._pad = tokenizer.pad_token_id or 0
        self._max_length = max_length
        self._prompt_length = lru_cache(self._count_prompt)

    def check(self, requests: Iterable[Request]) -> None:
        """Accept all requests: any text can be encoded."""

    def _inputs(self, requests: Sequence[Request]) -> list[TextInput]:
        """Tokenize texts. A text without any token, special tokens included, becomes one padding token."""
        texts = [narrowed(Embedding, request) for request in requests]
        encoded = tokenized(self._tokenizer, texts, self._max_length)
        skipped = [0 if self._pooling.with_prompt else self._prompt_length(text.prompt) for text in texts]
        return [
            TextInput(text, encoding.ids or [self._pad], skip, bool(encoding.overflowing))
            for text, skip, encoding in zip(texts, skipped, encoded, strict=True)
        ]

    def _values(self, inputs: list[TextInput], budget: TokenBudget) -> Iterator[tuple[list[TextInput], int, Any]]:
        for batch, tokens, vectors in padded_batches(inputs, budget, self.model, self._vectors):
            yield batch, tokens, vectors.numpy()

    def _vectors(self, batch: Sequence[TextInput]) -> torch.Tensor:
        """Return the vectors of inputs, [inputs, size], float32 on the CPU."""
        ids, mask = padded_rows([text.ids for text in batch], self.model.device, self._pad)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return self._pooling(hidden, mask, [text.skipped for text in batch]).cpu()

    def _count_prompt(self, prompt: str) -> int:
        """Return the number of tokens of a prompt without a closing special token, as sentence-transformers does."""
        ids = self._tokenizer(prompt, split_special_tokens=True)["input_ids"] if prompt else []
        has_closing = bool(ids) and ids[-1] in self._tokenizer.all_special_ids
        return len(ids) - has_closing


def tokenized(tokenizer: Any, texts: Sequence[Embedding], max_length: int) -> list[Any]:
    """Return the encodings of texts after their prompts, truncated to `max_length` or their own limit in tokens."""
    limits = [min(max_length, text.max_length or max_length) for text in texts]
    encodings: dict[int, Any] = {}
    for limit in set(limits):
        positions = [position for position, own in enumerate(limits) if own == limit]
        joined = [texts[position].prompt + texts[position].text for position in positions]
        encoded = tokenizer(joined, truncation=True, max_length=limit, split_special_tokens=True).encodings
        encodings.update(zip(positions, encoded, strict=True))
    return [encodings[position] for position in range(len(texts))]
