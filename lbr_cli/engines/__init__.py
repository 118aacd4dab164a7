"""Who computes, one file or folder each. An engine loads its libraries only when it is loaded itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from lbr_cli.core import Engine
from lbr_cli.models import Model

# name -> the function that loads it
ENGINES = {
    "local": "lbr_cli.engines.local:load",
    "overlap": "lbr_cli.engines.overlap:load",
}
UNLIMITED = 2**31 - 1  # tokens, of a model that reads texts of any length


@dataclass(frozen=True, slots=True)
class Settings:
    """How to compute. None and "auto" leave the choice to the model and the device."""

    device: str = "auto"
    dtype: str = "auto"
    max_length: int | None = None
    batch_tokens: int | None = None
    threads: int | None = None
    plain: bool = False  # transformers' own attention, text by text: what the fast ways are checked against


def load_engine(name: str, model: Model | None, settings: Settings) -> Engine:
    """The engine of that name, ready for what the model's family asks; engines without a model take None."""
    module, function = ENGINES[name].split(":")
    load: Callable[[Model | None, Settings], Engine] = getattr(importlib.import_module(module), function)
    return load(model, settings)
