"""Decoder-only models: the log-probabilities of some tokens at the place where the answer begins.

A prompt is padded on its right. In a causal model no token sees what stands to its right, so padding cannot touch a
score, no mask is needed, and attention keeps to its fast path. Only the last token's hidden state reaches the head.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import Answer, NextToken, Request
from lbr_cli.engines.local.head import Head
from lbr_cli.engines.local.loading import in_float32
from lbr_cli.engines.local.plan import batches
from lbr_cli.engines.local.prompts import Chat, NoRoom, Prompt
from lbr_cli.errors import MissingError, RequestError


class Causal:
    """Answers `NextToken` requests."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int, budget: int, name: str, setting: str) -> None:
        self.setting = setting
        self._model = model
        self._tokenizer = tokenizer
        self._chat = Chat(tokenizer, max_length, name)
        self._budget = budget
        self._name = name
        self._head = Head(model)
        self._label_ids: dict[tuple[str, ...], list[int]] = {}

    def expect(self, requests: Iterable[Request]) -> int:
        """Look up the labels, and refuse now a query that leaves no room for a document."""
        frames: set[tuple[str, str, str]] = set()
        count = 0
        for place, request in enumerate(requests):
            count += 1
            asked = _next_token(request)
            frame = (asked.system, asked.before, asked.after)
            if frame in frames:
                continue
            frames.add(frame)
            self._labels(asked.labels)
            used = self._chat.length_without_document(asked)
            if used >= self._chat.max_length:
                raise _no_room(used, self._chat.max_length, place)
        return count

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        asked = [_next_token(request) for request in requests]
        prompts = [prompt_for(self._chat, request, place) for place, request in enumerate(asked)]
        for batch in batches([len(prompt.ids) for prompt in prompts], self._budget):
            labels = self._labels(asked[batch[0]].labels)  # one family asks, so all have the same
            rows = [prompts[place].ids for place in batch]
            values = self._log_probabilities(rows, labels)
            odd = (~values.isfinite().all(-1)).nonzero().flatten().tolist()
            if odd and self._model.dtype != torch.float32:
                with in_float32(self._model):
                    values[odd] = self._log_probabilities([rows[row] for row in odd], labels)
            for place, row in zip(batch, values.tolist(), strict=True):
                yield place, Answer(row, prompts[place].truncated, len(prompts[place].ids))

    def _log_probabilities(self, rows: Sequence[list[int]], labels: list[int]) -> torch.Tensor:
        """Rows of token ids -> [rows, labels], natural log-probabilities of each label coming next, float32."""
        logits, normaliser = self._head(self._last_hidden(rows), labels)
        return logits - normaliser

    def _last_hidden(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Rows of token ids -> [rows, hidden size], what the model makes of the last token of each."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for row, tokens in enumerate(rows):
            ids[row, : len(tokens)] = torch.tensor(tokens)
        ids = ids.to(self._model.device)
        last = torch.tensor([len(tokens) - 1 for tokens in rows], device=ids.device)
        hidden: torch.Tensor = self._model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        return hidden[torch.arange(len(rows), device=ids.device), last]

    def _labels(self, labels: tuple[str, ...]) -> list[int]:
        """The one token id of each label."""
        if labels not in self._label_ids:
            ids = [self._tokenizer(label, add_special_tokens=False)["input_ids"] for label in labels]
            for label, tokens in zip(labels, ids, strict=True):
                if len(tokens) != 1 or self._tokenizer.decode(tokens) != label:
                    raise MissingError(f"{self._name}: its tokenizer has no single token for the label {label!r}")
            self._label_ids[labels] = [tokens[0] for tokens in ids]
        return self._label_ids[labels]


def prompt_for(chat: Chat, request: Request, place: int) -> Prompt:
    """The token ids of a request. RequestError with its place where the query leaves no room for the document."""
    try:
        return chat.prompt(_next_token(request))
    except NoRoom as error:
        raise _no_room(error.used, chat.max_length, place) from error


def _no_room(used: int, limit: int, place: int) -> RequestError:
    message = f"the prompt has {used} tokens without a document and may have {limit}, so the query leaves no room"
    return RequestError(message, place, hint="shorten the query or raise --max-length")


def _next_token(request: Request) -> NextToken:
    if not isinstance(request, NextToken):
        raise TypeError(f"a causal model answers NextToken requests, not {type(request).__name__}")
    return request
