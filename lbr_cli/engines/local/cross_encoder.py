"""Encoders as cross-encoders: query and document in one input, one number out.

The input is the pair as the tokenizer joins it; only the document is shortened. Texts are computed in batches sorted
by length; the head computes in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import Answer, Pair, Request
from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.plan import Budget, ahead, in_batches, longest_first, padded
from lbr_cli.errors import MissingError, RequestError

CHUNK = 1024  # pairs: tokenised while those before are computed


class CrossEncoder:
    """Answers `Pair` requests with the model's one logit."""

    def __init__(self, model: Any, tokenizer: Any, max_length: int, budget: Budget, setting: str) -> None:
        labels = model.config.num_labels
        if labels != 1 or any(getattr(module, "is_causal", False) for module in model.modules()):
            what = f"has {labels} labels" if labels != 1 else "reads from left to right"
            raise MissingError(f"a {type(model).__name__} that {what} is not of the family classifier")
        self.setting = setting
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._budget = budget
        self._pad = tokenizer.pad_token_id or 0
        for name, part in model.named_children():
            if name != model.base_model_prefix:
                part.float().register_forward_pre_hook(_in_float32)

    def expect(self, requests: Iterable[Request]) -> int:
        """Refuse now a query that leaves no room for a document."""
        seen: set[str] = set()
        count = 0
        for place, request in enumerate(requests):
            count += 1
            query = _pair(request).query
            if query not in seen:
                seen.add(query)
                check_room(self._tokenizer, self._max_length, query, place)
        return count

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        pairs = [_pair(request) for request in requests]
        for query, place in {pair.query: place for place, pair in enumerate(pairs)}.items():
            check_room(self._tokenizer, self._max_length, query, place)

        def chunks() -> Iterator[tuple[int, Any]]:
            for start in range(0, len(pairs), CHUNK):
                yield start, encode(self._tokenizer, self._max_length, pairs[start : start + CHUNK])

        for start, encoded in ahead(chunks()):
            try:
                for place, answer in self._compute(encoded):
                    yield start + place, answer
            except RequestError as error:
                raise error.at(start + error.place) from error

    def _compute(self, encoded: Any) -> Iterator[tuple[int, Answer]]:
        """The answers to pairs that the tokenizer has joined."""
        rows, kinds = encoded["input_ids"], encoded.get("token_type_ids")
        sizes = [len(row) for row in rows]

        def compute(batch: list[int]) -> torch.Tensor:
            logits = self._logits(rows, kinds, batch)
            return finite(logits, self._model, lambda place: self._logits(rows, kinds, [batch[place]]))

        for batch, logits in in_batches(longest_first(sizes), sizes, self._budget, compute, to_longest=True):
            for place, logit in zip(batch, logits.tolist(), strict=True):
                yield place, Answer(logit, bool(encoded.encodings[place].overflowing), sizes[place])

    def _logits(self, rows: Sequence[list[int]], kinds: Sequence[list[int]] | None, batch: list[int]) -> torch.Tensor:
        """Rows of token ids and of token types, and places among them -> [places, 1], float32 on the CPU."""
        ids, mask = padded([rows[place] for place in batch], self._model.device, self._pad)
        more = {}
        if kinds is not None:
            more["token_type_ids"], _ = padded([kinds[place] for place in batch], self._model.device)
        logits: torch.Tensor = self._model(input_ids=ids, attention_mask=mask, **more).logits
        return logits.float().cpu()


def encode(tokenizer: Any, max_length: int, pairs: Sequence[Pair]) -> Any:
    """Pairs as the tokenizer joins them, documents shortened, special tokens spelt out in a text kept as text."""
    return tokenizer(
        [pair.query for pair in pairs],
        [pair.document for pair in pairs],
        truncation="only_second",
        max_length=max_length,
        split_special_tokens=True,
    )


def check_room(tokenizer: Any, max_length: int, query: str, place: int) -> None:
    """RequestError with its place for a query that leaves no room for one token of a document."""
    tokens = tokenizer(query, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    used = len(tokens) + tokenizer.num_special_tokens_to_add(pair=True)
    if used >= max_length:
        message = (
            f"the input has {used} tokens without a document and may have {max_length}, so the query leaves no room"
        )
        raise RequestError(message, place, hint="shorten the query or raise --max-length")


def _in_float32(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(argument.float() if isinstance(argument, torch.Tensor) else argument for argument in arguments)


def _pair(request: Request) -> Pair:
    if not isinstance(request, Pair):
        raise TypeError(f"a cross-encoder answers Pair requests, not {type(request).__name__}")
    return request
