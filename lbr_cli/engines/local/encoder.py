"""Bi-encoders: a text behind its prompt -> a vector, as the folder of the model says (`pooling.py`).

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

from lbr_cli.core import Answer, Answered, Embedding, Request
from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.plan import Budget, in_batches, longest_first, padded
from lbr_cli.engines.local.pooling import Pooling
from lbr_cli.errors import RequestError

CHUNK = 4  # batches that are cut together, by the exact lengths of their texts


class _Vector(NamedTuple):
    values: Any  # a numpy array, float32: a vector in the few bytes that a job of many texts can afford
    truncated: bool


class Encoder:
    """Answers `Embedding` requests with vectors (numpy, float32)."""

    attention = "padded batches of similar lengths, masked"

    def __init__(
        self, model: Any, pooling: Pooling, tokenizer: Any, max_length: int, budget: Budget, setting: str
    ) -> None:
        self.setting = setting
        self._model = model
        self._pooling = pooling
        self._tokenizer = tokenizer
        self._pad = tokenizer.pad_token_id or 0
        self._max_length = max_length
        self._budget = budget
        self._tokenising = ThreadPoolExecutor(1)
        self._encoded: dict[int, Future[Any]] = {}  # by the number of the chunk
        self._chunks: dict[int, list[Embedding]] = {}
        self._number = count()
        self._chunk_of: dict[Embedding, int] = {}
        self._vectors: dict[Embedding, _Vector] = {}
        self._prompt_lengths: dict[str, int] = {}

    def expect(self, requests: Iterable[Request]) -> int:
        """Fix which texts are encoded together, and count them."""
        texts = {_embedding(request) for request in requests}
        self._plan(texts)
        return len(texts)

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        texts = [_embedding(request) for request in requests]
        unannounced = {text for text in texts if text not in self._chunk_of}
        self._plan(unannounced)
        known = {text: Answer(*self._vectors[text], 0, 0) for text in texts if text in self._vectors}
        yield list(known.items())
        for place, text in enumerate(texts):
            if text not in self._vectors:
                try:
                    yield from self._encode(self._chunk_of[text])
                except RequestError as error:
                    raise error.at(place) from error
        for text in unannounced:  # a stream may never end: what nobody announced is not kept
            self._chunks.pop(self._chunk_of.pop(text), None)
            del self._vectors[text]

    def _plan(self, texts: Iterable[Embedding]) -> None:
        # characters stand for tokens: counting those of a whole job would mean keeping or repeating them
        chunk: list[Embedding] = []
        number = 0
        size = CHUNK * self._budget.tokens
        for text in sorted(texts, key=lambda text: (-len(whole(text)), whole(text), text.prompt)):
            if size >= CHUNK * self._budget.tokens:
                chunk, size, number = [], 0, next(self._number)
                self._chunks[number] = chunk
            chunk.append(text)
            self._chunk_of[text] = number
            size += min(len(whole(text)) // 3 + 2, self._max_length)

    @torch.inference_mode()
    def _encode(self, chunk: int) -> Iterator[Answered]:
        """The vectors of a chunk's texts, which are also kept."""
        texts = self._chunks[chunk]
        encoded = self._tokenised(chunk).result()
        following = self._chunks.get(chunk + 1)
        if following and following[0] not in self._vectors:
            self._encoded[chunk + 1] = self._tokenised(chunk + 1)  # while this one is computed
        # a tokenizer that adds nothing makes nothing of an empty text: it is read as one token of padding
        rows: list[list[int]] = [row or [self._pad] for row in encoded["input_ids"]]
        sizes = [len(row) for row in rows]

        def compute(batch: list[int]) -> torch.Tensor:
            vectors = self._pooled(rows, texts, batch)
            return finite(vectors, self._model, lambda row: self._pooled(rows, texts, [batch[row]]))

        for batch, vectors in in_batches(longest_first(sizes), sizes, self._budget, compute, to_longest=True):
            found = []
            for place, values in zip(batch, vectors.numpy(), strict=True):
                vector = self._vectors[texts[place]] = _Vector(values, bool(encoded.encodings[place].overflowing))
                found.append((texts[place], Answer(*vector, sizes[place])))
            yield found
        self._encoded.pop(chunk, None)

    def _tokenised(self, chunk: int) -> Future[Any]:
        if chunk in self._encoded:
            return self._encoded[chunk]
        return self._tokenising.submit(tokenised, self._tokenizer, self._chunks[chunk], self._max_length)

    def _pooled(self, rows: Sequence[list[int]], texts: Sequence[Embedding], batch: list[int]) -> torch.Tensor:
        """Rows of token ids, the texts they are of, and places among them -> [places, size], float32 on the CPU."""
        ids, mask = padded([rows[place] for place in batch], self._model.device, self._pad)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        skipped = [0 if self._pooling.with_prompt else self._prompt_length(texts[place].prompt) for place in batch]
        return self._pooling(hidden, mask, skipped).cpu()

    def _prompt_length(self, prompt: str) -> int:
        """How many tokens of a text are its prompt's, less a closing special one, as sentence-transformers counts."""
        if prompt not in self._prompt_lengths:
            ids = self._tokenizer(prompt, split_special_tokens=True)["input_ids"] if prompt else []
            closed = bool(ids) and ids[-1] in self._tokenizer.all_special_ids
            self._prompt_lengths[prompt] = len(ids) - closed
        return self._prompt_lengths[prompt]


def whole(text: Embedding) -> str:
    """What the tokenizer is given."""
    return text.prompt + text.text


def tokenised(tokenizer: Any, texts: Sequence[Embedding], max_length: int) -> Any:
    """What the tokenizer makes of them: ids, and what did not fit."""
    return tokenizer([whole(text) for text in texts], truncation=True, max_length=max_length, split_special_tokens=True)


def _embedding(request: Request) -> Embedding:
    if not isinstance(request, Embedding):
        raise TypeError(f"an encoder answers Embedding requests, not {type(request).__name__}")
    return request
