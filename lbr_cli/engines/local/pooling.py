"""Hidden states -> vectors, by the modules that the `modules.json` of a sentence-transformers folder lists.

Supported are Transformer, Pooling in all its modes, Dense and Normalize, as sentence-transformers 6.2 defines them.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lbr_cli.errors import MissingError, first_line
from lbr_cli.models.json_file import JsonFile
from lbr_cli.models.sentence_transformers import MODULES, feature_extraction_config, read_modules, truncated_size

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
# the names in older folders
OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

VECTORS = "sentence_embedding"  # the name under which sentence-transformers passes vectors from module to module

Step = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Pooling:
    """Hidden states -> vectors.

    `transformer` is the folder of the weights, `limit` its maximum length in tokens. The results of `modes` are
    concatenated, then `steps` follow. `with_prompt` means that the tokens of a prompt are pooled as well.
    """

    transformer: Path
    limit: int | None
    lower_case: bool
    modes: tuple[str, ...]
    with_prompt: bool
    steps: tuple[Step, ...]

    def __call__(self, hidden: torch.Tensor, mask: torch.Tensor, skipped: Sequence[int]) -> torch.Tensor:
        """[rows, tokens, size], [rows, tokens], and how many tokens of each row do not count -> [rows, size].

        All float32; rows are padded on the right.
        """
        places = torch.arange(hidden.shape[1], device=hidden.device)
        counted = mask.bool() & (places >= torch.tensor(skipped, device=hidden.device)[:, None])
        vectors = torch.cat([_pool(mode, hidden, counted) for mode in self.modes], -1)
        for step in self.steps:
            vectors = step(vectors)
        return vectors


def read_pooling(folder: Path) -> Pooling:
    """Read the modules of a sentence-transformers folder. MissingError for unknown modules or modes."""
    modules = read_modules(folder)
    if not (folder / MODULES).exists():
        raise MissingError(f"{folder}: no modules.json, so how its vectors are made is not known")
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Dense", "Normalize"}:
        problem = f"its modules are {', '.join(kinds)}; lbr knows Transformer, Pooling, then Dense or Normalize"
        raise MissingError(f"{folder}: {problem}")
    transformer, pooling, *others = modules
    reading = feature_extraction_config(transformer.folder)
    config = JsonFile(pooling.folder / "config.json")
    modes = tuple(config.strings("pooling_mode"))
    modes = modes or tuple(mode for key, mode in OLD_MODES.items() if config.boolean(key)) or ("mean",)
    if set(modes) - set(MODES):
        raise MissingError(f"{pooling.folder}: pools by {', '.join(modes)}, and lbr knows {', '.join(MODES)}")
    steps = [_dense(module.folder) if module.kind == "Dense" else _normalise for module in others]
    size = truncated_size(folder)
    if size is not None:  # last, as in `encode`: a normalized vector is not normalized again
        steps.append(lambda vectors: vectors[:, :size])
    return Pooling(
        transformer.folder,
        reading.integer("max_seq_length"),
        bool(reading.boolean("do_lower_case")),
        modes,
        config.boolean("include_prompt") is not False,
        tuple(steps),
    )


def _pool(mode: str, hidden: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    if mode == "cls":
        return hidden[rows, counted.int().argmax(1)]
    if mode == "lasttoken":
        return hidden[rows, hidden.shape[1] - 1 - counted.flip(1).int().argmax(1)]
    if mode == "max":
        return hidden.masked_fill(~counted[..., None], -torch.inf).amax(1)
    weights = counted.float()
    if mode == "weightedmean":
        weights = weights * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
    total = weights.sum(1, keepdim=True).clamp(min=1e-9)
    return (hidden * weights[..., None]).sum(1) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


def _normalise(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def _dense(folder: Path) -> Step:
    """Read a linear layer and its activation. MissingError for an activation that is not one of torch."""
    config = JsonFile(folder / "config.json")
    for key in ("module_input_name", "module_output_name"):
        value = config.string(key)
        if value not in (None, VECTORS):
            raise config.error(key, f"is {value!r}; a bi-encoder has {VECTORS!r} only")
    name = config.string("activation_function") or "torch.nn.modules.activation.Tanh"
    module, _, kind = name.rpartition(".")
    activation = getattr(importlib.import_module("torch.nn"), kind, None) if module.startswith("torch.nn") else None
    residual = config.boolean("use_residual")
    if residual or not (isinstance(activation, type) and issubclass(activation, torch.nn.Module)):
        what = "a residual" if residual else f"the activation {name}"
        raise MissingError(f"{folder}: a Dense module with {what}, which lbr does not know")
    weights = _weights(folder)
    layer, bias = weights.get("linear.weight"), weights.get("linear.bias")
    if layer is None or (bias is None) == (config.boolean("bias") is not False):
        raise MissingError(f"{folder}: does not hold the weights of its Dense module")
    act = activation()

    def step(vectors: torch.Tensor) -> torch.Tensor:
        moved = [None if part is None else part.to(vectors.device) for part in (layer, bias)]
        return act(torch.nn.functional.linear(vectors, moved[0], moved[1]))  # type: ignore[no-any-return,arg-type]

    return step


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a module, in float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if (folder / "model.safetensors").exists():
            tensors = load_file(folder / "model.safetensors")
        else:
            tensors = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise MissingError(f"{folder}: its weights cannot be read: {first_line(error)}") from error
    return {name: tensor.float() for name, tensor in tensors.items()}
