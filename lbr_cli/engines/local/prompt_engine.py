"""Models that read a prompt: a head computes the values of the answer from the hidden state of its last token.

A backbone reads the prompts: `packed.py` plain causal models, `padded.py` other causal ones, `seq2seq.py` models with
an encoder. `PromptTokenizer` and `PairTokenizer` make the prompts, `LabelHead` and `ScoreHead` read the hidden states.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from lbr_cli.core import Answer, Batch, Request
from lbr_cli.engines.local.batching import TokenBudget, chunks, prepared_ahead, window_size
from lbr_cli.engines.prompts import Prompt, Tokenizes, check_room, distinct_prompts, prefix_keys


class Backbone(Protocol):
    """Prompts -> hidden states."""

    attention: str  # which tokens see each other, in a few words
    model: Any

    def read(
        self, prompts: Sequence[Prompt], keys: Sequence[Hashable], budget: TokenBudget
    ) -> Iterator[tuple[list[Prompt], int, torch.Tensor]]:
        """Yield batches of prompts, how many tokens were read, and the hidden states of their last tokens.

        The states are float32, [prompts, hidden size]. `keys` are equal for prompts that begin alike.
        """
        ...


class Head(Protocol):
    """Hidden states -> the values of answers."""

    def check(self, request: Any) -> None:
        """Raise MissingError for a request whose values this head cannot compute."""
        ...

    def __call__(self, hidden: torch.Tensor, request: Any) -> list[list[float]]: ...


class PromptEngine:
    """Answers `NextToken` or `Pair` requests."""

    def __init__(
        self, backbone: Backbone, tokenizer: Tokenizes, head: Head, batch_tokens: int, description: str
    ) -> None:
        self.description = description
        self.attention = backbone.attention
        self.model = backbone.model
        self.window = window_size(batch_tokens)
        self._backbone = backbone
        self._tokenizer = tokenizer
        self._head = head
        self._batch_tokens = batch_tokens

    def check(self, requests: Iterable[Request]) -> None:
        """Raise MissingError for an unknown label, RequestError for a query that leaves no room for a document."""
        for request in distinct_prompts(requests):
            self._head.check(request)
            check_room(self._tokenizer, request)

    @torch.inference_mode()
    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Yield answers batch by batch; the batches of a window are chosen from all its requests."""
        budget = TokenBudget(self._batch_tokens)
        for requests, prompts in prepared_ahead(chunks(windows, self.window), self._prompts):
            for batch, tokens, hidden in self._backbone.read(prompts, prefix_keys(requests), budget):
                values = self._head(hidden, requests[0])  # the requests of one family have the same labels
                answers = [
                    (prompt.request, Answer(row, prompt.truncated)) for prompt, row in zip(batch, values, strict=True)
                ]
                yield Batch(answers, tokens)

    def _prompts(self, requests: Sequence[Request]) -> list[Prompt]:
        self._head.check(requests[0])  # looks up the labels here, where the tokenizer may be called
        return [self._tokenizer.prompt(request) for request in requests]
