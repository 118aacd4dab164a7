"""Late-interaction models: a text after its prompt -> a vector for each of its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lbr_cli.core import Answer, Request
from lbr_cli.engines.local.batching import TokenBudget, batches, padded_rows
from lbr_cli.engines.local.bert import Bert
from lbr_cli.engines.local.engine import LocalEngine
from lbr_cli.engines.local.loading import recompute_nonfinite
from lbr_cli.engines.local.pooling import Step, normalise, read_dense, read_linear
from lbr_cli.engines.local.token_tokenizer import TokenInput, TokenTokenizer
from lbr_cli.models.late_interaction import LateFolder


@dataclass(frozen=True, slots=True)
class TokenProjection:
    """Hidden states -> vectors of tokens, [..., size], float32: linear layers, then normalisation."""

    steps: tuple[Step, ...]

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        for step in self.steps:
            hidden = step(hidden)
        return hidden


def read_projection(folder: Path, settings: LateFolder) -> TokenProjection:
    """Read the layers after the encoder. MissingError for layers that lbr does not support."""
    steps = [read_linear(folder)] if settings.linear else []
    steps += [read_dense(path, "token_embeddings") for path in settings.dense]
    return TokenProjection((*steps, normalise) if settings.normalized else tuple(steps))


class TokenEncoder(LocalEngine[TokenInput]):
    """Answers `TokenEmbeddings` requests with matrices (NumPy, float32)."""

    def __init__(
        self, model: Any, batch_tokens: int, description: str, projection: TokenProjection, tokenizer: TokenTokenizer
    ) -> None:
        super().__init__(model, batch_tokens, description)
        self._projection = projection
        self._tokenizer = tokenizer

    def check(self, requests: Iterable[Request]) -> None:
        """Accept all requests: any text can be encoded."""

    def _inputs(self, requests: Sequence[Request]) -> list[TokenInput]:
        return self._tokenizer.encode(requests)

    def _answer(self, item: TokenInput, values: Any) -> Answer:
        return Answer(values, item.truncated, item.tokens)

    def _values(self, inputs: list[TokenInput], budget: TokenBudget) -> Iterator[tuple[list[TokenInput], int, Any]]:
        """Yield batches of similar lengths, the longest first."""
        ordered = sorted(inputs, key=lambda text: -len(text.ids))
        sizes = [len(text.ids) for text in ordered]
        for batch, matrices in batches(ordered, sizes, budget, self._matrices, padded=True):
            yield batch, sum(len(text.ids) for text in batch), matrices

    def _matrices(self, batch: list[TokenInput]) -> list[Any]:
        """Return a matrix for each input; non-finite matrices are computed again in float32."""
        width = len(batch[0].ids)
        vectors = recompute_nonfinite(
            self._vectors(batch, width), self.model, lambda number: self._vectors([batch[number]], width)
        )
        return [vectors[position, text.rows].numpy() for position, text in enumerate(batch)]

    def _vectors(self, batch: Sequence[TokenInput], width: int) -> torch.Tensor:
        """Return vectors, [inputs, width, size], float32 on the CPU; 0 for tokens without a vector."""
        ids, kept = padded_rows([text.ids for text in batch], self.model.device, self._tokenizer.pad, width)
        attended, _ = padded_rows([text.attended for text in batch], self.model.device, 0, width)
        options = {"kept": kept} if isinstance(self.model, Bert) else {}
        hidden = self.model(input_ids=ids, attention_mask=attended, **options).last_hidden_state.float()
        counted = torch.zeros_like(ids, dtype=torch.bool)
        for position, text in enumerate(batch):
            counted[position, text.rows] = True
        return self._projection(hidden).masked_fill(~counted[..., None], 0.0).cpu()
