"""Encoders as cross-encoders: query and document in one input, one number out.

The input is the pair as the tokenizer joins it; only the document is shortened. Texts are computed in batches sorted
by length; the head computes in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import Answer, Pair, Request
from lbr_cli.engines.local.encoder import padded
from lbr_cli.engines.local.loading import in_float32
from lbr_cli.engines.local.plan import Budget, ahead, in_batches
from lbr_cli.errors import RequestError

CHUNK = 1024  # pairs: tokenised while those before are computed


class CrossEncoder:
    """Answers `Pair` requests with the model's one logit."""

    def __init__(
        self, model: Any, tokenizer: Any, max_length: int, budget: Budget, setting: str, *, wide: bool
    ) -> None:
        self.setting = setting
        self._model = model
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._budget = budget
        self._half = model.dtype != torch.float32 and not wide
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
        starts = range(0, len(pairs), CHUNK)
        for start, encoded in ahead((start, self._encode(pairs[start : start + CHUNK])) for start in starts):
            rows, kinds = encoded["input_ids"], encoded.get("token_type_ids")
            sizes = [len(row) for row in rows]
            order = sorted(range(len(rows)), key=lambda place: -sizes[place])

            def compute(batch: list[int], rows: Any = rows, kinds: Any = kinds) -> torch.Tensor:
                return self._logits(
                    [rows[place] for place in batch], [kinds[place] for place in batch] if kinds else None
                )

            try:
                for batch, logits in in_batches(order, sizes, self._budget, compute, padded=True):
                    odd = (~logits.isfinite()).nonzero().flatten().tolist()
                    if odd and self._half:
                        with in_float32(self._model):
                            logits[odd] = torch.cat([compute([batch[row]]) for row in odd])
                    for place, logit in zip(batch, logits.tolist(), strict=True):
                        yield start + place, Answer([logit], bool(encoded.encodings[place].overflowing), sizes[place])
            except RequestError as error:
                raise type(error)(str(error), start + error.place, hint=error.hint) from error

    def _encode(self, pairs: Sequence[Pair]) -> Any:
        return encode(self._tokenizer, self._max_length, pairs)

    def _logits(self, rows: Sequence[list[int]], kinds: Sequence[list[int]] | None) -> torch.Tensor:
        """Rows of token ids -> [rows], float32 on the CPU."""
        ids, mask = padded(rows, self._model.device, self._pad)
        more = {} if kinds is None else {"token_type_ids": padded(kinds, self._model.device)[0]}
        logits: torch.Tensor = self._model(input_ids=ids, attention_mask=mask, **more).logits
        return logits[:, 0].float().cpu()


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
