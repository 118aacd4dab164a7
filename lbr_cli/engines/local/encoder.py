"""Encoders as bi-encoders: the mean of a text's last hidden states, over its own tokens alone.

Each distinct text of a job is encoded once. Which texts are encoded together is fixed before the first is, by length
and then by the texts themselves: so a vector does not depend, not even in its last bit, on the order in which queries
ask for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from lbr_cli.core import Answer, Embedding, Request
from lbr_cli.engines.local.loading import in_float32
from lbr_cli.engines.local.plan import batches


class _Vector(NamedTuple):
    values: Any  # a numpy array, float32: a vector in the few bytes that a job of many texts can afford
    truncated: bool


class MeanEncoder:
    """Answers `Embedding` requests with vectors (numpy, float32)."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int, budget: int, setting: str) -> None:
        self.setting = setting
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._budget = budget
        self._batch_of: dict[str, list[str]] = {}
        self._vectors: dict[str, _Vector] = {}

    def expect(self, requests: Iterable[Request]) -> int:
        """Fix which texts are encoded together, and count them."""
        texts = {_text(request) for request in requests}
        self._plan(texts)
        return len(texts)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        texts = [_text(request) for request in requests]
        unannounced = {text for text in texts if text not in self._batch_of}
        self._plan(unannounced)
        for place, text in enumerate(texts):
            tokens = work = 0
            if text not in self._vectors:
                tokens, work = self._encode(self._batch_of[text]), len(self._batch_of[text])
            vector = self._vectors[text]
            yield place, Answer(vector.values, vector.truncated, tokens, work)
        for text in unannounced:  # a stream may never end: what nobody announced is not kept
            del self._batch_of[text], self._vectors[text]

    def _plan(self, texts: Iterable[str]) -> None:
        # characters stand for tokens: counting those of a whole job would mean keeping or repeating them
        ordered = sorted(texts, key=lambda text: (len(text), text))
        estimates = [min(len(text) // 3 + 2, self._max_length) for text in ordered]
        for batch in batches(estimates, self._budget):
            together = [ordered[place] for place in batch]
            self._batch_of.update(dict.fromkeys(together, together))

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> int:
        """Keep the vectors of `texts`, and tell how many tokens they have."""
        encoded = self._tokenizer(texts, truncation=True, max_length=self._max_length, split_special_tokens=True)
        rows: list[list[int]] = encoded["input_ids"]
        means = self._means(rows)
        odd = (~means.isfinite().all(-1)).nonzero().flatten().tolist()
        if odd and self._model.dtype != torch.float32:
            with in_float32(self._model):
                means[odd] = self._means([rows[row] for row in odd])
        for text, values, encoding in zip(texts, means.numpy(), encoded.encodings, strict=True):
            self._vectors[text] = _Vector(values, bool(encoding.overflowing))
        return sum(map(len, rows))

    def _means(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Rows of token ids -> [rows, size], float32 on the CPU."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.long)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        ids, mask = ids.to(self._model.device), mask.to(self._model.device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weights = mask.unsqueeze(-1).float()
        means: torch.Tensor = (hidden * weights).sum(1) / weights.sum(1)
        return means.cpu()


def _text(request: Request) -> str:
    if not isinstance(request, Embedding):
        raise TypeError(f"an encoder answers Embedding requests, not {type(request).__name__}")
    return request.text
