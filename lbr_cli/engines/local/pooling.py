"""Hidden states -> vectors or scores, by the modules that the `modules.json` of a sentence-transformers folder lists.

Supported are Pooling in all its modes, Dense, LayerNorm and Normalize, as sentence-transformers 6.2 defines them.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch

from lbr_cli.errors import MissingError, first_line
from lbr_cli.models.json_file import JsonFile
from lbr_cli.models.sentence_transformers import (
    CROSS_ENCODER,
    MODULES,
    UNSUPPORTED,
    Module,
    bi_encoder_config,
    check_names,
    model_type,
    read_modules,
    truncated_size,
)

# the names in older folders -> modes
OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
MODES = tuple(OLD_MODES.values())

VECTORS = "sentence_embedding"  # the name under which sentence-transformers passes vectors from module to module
SCORES = "scores"  # of a cross-encoder

Step = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Pooling:
    """Hidden states -> vectors, or the scores of a cross-encoder.

    The results of `modes` are concatenated, and `steps` are applied to them in order. `with_prompt` means that the
    tokens of a prompt are pooled as well.
    """

    modes: tuple[str, ...]
    with_prompt: bool
    steps: tuple[Step, ...]

    def __call__(self, hidden: torch.Tensor, mask: torch.Tensor, skipped: Sequence[int]) -> torch.Tensor:
        """Return [rows, size] for [rows, tokens, size] and a mask [rows, tokens]; rows are padded on the right.

        The first `skipped` tokens of each row are not pooled. States and results are float32.
        """
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        counted = mask.bool() & (positions >= torch.tensor(skipped, device=hidden.device)[:, None])
        vectors = torch.cat([_pool(mode, hidden, counted) for mode in self.modes], -1)
        for step in self.steps:
            vectors = step(vectors)
        return vectors


def read_pooling(folder: Path) -> Pooling:
    """Read the modules after the encoder. MissingError for unknown modules or modes."""
    modules = read_modules(folder)
    if not (folder / MODULES).exists():
        raise MissingError(f"{folder}: modules.json is missing, so its pooling is unknown")
    kinds = [module.kind for module in modules]
    scores = model_type(folder) == CROSS_ENCODER
    supported_steps = {"Dense", "LayerNorm"} if scores else {"Dense", "LayerNorm", "Normalize"}
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - supported_steps:
        supported = f"Transformer, Pooling, then {', '.join(sorted(supported_steps))}"
        raise MissingError(f"{folder}: its modules are {', '.join(kinds)}; lbr supports {supported}")
    transformer, pooling, *others = modules
    if not scores:
        bi_encoder_config(transformer.folder)
    config = JsonFile(pooling.folder / "config.json")
    modes = tuple(config.strings("pooling_mode"))
    modes = modes or tuple(mode for key, mode in OLD_MODES.items() if config.boolean(key)) or ("mean",)
    if set(modes) - set(MODES):
        problem = f"unsupported pooling mode: {', '.join(modes)}; lbr supports {', '.join(MODES)}"
        raise MissingError(f"{pooling.folder}: {problem}")
    with_prompt = config.boolean("include_prompt") is not False
    if scores and not with_prompt:
        raise config.error("include_prompt", f"is false, {UNSUPPORTED} for a cross-encoder")
    steps = [_step(module, scores=scores and module is others[-1]) for module in others]
    size = None if scores else truncated_size(folder)
    if size is not None:  # last, as in `encode`: a normalized vector is not normalized again
        steps.append(lambda vectors: vectors[:, :size])
    return Pooling(modes, with_prompt, tuple(steps))


def _step(module: Module, *, scores: bool) -> Step:
    """Read a module after Pooling; `scores` is true for the last module of a cross-encoder."""
    if module.kind == "Dense":
        return read_dense(module.folder, VECTORS, SCORES if scores else VECTORS)
    return _layer_norm(module.folder) if module.kind == "LayerNorm" else normalise


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


def normalise(vectors: torch.Tensor) -> torch.Tensor:
    """Return vectors divided by their norms."""
    return torch.nn.functional.normalize(vectors, dim=-1)


def _layer_norm(folder: Path) -> Step:
    weights = _weights(folder)
    if set(weights) != {"norm.weight", "norm.bias"}:
        raise MissingError(f"{folder}: missing weights of its LayerNorm module")
    scale, shift = weights["norm.weight"], weights["norm.bias"]

    def step(vectors: torch.Tensor) -> torch.Tensor:
        device = vectors.device
        return torch.nn.functional.layer_norm(vectors, scale.shape, scale.to(device), shift.to(device))

    return step


def read_dense(folder: Path, reads: str, writes: str | None = None) -> Step:
    """Read a linear layer, its activation and its residual. MissingError for an activation that is not one of torch.

    `reads` and `writes` are the names of its input and output; the last layer of a cross-encoder writes one score.
    """
    writes = writes or reads
    config = JsonFile(folder / "config.json")
    check_names(config, reads, writes)
    if writes == SCORES and config.integer("out_features") != 1:
        raise config.error("out_features", f"is {config.integer('out_features')}: lbr reads one score")
    name = config.string("activation_function") or "torch.nn.modules.activation.Tanh"
    module, _, kind = name.rpartition(".")
    activation = getattr(importlib.import_module("torch.nn"), kind, None) if module.startswith("torch.nn") else None
    if not (isinstance(activation, type) and issubclass(activation, torch.nn.Module)):
        raise MissingError(f"{folder}: a Dense module with the unsupported activation {name}")
    weights = _weights(folder)
    layer, bias, projection = (weights.get(key) for key in ("linear.weight", "linear.bias", "residual.weight"))
    if layer is None or (bias is None) == (config.boolean("bias") is not False):
        raise MissingError(f"{folder}: missing weights of its Dense module")
    residual = bool(config.boolean("use_residual"))
    if residual and (projection is None) == (layer.shape[0] != layer.shape[1]):
        raise MissingError(f"{folder}: missing weights of the residual of its Dense module")
    act = activation()

    def step(vectors: torch.Tensor) -> torch.Tensor:
        moved = [None if part is None else part.to(vectors.device) for part in (layer, bias, projection)]
        result: torch.Tensor = act(torch.nn.functional.linear(vectors, moved[0], moved[1]))  # type: ignore[arg-type]
        if not residual:
            return result
        return result + (vectors if moved[2] is None else torch.nn.functional.linear(vectors, moved[2]))

    return step


def read_linear(folder: Path) -> Step:
    """Read the linear layer, without bias, in the weights of a model of Stanford's ColBERT."""
    layer = _weights(folder, {"linear.weight"}).get("linear.weight")
    if layer is None:
        raise MissingError(f"{folder}: missing weights: linear.weight, the linear layer of ColBERT")
    return lambda vectors: torch.nn.functional.linear(vectors, layer.to(vectors.device))


def _weights(folder: Path, names: Set[str] = frozenset()) -> dict[str, torch.Tensor]:
    """Read the tensors of a module in float32; only those of `names`, unless it is empty."""
    from safetensors import SafetensorError, safe_open

    try:
        if (folder / "model.safetensors").exists():
            with safe_open(folder / "model.safetensors", "pt") as file:
                stored = file.keys()
                tensors = {name: file.get_tensor(name) for name in stored if not names or name in names}
        else:
            tensors = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise MissingError(f"{folder}: its weights cannot be read: {first_line(error)}") from error
    return {name: tensor.float() for name, tensor in tensors.items() if not names or name in names}
