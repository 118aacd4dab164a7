"""Decoder-only models: the log-probabilities of some tokens at the place where the answer begins.

`packed.py` reads the prompts where the model allows it, `padded.py` where not; which one, and why, `setting` tells.
Only the last token's hidden state of each prompt reaches the head.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

import torch

from lbr_cli.core import Answer, NextToken, Request
from lbr_cli.engines.local.compiling import Compiling
from lbr_cli.engines.local.head import Head
from lbr_cli.engines.local.packed import Packed, why_not
from lbr_cli.engines.local.padded import Padded
from lbr_cli.engines.local.plan import Budget, ahead
from lbr_cli.engines.local.prompts import Chat, NoRoom, Prompt
from lbr_cli.errors import MissingError, RequestError

CHUNK = 256  # prompts made while those before are computed


class Causal:
    """Answers `NextToken` requests."""

    def __init__(
        self, model: Any, chat: Chat, budget: Budget, compiling: Compiling, setting: str, *, plain: bool
    ) -> None:
        self.padded_because = "comparison" if plain else why_not(model)
        self._setting = setting
        self._model = model
        self._chat = chat
        self._budget = budget
        self._compiling = compiling
        self._head = Head(model)
        self._reader = Padded(model) if self.padded_because else Packed(model)
        self._label_ids: dict[tuple[str, ...], list[int]] = {}
        self._together: dict[NextToken, list[NextToken]] = {}
        self._answers: dict[NextToken, Answer] = {}
        self._calls = count()

    @property
    def setting(self) -> str:
        padded = f", padded for {self.padded_because}" if self.padded_because else ""
        return f"{self._setting}{padded}{', compiled' if self._compiling.done else ''}"

    def expect(self, requests: Iterable[Request]) -> int:
        """Look up the labels, and refuse now a query that leaves no room for a document.

        Where the documents come first, fix which requests are computed together: those of one document, whichever
        query asks.
        """
        frames: set[tuple[str, str, str]] = set()
        pairs = 0
        for place, request in enumerate(requests):
            pairs += 1
            asked = _next_token(request)
            frame = (asked.system, asked.before, asked.after)
            if frame in frames:
                continue
            frames.add(frame)
            self._labels(asked.labels)
            used = self._chat.length_without_document(asked)
            if used >= self._chat.max_length:
                raise _no_room(used, self._chat.max_length, place)
        if len({after for _, _, after in frames}) > len({before for _, before, _ in frames}):
            self._plan_by_document(requests)
        if not self.padded_because:
            self._compiling.expect(pairs, self._model)
        return pairs

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        asked = [_next_token(request) for request in requests]
        others = []
        for place, request in enumerate(asked):
            if request in self._together:
                yield place, self._planned(request, place)
            else:
                others.append(place)
        # numbered, so that what the last call kept is not used: which one that was must not show in a score
        call = next(self._calls)
        groups = [(call, asked[place].system, asked[place].before) for place in others]
        yield from self._compute(asked, others, groups)

    def _plan_by_document(self, requests: Iterable[Request]) -> None:
        of_document: dict[tuple[int, str, str, str], dict[NextToken, None]] = {}
        for request in requests:
            asked = _next_token(request)
            key = (len(asked.document), asked.document, asked.before, asked.system)
            of_document.setdefault(key, {})[asked] = None
        chunk: list[NextToken] = []
        for _, together in sorted(of_document.items(), key=lambda item: item[0]):
            chunk += sorted(together, key=lambda request: request.after)
            self._together.update(dict.fromkeys(together, chunk))
            if len(chunk) >= CHUNK:
                chunk = []

    def _planned(self, request: NextToken, place: int) -> Answer:
        """The answer to a request whose company `expect` has fixed; the whole chunk's is computed with the first."""
        tokens = work = 0
        if request not in self._answers:
            chunk = self._together[request]
            groups = [(other.system, other.before, other.document) for other in chunk]
            try:
                for other, answer in self._compute(chunk, range(len(chunk)), groups):
                    self._answers[chunk[other]] = Answer(answer.values, answer.truncated, 0, 0)
                    tokens, work = tokens + answer.tokens, work + 1
            except RequestError as error:
                raise error.at(place) from error
        answer = self._answers[request]
        return Answer(answer.values, answer.truncated, tokens, work)

    def _compute(
        self, asked: Sequence[NextToken], places: Sequence[int], groups: Sequence[Hashable]
    ) -> Iterator[tuple[int, Answer]]:
        """Answers to some of the requests; each of `places` has its group, the prompts of which begin alike."""

        def chunks() -> Iterator[tuple[Sequence[int], Sequence[Hashable], list[Prompt]]]:
            for start in range(0, len(places), CHUNK):
                chunk = places[start : start + CHUNK]
                prompts = [prompt_for(self._chat, asked[place], place) for place in chunk]
                yield chunk, groups[start : start + CHUNK], prompts

        for chunk, alike, prompts in ahead(chunks()):
            rows = [prompt.ids for prompt in prompts]
            labels = self._labels(asked[chunk[0]].labels)  # one family asks, so all have the same
            try:
                for batch, hidden in self._reader.read(rows, alike, self._budget):
                    logits, normaliser = self._head(hidden, labels)
                    for place, row in zip(batch, (logits - normaliser).tolist(), strict=True):
                        yield chunk[place], Answer(row, prompts[place].truncated, len(rows[place]))
            except RequestError as error:
                raise error.at(chunk[error.place]) from error

    def _labels(self, labels: tuple[str, ...]) -> list[int]:
        """The one token id of each label."""
        if labels not in self._label_ids:
            ids = [self._chat.tokenizer(label, add_special_tokens=False)["input_ids"] for label in labels]
            for label, tokens in zip(labels, ids, strict=True):
                if len(tokens) != 1 or self._chat.tokenizer.decode(tokens) != label:
                    raise MissingError(f"{self._chat.model}: its tokenizer has no single token for the label {label!r}")
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
