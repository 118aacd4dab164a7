"""What an engine needs that sends prompts as token ids elsewhere: a tokenizer, a limit, and the ids of labels."""

from __future__ import annotations

from collections.abc import Iterable

from lbr_cli.core import Document, NextToken, Request
from lbr_cli.engines import UNLIMITED, Settings, Terms
from lbr_cli.engines.announced import Announced, look_over
from lbr_cli.engines.labels import Labels
from lbr_cli.engines.pretrained import (
    check_vocabulary,
    choose_length,
    load_config,
    load_tokenizer,
    longest_input,
)
from lbr_cli.engines.prompts import Prompt, Prompts, check_room, digest_of, prompt_for, spelt_out
from lbr_cli.errors import UsageError
from lbr_cli.models import Model

ANSWER = 1  # token


class TokenIds:
    """`NextToken` requests -> token ids of prompts and of labels, as the local engine makes them."""

    def __init__(self, model: Model, settings: Settings, engine: str, limit: int = UNLIMITED) -> None:
        """Reads the tokenizer. `limit` is what the engine reads of prompt and answer, if that is less than the model.

        Raises UsageError for a family that the engine cannot serve and for a length that makes no sense, MissingError
        for files that cannot be used.
        """
        check_family(model, engine)
        self._tokenizer = load_tokenizer(model)
        has_config = model.gguf or (model.place / "config.json").exists()  # a folder may hold a tokenizer alone
        config = load_config(model) if has_config else None
        rows = getattr(config, "vocab_size", None)
        if isinstance(rows, int):
            check_vocabulary(self._tokenizer, rows, model)
        most = min(longest_input(self._tokenizer, config), limit) - ANSWER
        self.max_length = choose_length(model, settings, most, 1)
        self._model = model
        self._prompts = Prompts(self._tokenizer, self.max_length, model.name)
        self._labels = Labels(self._tokenizer, model.name)
        # a template that cannot be used is told now
        self._prompts.length_without_document(next_token(model.known_family.requests("", Document("", ""))[0]))

    def terms(self, device: str, dtype: str, weights: str = "") -> Terms:
        digest, dated = digest_of(self._model.known_family, lambda request: self.prompt(request).ids, self._tokenizer)
        return Terms(device, dtype, self.max_length, digest, dated, weights)

    def look_over(self, requests: Iterable[Request]) -> Announced:
        """Refuse a query that leaves no room for a document, and a label that is no token."""

        def check(request: Request, place: int) -> None:
            self.labels(request)
            check_room(self._prompts, request, place)

        return look_over(requests, check)

    def prompt(self, request: Request, place: int = 0) -> Prompt:
        """The ids of a prompt. RequestError with its place where the query leaves no room for the document."""
        return prompt_for(self._prompts, request, place)

    def text(self, ids: list[int]) -> str:
        """Token ids as text, special tokens spelt out."""
        return spelt_out(self._tokenizer, ids)

    def labels(self, request: Request) -> list[int]:
        """A token for each label. MissingError where the tokenizer has none."""
        return self._labels.ids(next_token(request))


def check_family(model: Model, engine: str) -> None:
    """UsageError for a family that asks something else than the probabilities of labels."""
    asks = model.known_family.requests("", Document("", ""))[0]
    if not isinstance(asks, NextToken):
        raise UsageError(f"--engine {engine}: it tells probabilities of tokens, and {model.name} is asked otherwise")
    if asks.raw:
        family = model.known_family.name
        raise UsageError(f"--engine {engine}: it tells probabilities of tokens, and the family {family} reads logits")


def next_token(request: Request) -> NextToken:
    """The request of a family that asks for a token."""
    if not isinstance(request, NextToken):
        raise TypeError(f"a NextToken request was expected, not {type(request).__name__}")
    return request
