"""Heads: the hidden state of a prompt's last token -> the values of an answer, in float32.

The weights of a vocabulary head in bfloat16 are converted to float32 a slice of the vocabulary at a time, so that no
second copy of them is kept, and the normalizer is accumulated from slice to slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import NextToken, Pair
from lbr_cli.engines.label_ids import LabelIds
from lbr_cli.engines.local.self_check import own_hidden_states, own_logits
from lbr_cli.errors import MissingError

SLICE = 16384
TOLERANCE, HALF_TOLERANCE = 1e-4, 0.02  # of the difference from the model's own logits, relative to the largest
TEST_LOGIT = 50.0  # the largest logit of the test: a cap would change it


class LMHead:
    """Hidden states -> logits of some tokens, and the log of the sum over the whole vocabulary."""

    def __init__(self, model: Any, rows: Sequence[list[int]]) -> None:
        self._layer = model.get_output_embeddings()
        if self._layer is None:
            raise MissingError(f"unsupported model: a {type(model).__name__} has no vocabulary head")
        self.rows = len(self._layer.weight)
        self._softcap = getattr(model.config, "final_logit_softcapping", None)
        if not model.config.is_encoder_decoder:  # whose own forward pass computes everything before this layer
            self._check_on_hidden_state(model)
            self._check_on_prompts(model, rows)

    @torch.inference_mode()
    def _check_on_prompts(self, model: Any, rows: Sequence[list[int]]) -> None:
        """Raise MissingError if the model's logits of prompts differ from those of its base model's hidden states.

        Some architectures pass more than the tokens of a prompt to their base model.
        """
        computed = torch.cat(list(self._all(own_hidden_states(model, rows))), -1)
        for row, logits in zip(rows, computed, strict=True):
            _check_equal(model, logits, own_logits(model, row)[-1])

    @torch.inference_mode()
    def _check_on_hidden_state(self, model: Any) -> None:
        """Raise MissingError if the model's own forward pass computes other logits from the same hidden state.

        Some architectures scale or cap their logits, or transform hidden states first. An artificial hidden state
        replaces the output of the layers; if the model does not use that output (OPT), its own hidden state is used.
        """
        rows = self._layer.weight[:256].float()
        hidden = rows[rows.norm(dim=1).argmax()][None]
        largest = max(float(logits.abs().max()) for logits in self._all(hidden))
        hidden = (hidden * (TEST_LOGIT / largest)).to(model.dtype)

        replaced = []

        def replace_output(module: Any, arguments: Any, output: Any) -> Any:
            replaced.append(module)
            output.last_hidden_state = hidden.expand_as(output.last_hidden_state)
            return output

        hook = model.base_model.register_forward_hook(replace_output)
        try:
            expected = own_logits(model, [0])[-1]
        finally:
            hook.remove()
        if not replaced:
            hidden = own_hidden_states(model, [[0]])
        computed = torch.cat(list(self._all(hidden.float())), -1)[0]
        _check_equal(model, computed, expected, HALF_TOLERANCE)

    def __call__(self, hidden: torch.Tensor, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits [rows, len(ids)] of hidden states [rows, size], and their normaliser [rows, 1], float32.

        logits - normaliser are natural log-probabilities.
        """
        hidden = hidden.float()
        sums = torch.stack([logits.logsumexp(-1) for logits in self._all(hidden)], -1)
        return self.logits(hidden, ids), sums.logsumexp(-1, keepdim=True)

    def logits(self, hidden: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """Return the logits [rows, len(ids)] of hidden states [rows, size], float32."""
        return self._logits(hidden.float(), torch.tensor(ids, device=hidden.device))

    def _all(self, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the logits of the whole vocabulary for [rows, size], float32, a slice of it at a time."""
        for start in range(0, len(self._layer.weight), SLICE):
            yield self._logits(hidden, slice(start, start + SLICE))

    def _logits(self, hidden: torch.Tensor, part: slice | torch.Tensor) -> torch.Tensor:
        bias = getattr(self._layer, "bias", None)
        weight = self._layer.weight[part].float()
        logits = torch.nn.functional.linear(hidden, weight, None if bias is None else bias[part].float())
        return torch.tanh(logits / self._softcap) * self._softcap if self._softcap else logits


def _check_equal(model: Any, computed: torch.Tensor, expected: torch.Tensor, tolerance: float | None = None) -> None:
    """Raise MissingError for logits that are not the model's own. The default tolerance depends on its precision."""
    if tolerance is None:
        tolerance = TOLERANCE if model.dtype == torch.float32 else HALF_TOLERANCE
    largest = computed.abs().max().clamp(min=1e-2)
    if computed.shape != expected.shape or not (expected - computed).abs().max() <= tolerance * largest:
        raise MissingError(f"unsupported model: a {type(model).__name__} computes its logits in an unknown way")


class LabelHead:
    """The log-probability or logit of each label, for `NextToken` requests."""

    def __init__(self, model: Any, label_ids: LabelIds, rows: Sequence[list[int]]) -> None:
        self._lm_head = LMHead(model, rows)
        self._label_ids = label_ids

    def check(self, request: NextToken) -> None:
        """Raise MissingError if the tokenizer or the vocabulary has no token for a label of the request."""
        rows = self._lm_head.rows
        if any(not 0 <= token_id < rows for token_id in self._label_ids(request)):
            raise MissingError(f"the labels {request.labels} are not all tokens of a vocabulary of {rows}")

    def __call__(self, hidden: torch.Tensor, request: NextToken) -> list[list[float]]:
        """Return the values for each row of [rows, size], all with the labels of `request`."""
        ids = self._label_ids(request)
        if request.logits:
            return self._lm_head.logits(hidden, ids).tolist()
        logits, normaliser = self._lm_head(hidden, ids)
        # in float64, so that the difference of two values is that of the logits
        return (logits.cpu().double() - normaliser.cpu().double()).tolist()


class ScoreHead:
    """The one or two logits of a classification head, for `Pair` requests."""

    def __init__(self, model: Any, rows: Sequence[list[int]]) -> None:
        own = [own_logits(model, row) for row in rows]
        hidden = own_hidden_states(model, rows)
        self._layer = model.score.float()
        with torch.inference_mode():
            for logits, expected in zip(self._layer(hidden), own, strict=True):
                _check_equal(model, logits, expected)

    def check(self, request: Pair) -> None:
        """Accept all requests: any pair can be answered."""

    def __call__(self, hidden: torch.Tensor, request: Pair) -> list[list[float]]:
        """Return the logits for each row of [rows, size]."""
        values: list[list[float]] = self._layer(hidden.float()).tolist()
        return values
