"""What becomes of the hidden state of a prompt's last token, in float32.

The weights of a vocabulary head in bfloat16 are turned into float32 a slice of the vocabulary at a time, so that no
second copy of them is kept, and the sum is carried from slice to slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from lbr_cli.core import NextToken, Pair
from lbr_cli.engines.labels import Labels
from lbr_cli.engines.local.self_check import own_hidden_states, own_logits
from lbr_cli.errors import MissingError

SLICE = 16384
APART, HALF_APART = 1e-4, 0.02  # how far logits may lie from the model's own, as a share of the largest
PROOF = 50.0  # how large the largest logit is made on which a head is tried: no cap leaves it as it is


class Vocabulary:
    """Hidden states -> logits of some tokens, and the log of the sum over the whole vocabulary."""

    def __init__(self, model: Any, rows: Sequence[list[int]]) -> None:
        self._layer = model.get_output_embeddings()
        if self._layer is None:
            raise MissingError(f"a {type(model).__name__} has no vocabulary head, so lbr cannot read its answers")
        self._softcap = getattr(model.config, "final_logit_softcapping", None)
        if not model.config.is_encoder_decoder:  # of those the model's own forward pass is used up to this layer
            self._prove(model)
            self._prove_on(model, rows)

    @torch.inference_mode()
    def _prove_on(self, model: Any, rows: Sequence[list[int]]) -> None:
        """MissingError where the model's logits of prompts are not those of what its base model makes of them.

        Some architectures give their base model more than the tokens of a prompt.
        """
        ours = torch.cat(list(self._all(own_hidden_states(model, rows))), -1)
        for row, logits in zip(rows, ours, strict=True):
            _check_alike(model, logits, own_logits(model, row)[-1])

    @torch.inference_mode()
    def _prove(self, model: Any) -> None:
        """MissingError where the model's own forward pass makes other logits of a hidden state than this does.

        Some architectures scale or cap their logits, or transform hidden states first. The hidden state is made up,
        and put in the place of what the layers make; where there is no such place (OPT), theirs has to do.
        """
        rows = self._layer.weight[:256].float()
        hidden = rows[rows.norm(dim=1).argmax()][None]
        largest = max(float(logits.abs().max()) for logits in self._all(hidden))
        hidden = (hidden * (PROOF / largest)).to(model.dtype)

        places = []

        def put(module: Any, arguments: Any, output: Any) -> Any:
            places.append(module)
            output.last_hidden_state = hidden.expand_as(output.last_hidden_state)
            return output

        hook = model.base_model.register_forward_hook(put)
        try:
            theirs = own_logits(model, [0])[-1]
        finally:
            hook.remove()
        if not places:
            hidden = own_hidden_states(model, [[0]])
        ours = torch.cat(list(self._all(hidden.float())), -1)[0]
        _check_alike(model, ours, theirs, HALF_APART)

    def __call__(self, hidden: torch.Tensor, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, size] -> logits [rows, len(ids)] and their normaliser [rows, 1], both float32.

        logits - normaliser are natural log-probabilities.
        """
        hidden = hidden.float()
        sums = torch.stack([logits.logsumexp(-1) for logits in self._all(hidden)], -1)
        return self.logits(hidden, ids), sums.logsumexp(-1, keepdim=True)

    def logits(self, hidden: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """[rows, size] -> logits [rows, len(ids)], float32."""
        return self._logits(hidden.float(), torch.tensor(ids, device=hidden.device))

    def _all(self, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
        """[rows, size], float32 -> the logits of the whole vocabulary, a slice of it at a time."""
        for start in range(0, len(self._layer.weight), SLICE):
            yield self._logits(hidden, slice(start, start + SLICE))

    def _logits(self, hidden: torch.Tensor, part: slice | torch.Tensor) -> torch.Tensor:
        bias = getattr(self._layer, "bias", None)
        weight = self._layer.weight[part].float()
        logits = torch.nn.functional.linear(hidden, weight, None if bias is None else bias[part].float())
        return torch.tanh(logits / self._softcap) * self._softcap if self._softcap else logits


def _check_alike(model: Any, ours: torch.Tensor, theirs: torch.Tensor, allowed: float | None = None) -> None:
    """MissingError for logits that are not the model's own. How far they may lie apart depends on its precision."""
    if allowed is None:
        allowed = APART if model.dtype == torch.float32 else HALF_APART
    if ours.shape != theirs.shape or not (theirs - ours).abs().max() <= allowed * ours.abs().max().clamp(min=1e-2):
        raise MissingError(f"a {type(model).__name__} makes its logits in a way that lbr does not know")


class LabelHead:
    """What `NextToken` requests want to know: of each label the log-probability, or the logit."""

    def __init__(self, model: Any, labels: Labels, rows: Sequence[list[int]]) -> None:
        self._vocabulary = Vocabulary(model, rows)
        self._labels = labels

    def check(self, request: NextToken) -> None:
        """MissingError where the tokenizer does not know a label of the request."""
        self._labels.ids(request)

    def __call__(self, hidden: torch.Tensor, request: NextToken) -> list[list[float]]:
        """[rows, size], all asked for the labels of one request -> their values, row by row."""
        ids = self._labels.ids(request)
        if request.raw:
            return self._vocabulary.logits(hidden, ids).tolist()
        logits, normaliser = self._vocabulary(hidden, ids)
        # in float64, so that the difference of two of them is that of the logits
        return (logits.cpu().double() - normaliser.cpu().double()).tolist()


class ScoreHead:
    """The one or two logits of a classification head, for `Pair` requests."""

    def __init__(self, model: Any, rows: Sequence[list[int]]) -> None:
        own = [own_logits(model, row) for row in rows]
        hidden = own_hidden_states(model, rows)
        self._layer = model.score.float()
        with torch.inference_mode():
            for logits, theirs in zip(self._layer(hidden), own, strict=True):
                _check_alike(model, logits, theirs)

    def check(self, request: Pair) -> None:
        """Any pair will do."""

    def __call__(self, hidden: torch.Tensor, request: Pair) -> list[list[float]]:
        """[rows, size] -> logits, row by row."""
        values: list[list[float]] = self._layer(hidden.float()).tolist()
        return values
