"""Load a model's weights; files that do not fit the model raise an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from lbr_cli.engines.pretrained import code_hint, load
from lbr_cli.errors import MissingError
from lbr_cli.models import LocalModel
from lbr_cli.models.folder import OTHER_FAMILY_HINT
from lbr_cli.wording import first_few

# Auto classes whose models end in hidden states
HIDDEN_STATES = (transformers.AutoModel, transformers.AutoModelForTextEncoding)


def load_model(kind: Any, model: LocalModel, device: torch.device, dtype: torch.dtype) -> Any:
    """Return the weights as a model of `kind`, an Auto class of transformers, ready for inference.

    Raises MissingError if the model needs code of its own that is not trusted, or if a weight is missing.
    """
    loaded, info = load(kind, model, "weights", dtype=dtype, output_loading_info=True)
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if kind in HIDDEN_STATES:
        missing = [key for key in missing if not key.startswith("pooler.")]  # a bi-encoder does not use its output
    if missing:
        problem = f"it does not hold all the weights of a {type(loaded).__name__}: {first_few(missing, 3)}"
        raise MissingError(f"{model.folder}: {problem}", hint=code_hint(model) or OTHER_FAMILY_HINT)
    _check_buffers(loaded, model)
    return loaded.eval().requires_grad_(False).to(device)


def _check_buffers(loaded: Any, model: LocalModel) -> None:
    """Raise MissingError for buffers that are in no file and that the model's own code does not initialise.

    transformers initialises what the files lack in `_init_weights`, which knows only the buffers of its own classes;
    those of other code stay uninitialised (huggingface/sentence-transformers#3717).
    """
    if _is_of_transformers(type(loaded)):
        return
    fills_its_own = _is_of_transformers(type(loaded)._init_weights)
    in_files = set(loaded.state_dict())
    for name, _ in loaded.named_buffers():
        owner = type(loaded.get_submodule(name.rpartition(".")[0]))
        if name not in in_files and not (fills_its_own and _is_of_transformers(owner)):
            what = f"the buffer {name} of its own code is in no file (persistent=False)"
            problem = f"transformers {transformers.__version__} leaves it uninitialised"
            raise MissingError(f"{model.folder}: {what}, and {problem}, so its scores would be random")


def _is_of_transformers(thing: Any) -> bool:
    return str(thing.__module__).startswith("transformers.")


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
    odd = (~values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    if odd and model.dtype != torch.float32:
        with in_float32(model):
            values[odd] = torch.cat([compute(row) for row in odd])
    return values
