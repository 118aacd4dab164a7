"""A model that a user asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lbr_cli.core import Family
from lbr_cli.families import Classifier


@dataclass(frozen=True, slots=True)
class Model:
    """Where a model is, and how it is asked.

    `name` is the short name, for run tags. Of `hub_id` and `folder` one is set, until `fetched` sets the folder; `gguf`
    names the file in it that holds everything, "" where it is a folder as transformers writes it. `family` is None
    while only the model's files can tell; `chosen` are the fields of it that the user has set. `max_length` None leaves
    the limit to the model; `sha256` is that of its `model.safetensors` where only one file will do; code that comes
    with the model is run only if `trusted`. `label` tells models apart for people: a short name, a hub id or a path.

    `served` is what a server calls a model that is there: then `hub_id` and `folder` are those of its tokenizer, or not
    set, and `known_as` is the hub id that its short name stands for.
    """

    name: str
    family: Family | None = None
    hub_id: str = ""
    revision: str | None = None
    folder: Path | None = None
    gguf: str = ""
    max_length: int | None = None
    sha256: str = ""
    trusted: bool = False
    chosen: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    served: str = ""
    known_as: str = ""

    @property
    def known_family(self) -> Family:
        """The family of a model that has been fetched."""
        if self.family is None:
            raise ValueError(f"{self.name}: its family is not known before it has been fetched")
        return self.family

    @property
    def reads_bare_pairs(self) -> bool:
        """Whether a causal classifier may be given a query and a document without a prompt, as its user says."""
        return isinstance(self.family, Classifier) and self.family.without_prompt

    @property
    def place(self) -> Path:
        """The folder of a model that has been fetched."""
        if self.folder is None:
            raise ValueError(f"{self.name}: has not been fetched")
        return self.folder
