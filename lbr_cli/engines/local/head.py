"""Hidden states -> logits in float32: of the wanted tokens, and the log of the sum over the whole vocabulary.

The weights of a head in bfloat16 are turned into float32 a slice of the vocabulary at a time, so that no second copy
of them is kept, and the sum is carried from slice to slice.
"""

from __future__ import annotations

from typing import Any

import torch

from lbr_cli.errors import MissingError

SLICE = 16384
# what some architectures do to their logits after the head, by the config key that asks for it
UNKNOWN_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier")


class Head:
    def __init__(self, model: Any) -> None:
        config = model.config
        scaled = [key for key in UNKNOWN_SCALES if getattr(config, key, None) not in (None, 1.0)]
        self._layer = model.get_output_embeddings()
        if self._layer is None or scaled:
            what = f"scales its logits ({scaled[0]})" if scaled else "has no vocabulary head"
            raise MissingError(f"a {type(model).__name__} {what}, which lbr cannot read")
        self._softcap = getattr(config, "final_logit_softcapping", None)

    def __call__(self, hidden: torch.Tensor, ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """[rows, size] -> logits [rows, len(ids)] and their normaliser [rows, 1], both float32.

        logits - normaliser are natural log-probabilities.
        """
        hidden = hidden.float()
        wanted = self._logits(hidden, torch.tensor(ids, device=hidden.device))
        slices = [slice(start, start + SLICE) for start in range(0, len(self._layer.weight), SLICE)]
        sums = torch.stack([self._logits(hidden, part).logsumexp(-1) for part in slices], -1)
        return wanted, sums.logsumexp(-1, keepdim=True)

    def _logits(self, hidden: torch.Tensor, part: slice | torch.Tensor) -> torch.Tensor:
        bias = getattr(self._layer, "bias", None)
        weight = self._layer.weight[part].float()
        logits = torch.nn.functional.linear(hidden, weight, None if bias is None else bias[part].float())
        return torch.tanh(logits / self._softcap) * self._softcap if self._softcap else logits
