"""Buffers that are in no weights file (`persistent=False`), such as tables of positions.

transformers 5 builds a model on the meta device, so the values that a constructor computes are lost:
`from_pretrained` replaces these buffers with uninitialised memory, and `_init_weights` restores only those of
transformers' own classes (huggingface/sentence-transformers#3717). They are compared with those of a model that is
constructed from the same configuration with its parameters on the meta device and its buffers on the CPU, so there is
no second copy of the weights. Buffers that differ are replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from lbr_cli.errors import MissingError, first_line
from lbr_cli.models import LocalModel

HINT = "register the buffer with persistent=True in this code, and save the model again"


def restore_buffers(loaded: Any, model: LocalModel) -> None:
    """Replace the buffers of a loaded model, on the CPU, that are in no file and differ from the constructor's.

    Raises MissingError if the constructor fails or does not define the values of a buffer.
    """
    names = _names(loaded)
    if not names:
        return
    own = dict(loaded.named_buffers(remove_duplicate=False))
    first = _constructed(loaded, model, names)
    wrong = [name for name in names if not (name in first and _equal(own[name], first[name]))]
    if not wrong:
        return
    second = _constructed(loaded, model, names)
    for name in wrong:
        if name not in first:
            _refuse(loaded, model, name, "and is not registered by the constructor")
        value = first[name]
        if value.is_meta:
            _refuse(loaded, model, name, "and is computed from weights, which are not loaded at that time")
        if value.shape != own[name].shape:
            shapes = f"{list(value.shape)} in a new model, {list(own[name].shape)} in the loaded one"
            _refuse(loaded, model, name, f"and its shape differs: {shapes}")
        if name not in second or not _equal(value, second[name]):
            _refuse(loaded, model, name, "and two constructions of the class give different values")
        path, _, key = name.rpartition(".")
        value = value.to(device=own[name].device, dtype=own[name].dtype)
        loaded.get_submodule(path).register_buffer(key, value, persistent=False)


def _names(loaded: Any) -> list[str]:
    """Return the names of the buffers that are in no file."""
    return [
        f"{path}.{key}" if path else key
        for path, module in loaded.named_modules(remove_duplicate=False)
        for key in sorted(module._non_persistent_buffers_set)
        if module._buffers[key] is not None
    ]


def _constructed(loaded: Any, model: LocalModel, names: list[str]) -> dict[str, torch.Tensor]:
    """Return the buffers of a new model of the same class and configuration, whose parameters have no values."""
    try:
        with _parameters_on_meta():
            new = type(loaded)(copy.deepcopy(loaded.config))
    except Exception as error:  # code of a model may raise anything
        message = f"its buffers are in no file ({', '.join(names[:3])}), and its constructor fails: {first_line(error)}"
        raise MissingError(f"{_code_file(loaded, model)}: {type(loaded).__name__}: {message}", hint=HINT) from error
    return dict(new.named_buffers(remove_duplicate=False))


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move each parameter to the meta device when a module registers it; float32 is the default type."""

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.is_meta:
            return parameter
        empty = nn.Parameter(parameter.to("meta"), parameter.requires_grad)
        empty._is_hf_initialized = True  # type: ignore[attr-defined] # transformers' `_init_weights` skips it
        return empty

    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with register_module_parameter_registration_hook(on_meta):  # type: ignore[arg-type] # may return a value
            yield
    finally:
        torch.set_default_dtype(dtype)


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Return whether two tensors have the same shape and, in the precision of the first, the same values."""
    if left.shape != right.shape or right.is_meta:
        return False
    right = right.to(left.dtype)
    return bool(((left == right) | (left.isnan() & right.isnan())).all())


def _refuse(loaded: Any, model: LocalModel, name: str, problem: str) -> NoReturn:
    owner = type(loaded.get_submodule(name.rpartition(".")[0])).__name__
    message = f"{owner}: the buffer {name} is in no weights file (persistent=False), {problem}"
    raise MissingError(f"{_code_file(loaded, model)}: {message}", hint=HINT)


def _code_file(loaded: Any, model: LocalModel) -> Path:
    """Return the file of a model's class, if it is in the model's folder; else the folder."""
    path = model.folder / f"{type(loaded).__module__.rpartition('.')[2]}.py"
    return path if path.is_file() else model.folder
