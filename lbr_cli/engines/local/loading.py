"""Folder -> tokenizer and model, refused rather than guessed at where something does not fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers

from lbr_cli.errors import MissingError, RunError

transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load_config(folder: Path) -> Any:
    """The folder's `config.json` as transformers understands it."""
    return _load(transformers.AutoConfig, folder, "configuration")


def load_tokenizer(folder: Path) -> Any:
    """The folder's own fast tokenizer, the only kind that tells which characters a token stands for."""
    tokenizer = _load(transformers.AutoTokenizer, folder, "tokenizer")
    if not tokenizer.is_fast:
        raise MissingError(f"{folder}: it has no fast tokenizer (tokenizer.json)")
    return tokenizer


def load_model(kind: Any, folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """The weights as a model of `kind`, an Auto class of transformers, ready for inference.

    Raises MissingError where the folder asks for code of its own, or where a weight is not in it and would be
    made up.
    """
    model, info = _load(kind, folder, "weights", dtype=dtype, output_loading_info=True)
    made_up = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if made_up:
        names = ", ".join(made_up[:3]) + (", …" if len(made_up) > 3 else "")
        raise MissingError(f"{folder}: it does not hold all the weights of a {type(model).__name__}: {names}")
    return model.eval().requires_grad_(False).to(device)


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """For as long as it lasts the model computes in float32; what was float32 before stays so afterwards."""
    half = [
        (tensor, tensor.dtype)
        for tensor in [*model.parameters(), *model.buffers()]
        if tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    try:
        for tensor, _ in half:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in half:
            tensor.data = tensor.data.to(dtype)


def finite(values: torch.Tensor, model: Any, compute: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """`values`, float32, of which those rows that are not finite are computed again in float32.

    `compute` gives one row, [1, ...], by its place. What a float32 model makes stays as it is.
    """
    odd = (~values.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    if odd and model.dtype != torch.float32:
        with in_float32(model):
            values[odd] = torch.cat([compute(row) for row in odd])
    return values


def longest_input(tokenizer: Any, config: Any) -> int:
    """The most tokens that tokenizer and position table both allow.

    A tokenizer without a limit says 1e30. RoBERTa's table begins behind the padding id, so that many places of it
    are never used.
    """
    table = getattr(config, "max_position_embeddings", None) or int(1e30)
    if config.model_type in ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl"):
        table -= config.pad_token_id + 1
    return int(min(table, tokenizer.model_max_length))


def _load(kind: Any, folder: Path, what: str, **options: Any) -> Any:
    """What `kind` makes of a folder, without a network and without running code that lies in it.

    Code of its own has to be refused outright: not said, transformers would ask on stdout and wait for a key.
    """
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except torch.OutOfMemoryError as error:
        raise RunError(f"{folder}: its {what} do not fit into the memory that is free") from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise MissingError(f"{folder}: its {what} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].replace(os.linesep, " ")
