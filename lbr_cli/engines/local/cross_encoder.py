"""Encoders as cross-encoders: query and document in one input, one or two logits out.

Inputs are computed in batches sorted by length; the head computes in float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import Pair, Request
from lbr_cli.engines.local.batching import TokenBudget, padded_batches, padded_rows
from lbr_cli.engines.local.engine import LocalEngine
from lbr_cli.engines.local.pair_tokenizer import PairInput, PairTokenizer
from lbr_cli.engines.local.self_check import running
from lbr_cli.engines.prompts import check_room, distinct_prompts, narrowed
from lbr_cli.errors import MissingError


class CrossEncoder(LocalEngine[PairInput]):
    """Answers `Pair` requests with the model's logits."""

    def __init__(
        self, model: Any, batch_tokens: int, description: str, tokenizer: PairTokenizer, arithmetic: torch.dtype
    ) -> None:
        if any(getattr(module, "is_causal", False) for module in model.modules()):
            raise MissingError(f"unsupported model: a {type(model).__name__} is causal, and its head is unknown")
        super().__init__(model, batch_tokens, description)
        self._tokenizer = tokenizer
        takes = inspect.signature(model.forward).parameters
        self._takes_types = "token_type_ids" in takes or any(one.kind is one.VAR_KEYWORD for one in takes.values())
        parts = dict(model.named_children())
        if model.base_model_prefix in parts:  # otherwise it is unknown which parts are the head
            del parts[model.base_model_prefix]
            for part in parts.values():
                part.float().register_forward_pre_hook(_to_float32)
        self._check_padding(1e-3 if arithmetic == torch.float32 else 0.5)

    @torch.inference_mode()
    def _check_padding(self, tolerance: float) -> None:
        """MissingError for a model whose score of a pair depends on the padding, such as XLNet, which pads on the left.

        `tolerance` is relative to the score, or absolute below 1.
        """
        longest = min(self._tokenizer.max_length, 64)
        short, long = self._tokenizer.inputs([Pair("", "a"), Pair("", "a " * longest)])
        with running(self.model):
            alone, padded = self._logits([short])[0], self._logits([short, long])[0]
        if ((alone - padded).abs() > tolerance * alone.abs().clamp(min=1)).any():
            name = type(self.model).__name__
            raise MissingError(f"unsupported model: the scores of a {name} depend on padding")

    def check(self, requests: Iterable[Request]) -> None:
        """Raise RequestError for a query that leaves no room for a document."""
        for request in distinct_prompts(requests):
            check_room(self._tokenizer, narrowed(Pair, request))

    def _inputs(self, requests: Sequence[Request]) -> list[PairInput]:
        self.check(requests)
        return self._tokenizer.inputs([narrowed(Pair, request) for request in requests])

    def _values(self, inputs: list[PairInput], budget: TokenBudget) -> Iterator[tuple[list[PairInput], int, list[Any]]]:
        for batch, tokens, logits in padded_batches(inputs, budget, self.model, self._logits):
            yield batch, tokens, logits.tolist()

    def _logits(self, batch: Sequence[PairInput]) -> torch.Tensor:
        """[inputs, labels], float32 on the CPU."""
        ids, mask = padded_rows([one.ids for one in batch], self.model.device, self._tokenizer.pad)
        types = [one.types for one in batch if one.types is not None]
        more = {}
        if self._takes_types and types:
            more["token_type_ids"], _ = padded_rows(types, self.model.device)
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, **more).logits
        return logits.float().cpu()


def _to_float32(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.float() if torch.is_tensor(one) and one.is_floating_point() else one for one in arguments)
