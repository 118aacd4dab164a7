"""Load a model's weights; files that do not fit the model raise an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from lbr_cli.engines.local.adapter import AdapterWeights
from lbr_cli.engines.local.buffers import restore_buffers
from lbr_cli.engines.pretrained import code_hint, load, load_config
from lbr_cli.errors import MissingError
from lbr_cli.models import LocalModel
from lbr_cli.models.folder import OTHER_FAMILY_HINT
from lbr_cli.wording import first_few

# Auto classes whose models end in hidden states
HIDDEN_STATES = (transformers.AutoModel, transformers.AutoModelForTextEncoding)
# the form of a model's output, whatever its configuration requests; attentions would need a slower implementation
OUTPUT = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}


def load_model(kind: Any, model: LocalModel, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the weights as a model of `kind`, an Auto class of transformers, ready for inference.

    An adapter is merged into its base model. Raises MissingError if the model needs its own code and is not trusted, or
    if a weight is missing.
    """
    adapter = AdapterWeights(model) if model.base else None
    model = model.base or model
    options = adapter.options(kind, load_config(model)) if adapter else {}
    loaded, info = load(kind, model, "weights", dtype=dtype, output_loading_info=True, **OUTPUT, **options)
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if adapter:
        mismatched = {key[0] for key in info["mismatched_keys"]}
        missing = sorted(key for key in info["missing_keys"] | mismatched if not adapter.holds(key))
    if kind in HIDDEN_STATES:
        missing = [key for key in missing if not key.startswith("pooler.")]  # a bi-encoder does not use its output
    if missing:
        problem = f"missing weights of a {type(loaded).__name__}: {first_few(missing, 3)}"
        raise MissingError(f"{model.folder}: {problem}", hint=code_hint(model) or OTHER_FAMILY_HINT)
    restore_buffers(loaded, model)
    if adapter:
        loaded = adapter.merge(loaded)
    return loaded.eval().requires_grad_(False).to(device)


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Convert the model to float32 in this block, and each tensor back to its own precision afterwards."""
    floats = [tensor for tensor in [*model.parameters(), *model.buffers()] if tensor.is_floating_point()]
    half = [(tensor, tensor.dtype) for tensor in floats if tensor.dtype != torch.float32]
    try:
        for tensor, _ in half:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in half:
            tensor.data = tensor.data.to(dtype)


def recompute_nonfinite(values: torch.Tensor, model: Any, compute: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """Return `values`, float32, after computing its non-finite rows again in float32.

    `compute` returns one row, [1, ...], by its number. Rows of a float32 model stay as they are.
    """
    nonfinite = (~values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    if nonfinite and model.dtype != torch.float32:
        with in_float32(model):
            values[nonfinite] = torch.cat([compute(row) for row in nonfinite])
    return values
