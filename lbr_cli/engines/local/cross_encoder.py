"""Encoders as cross-encoders: query and document in one input, one or two numbers out.

Inputs are computed in batches sorted by length; the head computes in float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import Answer, Answered, Pair, Request
from lbr_cli.engines.local.loading import finite
from lbr_cli.engines.local.pairs import Pairs, as_pair
from lbr_cli.engines.local.plan import Budget, ahead, in_batches, longest_first, padded
from lbr_cli.engines.local.self_check import running
from lbr_cli.engines.prompts import NoRoom
from lbr_cli.errors import MissingError, RequestError

CHUNK = 1024  # pairs: tokenised while those before are computed


class CrossEncoder:
    """Answers `Pair` requests with the model's logits."""

    attention = "padded batches of similar lengths, masked"

    def __init__(
        self, model: Any, pairs: Pairs, pad: int, budget: Budget, setting: str, arithmetic: torch.dtype
    ) -> None:
        if any(getattr(module, "is_causal", False) for module in model.modules()):
            raise MissingError(f"a {type(model).__name__} reads from left to right, in a way that lbr does not know")
        self.setting = setting
        self._model = model
        self._pairs = pairs
        self._budget = budget
        self._pad = pad
        takes = inspect.signature(model.forward).parameters
        self._takes_kinds = "token_type_ids" in takes or any(one.kind is one.VAR_KEYWORD for one in takes.values())
        parts = dict(model.named_children())
        if model.base_model_prefix in parts:  # else what is head and what is not cannot be known
            del parts[model.base_model_prefix]
            for part in parts.values():
                part.float().register_forward_pre_hook(_in_float32)
        self._prove(1e-3 if arithmetic == torch.float32 else 0.5)

    @torch.inference_mode()
    def _prove(self, allowed: float) -> None:
        """MissingError for a model that gives a pair another score beside a longer one than alone.

        It reads padding: XLNet, say, which wants it on the left. `allowed` is how far they may lie apart, as a share
        of the score but at least of 1.
        """
        longest = min(self._pairs.max_length, 64)
        encoded = self._pairs.encoded([Pair("", "a"), Pair("", "a " * longest)])
        rows, kinds = self._inputs(encoded)
        with running(self._model):
            alone, beside = self._logits(rows, kinds, [0])[0], self._logits(rows, kinds, [0, 1])[0]
        if ((alone - beside).abs() > allowed * alone.abs().clamp(min=1)).any():
            raise MissingError(f"a {type(self._model).__name__} reads padding, in a way that lbr does not know")

    def expect(self, requests: Iterable[Request]) -> int:
        """Refuse now a query that leaves no room for a document."""
        seen: set[str] = set()
        count = 0
        for place, request in enumerate(requests):
            count += 1
            pair = as_pair(request)
            if pair.query not in seen:
                seen.add(pair.query)
                self._check_room(pair, place)
        return count

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        pairs = [as_pair(request) for request in requests]
        for place in {pair.query: place for place, pair in enumerate(pairs)}.values():
            self._check_room(pairs[place], place)

        def chunks() -> Iterator[tuple[int, Any]]:
            for start in range(0, len(pairs), CHUNK):
                yield start, self._pairs.encoded(pairs[start : start + CHUNK])

        for start, encoded in ahead(chunks()):
            try:
                for batch in self._compute(encoded):
                    yield [(requests[start + place], answer) for place, answer in batch]
            except RequestError as error:
                raise error.at(start + error.place) from error

    def _check_room(self, pair: Pair, place: int) -> None:
        used = self._pairs.length_without_document(pair)
        if used >= self._pairs.max_length:
            raise NoRoom(used).at(place, self._pairs.max_length)

    def _compute(self, encoded: Any) -> Iterator[list[tuple[int, Answer]]]:
        """The answers to pairs that the tokenizer has joined."""
        rows, kinds = self._inputs(encoded)
        sizes = [len(row) for row in rows]

        def compute(batch: list[int]) -> torch.Tensor:
            logits = self._logits(rows, kinds, batch)
            return finite(logits, self._model, lambda place: self._logits(rows, kinds, [batch[place]]))

        for batch, logits in in_batches(longest_first(sizes), sizes, self._budget, compute, to_longest=True):
            yield [
                (place, Answer(logit, bool(encoded.encodings[place].overflowing), sizes[place]))
                for place, logit in zip(batch, logits.tolist(), strict=True)
            ]

    def _inputs(self, encoded: Any) -> tuple[list[list[int]], list[list[int]] | None]:
        """Rows of token ids, and of token types where the model takes them.

        A tokenizer that adds nothing makes nothing of two empty texts: they are read as one token of padding.
        """
        kinds = encoded.get("token_type_ids") if self._takes_kinds else None
        rows = [row or [self._pad] for row in encoded["input_ids"]]
        return rows, None if kinds is None else [row or [0] for row in kinds]

    def _logits(self, rows: Sequence[list[int]], kinds: Sequence[list[int]] | None, batch: list[int]) -> torch.Tensor:
        """Rows of token ids and of token types, and places among them -> [places, labels], float32 on the CPU."""
        ids, mask = padded([rows[place] for place in batch], self._model.device, self._pad)
        more = {}
        if kinds is not None:
            more["token_type_ids"], _ = padded([kinds[place] for place in batch], self._model.device)
        logits: torch.Tensor = self._model(input_ids=ids, attention_mask=mask, **more).logits
        return logits.float().cpu()


def _in_float32(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        argument.float() if isinstance(argument, torch.Tensor) and argument.is_floating_point() else argument
        for argument in arguments
    )
