"""Bi-encoders: a text behind its prompt -> a vector, as the folder of the model says (`pooling.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from lbr_cli.core import Answer, Batch, Embedding, Request
from lbr_cli.engines.local.batching import (
    TokenBudget,
    chunks,
    padded_batches,
    padded_rows,
    prepared_ahead,
    window_size,
)
from lbr_cli.engines.local.loading import recompute_nonfinite
from lbr_cli.engines.local.pooling import Pooling


class TextInput(NamedTuple):
    """The token ids of a text behind its prompt, how many of them pooling skips, and whether the text was truncated."""

    request: Embedding
    ids: list[int]
    skipped: int
    truncated: bool


class Encoder:
    """Answers `Embedding` requests with vectors (NumPy, float32)."""

    attention = "padded batches of similar lengths, masked"

    def __init__(
        self, model: Any, pooling: Pooling, tokenizer: Any, max_length: int, batch_tokens: int, description: str
    ) -> None:
        self.description = description
        self.window = window_size(batch_tokens)
        self.model = model
        self._pooling = pooling
        self._tokenizer = tokenizer
        self._pad = tokenizer.pad_token_id or 0
        self._max_length = max_length
        self._batch_tokens = batch_tokens
        self._prompt_length = lru_cache(self._count_prompt)

    def check(self, requests: Iterable[Request]) -> None:
        """Any text can be encoded."""

    @torch.inference_mode()
    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Yield vectors batch by batch; the batches are chosen from as many texts as are tokenized at once."""
        budget = TokenBudget(self._batch_tokens)
        for _, inputs in prepared_ahead(chunks(windows, self.window), self._inputs):
            for batch, vectors in padded_batches(inputs, budget, self._compute):
                answers = [
                    (one.request, Answer(vector, one.truncated))
                    for one, vector in zip(batch, vectors.numpy(), strict=True)
                ]
                yield Batch(answers, sum(len(one.ids) for one in batch))

    def _inputs(self, requests: Sequence[Request]) -> list[TextInput]:
        """A tokenizer that adds no special tokens returns nothing for an empty text: its input is one padding token."""
        texts = [as_embedding(request) for request in requests]
        encoded = tokenized(self._tokenizer, texts, self._max_length)
        skipped = [0 if self._pooling.with_prompt else self._prompt_length(text.prompt) for text in texts]
        return [
            TextInput(text, ids or [self._pad], skip, bool(made.overflowing))
            for text, ids, skip, made in zip(texts, encoded["input_ids"], skipped, encoded.encodings, strict=True)
        ]

    def _compute(self, batch: list[TextInput]) -> torch.Tensor:
        return recompute_nonfinite(self._vectors(batch), self.model, lambda number: self._vectors([batch[number]]))

    def _vectors(self, batch: Sequence[TextInput]) -> torch.Tensor:
        """[inputs, size], float32 on the CPU."""
        ids, mask = padded_rows([one.ids for one in batch], self.model.device, self._pad)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return self._pooling(hidden, mask, [one.skipped for one in batch]).cpu()

    def _count_prompt(self, prompt: str) -> int:
        """How many tokens of a text are its prompt's, less a closing special one, as sentence-transformers counts."""
        ids = self._tokenizer(prompt, split_special_tokens=True)["input_ids"] if prompt else []
        closed = bool(ids) and ids[-1] in self._tokenizer.all_special_ids
        return len(ids) - closed


def tokenized(tokenizer: Any, texts: Sequence[Embedding], max_length: int) -> Any:
    """Return what the tokenizer makes of texts behind their prompts: ids, and what did not fit."""
    return tokenizer(
        [text.prompt + text.text for text in texts], truncation=True, max_length=max_length, split_special_tokens=True
    )


def as_embedding(request: Request) -> Embedding:
    """Return the request as what it is for a bi-encoder. TypeError for any other."""
    if not isinstance(request, Embedding):
        raise TypeError(f"an Embedding request was expected, not {type(request).__name__}")
    return request
