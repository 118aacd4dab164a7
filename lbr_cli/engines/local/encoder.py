"""Encoders as bi-encoders: the mean of a text's last hidden states, over its own tokens alone.

Each distinct text of a job is encoded once. Which texts are encoded together is fixed before the first is, by length
and then by the texts themselves: so a vector does not depend, not even in its last bit, on the order in which queries
ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, NamedTuple

import torch

from lbr_cli.core import Answer, Embedding, Request
from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.plan import Budget, in_batches, longest_first, padded
from lbr_cli.errors import RequestError

CHUNK = 4  # batches that are cut together, by the exact lengths of their texts


class _Vector(NamedTuple):
    values: Any  # a numpy array, float32: a vector in the few bytes that a job of many texts can afford
    truncated: bool


class MeanEncoder:
    """Answers `Embedding` requests with vectors (numpy, float32)."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int, budget: Budget, setting: str) -> None:
        self.setting = setting
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._budget = budget
        self._tokenising = ThreadPoolExecutor(1)
        self._encoded: dict[int, Future[Any]] = {}  # by the number of the chunk
        self._chunks: dict[int, list[str]] = {}
        self._number = count()
        self._chunk_of: dict[str, int] = {}
        self._vectors: dict[str, _Vector] = {}

    def expect(self, requests: Iterable[Request]) -> int:
        """Fix which texts are encoded together, and count them."""
        texts = {_text(request) for request in requests}
        self._plan(texts)
        return len(texts)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        texts = [_text(request) for request in requests]
        unannounced = {text for text in texts if text not in self._chunk_of}
        self._plan(unannounced)
        for place, text in enumerate(texts):
            tokens = work = 0
            if text not in self._vectors:
                try:
                    tokens, work = self._encode(self._chunk_of[text])
                except RequestError as error:
                    raise error.at(place) from error
            vector = self._vectors[text]
            yield place, Answer(vector.values, vector.truncated, tokens, work)
        for text in unannounced:  # a stream may never end: what nobody announced is not kept
            self._chunks.pop(self._chunk_of.pop(text), None)
            del self._vectors[text]

    def _plan(self, texts: Iterable[str]) -> None:
        # characters stand for tokens: counting those of a whole job would mean keeping or repeating them
        chunk: list[str] = []
        number = 0
        size = CHUNK * self._budget.tokens
        for text in sorted(texts, key=lambda text: (-len(text), text)):
            if size >= CHUNK * self._budget.tokens:
                chunk, size, number = [], 0, next(self._number)
                self._chunks[number] = chunk
            chunk.append(text)
            self._chunk_of[text] = number
            size += min(len(text) // 3 + 2, self._max_length)

    @torch.inference_mode()
    def _encode(self, chunk: int) -> tuple[int, int]:
        """Keep the vectors of a chunk's texts, and tell how many tokens and texts that are."""
        texts = self._chunks[chunk]
        encoded = self._tokenised(chunk).result()
        following = self._chunks.get(chunk + 1)
        if following and following[0] not in self._vectors:
            self._encoded[chunk + 1] = self._tokenised(chunk + 1)  # while this one is computed
        rows: list[list[int]] = encoded["input_ids"]
        sizes = [len(row) for row in rows]

        def compute(batch: list[int]) -> torch.Tensor:
            means = self._means([rows[place] for place in batch])
            return finite(means, self._model, lambda row: self._means([rows[batch[row]]]))

        for batch, means in in_batches(longest_first(sizes), sizes, self._budget, compute, to_longest=True):
            for place, values in zip(batch, means.numpy(), strict=True):
                self._vectors[texts[place]] = _Vector(values, bool(encoded.encodings[place].overflowing))
        self._encoded.pop(chunk, None)
        return sum(sizes), len(texts)

    def _tokenised(self, chunk: int) -> Future[Any]:
        if chunk in self._encoded:
            return self._encoded[chunk]
        return self._tokenising.submit(
            self._tokenizer,
            self._chunks[chunk],
            truncation=True,
            max_length=self._max_length,
            split_special_tokens=True,
        )

    def _means(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Rows of token ids -> [rows, size], float32 on the CPU."""
        ids, mask = padded(rows, self._model.device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        means: torch.Tensor = (hidden * weights).sum(1) / weights.sum(1)
        return means.cpu()


def _text(request: Request) -> str:
    if not isinstance(request, Embedding):
        raise TypeError(f"an encoder answers Embedding requests, not {type(request).__name__}")
    return request.text
