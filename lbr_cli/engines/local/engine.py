"""The base class of local engines: a thread tokenizes requests ahead, and the model computes them batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic

import torch

from lbr_cli.core import Answer, Batch, Request
from lbr_cli.engines.local.batching import Row, TokenBudget, chunks, prepared_ahead, window_size
from lbr_cli.engines.local.bert import AnyBert


class LocalEngine(ABC, Generic[Row]):
    """An engine on this machine. `attention` describes in a few words which tokens attend to each other."""

    attention = "padded batches of similar lengths, masked"

    def __init__(self, model: Any, batch_tokens: int, description: str) -> None:
        self.model = model
        if isinstance(model, AnyBert):
            self.attention = "text by text, without padding"
        self.description = description
        self.window = window_size(batch_tokens)
        self._batch_tokens = batch_tokens

    @abstractmethod
    def check(self, requests: Iterable[Request]) -> None:
        """Raise RequestError for a request that cannot be answered."""

    @torch.inference_mode()
    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Yield answers batch by batch; the batches are chosen from all requests of a chunk of a window."""
        budget = TokenBudget(self._batch_tokens)
        for inputs in prepared_ahead(chunks(windows, self.window), self._inputs):
            for batch, tokens, values in self._values(inputs, budget):
                answers = [(item.request, self._answer(item, row)) for item, row in zip(batch, values, strict=True)]
                yield Batch(answers, tokens)

    def _answer(self, item: Row, values: Any) -> Answer:
        """Return the answer to the request of an input."""
        return Answer(values, item.truncated)

    @abstractmethod
    def _inputs(self, requests: Sequence[Request]) -> list[Row]:
        """Return the inputs of requests; called in the only thread that may use the tokenizer."""

    @abstractmethod
    def _values(self, inputs: list[Row], budget: TokenBudget) -> Iterator[tuple[list[Row], int, Sequence[Any]]]:
        """Yield batches of inputs, their numbers of tokens read, and the values of each answer."""
