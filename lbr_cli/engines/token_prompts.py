"""Prompts as token ids, for engines that compute elsewhere: a tokenizer, a limit, and the token ids of labels."""

from __future__ import annotations

from collections.abc import Iterable

from lbr_cli.core import Document, NextToken, Request
from lbr_cli.engines import UNLIMITED, ComputeSpec, Settings
from lbr_cli.engines.label_ids import LabelIds
from lbr_cli.engines.pretrained import check_vocabulary, choose_length, load_config, load_tokenizer, longest_input
from lbr_cli.engines.prompts import (
    Prompt,
    PromptTokenizer,
    check_family,
    check_room,
    decode_with_special_tokens,
    distinct_prompts,
    narrowed,
    prompt_digest,
)
from lbr_cli.models import LocalModel
from lbr_cli.models.sentence_transformers import read_first_module

ANSWER_TOKENS = 1


class TokenPrompts:
    """`NextToken` requests -> token ids of prompts and of labels, equal to those of the local engine."""

    def __init__(self, model: LocalModel, settings: Settings, engine: str, limit: int = UNLIMITED) -> None:
        """Read the tokenizer. `limit` is the engine's own limit of prompt and answer in tokens, if any.

        Raises UsageError for a family that the engine does not support and for an impossible length, MissingError for
        files that cannot be used.
        """
        check_family(model.family, engine)
        self._tokenizer, self._source, _ = load_tokenizer(model, settings.tokenizer)
        has_config = model.gguf or (model.config_folder / "config.json").exists()  # a folder may hold a tokenizer alone
        config = load_config(model) if has_config else None
        longest = min(longest_input(self._tokenizer, config), limit) - ANSWER_TOKENS
        usual = None if model.gguf else read_first_module(model.folder).limit
        self.max_length = choose_length(model, settings, longest, 1, usual)
        self._model = model
        self._prompts = PromptTokenizer(self._tokenizer, self.max_length, model.name)
        self._label_ids = LabelIds(self._tokenizer, model.name)
        # raises now, before any pair, if the prompt cannot be used
        sample = narrowed(NextToken, model.family.requests("", Document("", ""))[0])
        self._prompts.length_without_document(sample)
        self._prompts.check_special_tokens(sample)
        rows = getattr(config, "vocab_size", None)
        if isinstance(rows, int):
            check_vocabulary(self._tokenizer, rows, model, self._prompts.ids_without_document(sample))

    def spec(self, device: str, dtype: str, weights: str = "") -> ComputeSpec:
        """Return the choices on which a score depends; the engine computes on `device` in `dtype`."""
        family = self._model.family
        digest, dated = prompt_digest(family, lambda request: self.prompt(request).ids, self._tokenizer)
        return ComputeSpec(device, dtype, self.max_length, digest, dated, weights, self._source)

    def check(self, requests: Iterable[Request]) -> None:
        """Raise RequestError for a query without room for a document, MissingError for a label that is no token."""
        for request in distinct_prompts(requests):
            self.label_ids(request)
            check_room(self._prompts, request)

    def prompt(self, request: Request) -> Prompt:
        """Return the prompt of a request. RequestError if the query leaves no room for the document."""
        return self._prompts.prompt(narrowed(NextToken, request))

    def text(self, ids: list[int]) -> str:
        """Return token ids as text, special tokens written out."""
        return decode_with_special_tokens(self._tokenizer, ids)

    def label_ids(self, request: Request) -> list[int]:
        """Return a token id for each label of a request. MissingError for a label without a token."""
        return self._label_ids(narrowed(NextToken, request))
