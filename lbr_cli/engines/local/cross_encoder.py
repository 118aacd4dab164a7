"""Encoders as cross-encoders: query and document in one input, one or two logits out.

The logits are those of the model's classification head or, for a folder of sentence-transformers with modules after the
encoder, those that its modules compute from the hidden states (`pooling.py`). Inputs are computed in batches sorted by
length; the head computes in float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import Request
from lbr_cli.engines.local.batching import TokenBudget, padded_batches, padded_rows
from lbr_cli.engines.local.engine import LocalEngine
from lbr_cli.engines.local.pooling import Pooling
from lbr_cli.engines.local.self_check import running
from lbr_cli.engines.prompts import Prompt, Tokenizes, check_room, distinct_prompts
from lbr_cli.errors import MissingError


class CrossEncoder(LocalEngine[Prompt]):
    """Answers `Pair` or `Classification` requests with the model's logits. `samples` are a short and a long input."""

    def __init__(
        self,
        model: Any,
        batch_tokens: int,
        description: str,
        tokenizer: Tokenizes,
        arithmetic: torch.dtype,
        pooling: Pooling | None,
        samples: Sequence[Prompt],
    ) -> None:
        if pooling is None and any(getattr(module, "is_causal", False) for module in model.modules()):
            raise MissingError(f"unsupported model: a {type(model).__name__} is causal, and its head is unknown")
        super().__init__(model, batch_tokens, description)
        self._tokenizer = tokenizer
        self._pooling = pooling
        parameters = inspect.signature(model.forward).parameters
        has_keywords = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self._takes_types = "token_type_ids" in parameters or has_keywords
        parts = dict(model.named_children())
        if model.base_model_prefix in parts:  # otherwise it is unknown which parts are the head
            del parts[model.base_model_prefix]
            for part in parts.values():
                part.float().register_forward_pre_hook(_to_float32)
        self._check_padding(samples, 1e-3 if arithmetic == torch.float32 else 0.5)

    @torch.inference_mode()
    def _check_padding(self, samples: Sequence[Prompt], tolerance: float) -> None:
        """Raise MissingError for a model whose scores depend on padding, such as XLNet, which pads on the left.

        `tolerance` is relative to the score, or absolute below 1.
        """
        with running(self.model):
            alone, padded = self._logits(samples[:1])[0], self._logits(samples)[0]
        if ((alone - padded).abs() > tolerance * alone.abs().clamp(min=1)).any():
            name = type(self.model).__name__
            raise MissingError(f"unsupported model: the scores of a {name} depend on padding")

    def check(self, requests: Iterable[Request]) -> None:
        """Raise RequestError for a query that leaves no room for a document."""
        for request in distinct_prompts(requests):
            check_room(self._tokenizer, request)

    def _inputs(self, requests: Sequence[Request]) -> list[Prompt]:
        self.check(requests)
        return self._tokenizer.inputs(requests)

    def _values(self, inputs: list[Prompt], budget: TokenBudget) -> Iterator[tuple[list[Prompt], int, list[Any]]]:
        for batch, tokens, logits in padded_batches(inputs, budget, self.model, self._logits):
            yield batch, tokens, logits.tolist()

    def _logits(self, batch: Sequence[Prompt]) -> torch.Tensor:
        """Return the logits of inputs, [inputs, labels], float32 on the CPU."""
        ids, mask = padded_rows([prompt.ids for prompt in batch], self.model.device, self._tokenizer.pad)
        types = [prompt.types for prompt in batch if prompt.types is not None]
        options = {}
        if self._takes_types and types:
            options["token_type_ids"], _ = padded_rows(types, self.model.device)
        output = self.model(input_ids=ids, attention_mask=mask, **options)
        if self._pooling is None:
            return output.logits.float().cpu()  # type: ignore[no-any-return]
        return self._pooling(output.last_hidden_state.float(), mask, [0] * len(batch)).cpu()


def _to_float32(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.float() if torch.is_tensor(value) and value.is_floating_point() else value for value in inputs)
