"""Models that read a prompt: a head computes the values of the answer from the hidden state of its last token.

A backbone reads the prompts: `packed.py` is for plain causal models, `padded.py` for other causal models, `seq2seq.py`
for models with an encoder. `PromptTokenizer` and `PairTokenizer` make the prompts, `LabelHead` and `ScoreHead` read the
hidden states.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from lbr_cli.core import Request
from lbr_cli.engines.local.batching import TokenBudget
from lbr_cli.engines.local.engine import LocalEngine
from lbr_cli.engines.prompts import Prompt, Tokenizes, check_room, distinct_prompts, prefix_keys


class Backbone(Protocol):
    """Prompts -> hidden states."""

    attention: str  # which tokens attend to each other, in a few words
    model: Any

    def read(
        self, prompts: Sequence[Prompt], keys: Sequence[Hashable], budget: TokenBudget
    ) -> Iterator[tuple[list[Prompt], int, torch.Tensor]]:
        """Yield batches of prompts, their numbers of tokens read, and the hidden states of their last tokens.

        The states are float32, [prompts, hidden size]. `keys` are equal for prompts that begin alike.
        """


class Head(Protocol):
    """Hidden states -> the values of answers."""

    def check(self, request: Any) -> None:
        """Raise MissingError for a request whose values this head cannot compute."""

    def __call__(self, hidden: torch.Tensor, request: Any) -> list[list[float]]:
        """Return the values for each row of [rows, hidden size], all with the labels of `request`."""


class PromptEngine(LocalEngine[Prompt]):
    """Answers `NextToken`, `Classification` or `Pair` requests."""

    def __init__(
        self, backbone: Backbone, batch_tokens: int, description: str, tokenizer: Tokenizes, head: Head
    ) -> None:
        super().__init__(backbone.model, batch_tokens, description)
        self.attention = backbone.attention
        self._backbone = backbone
        self._tokenizer = tokenizer
        self._head = head

    def check(self, requests: Iterable[Request]) -> None:
        """Raise MissingError for an unknown label, RequestError for a query that leaves no room for a document."""
        for request in distinct_prompts(requests):
            self._head.check(request)
            check_room(self._tokenizer, request)

    def _inputs(self, requests: Sequence[Request]) -> list[Prompt]:
        self._head.check(requests[0])  # looks up the labels in the thread that may call the tokenizer
        return [self._tokenizer.prompt(request) for request in requests]

    def _values(self, inputs: list[Prompt], budget: TokenBudget) -> Iterator[tuple[list[Prompt], int, list[Any]]]:
        keys = prefix_keys([prompt.request for prompt in inputs])
        for batch, tokens, hidden in self._backbone.read(inputs, keys, budget):
            # the requests of one family have the same labels
            yield batch, tokens, self._head(hidden, batch[0].request)
