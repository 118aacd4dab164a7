"""A model that a user named: on a hub, on this machine, or on a server.

`name` is the short name, for run tags. `label` tells models apart for people: an alias, a hub id or a path.
`max_length` None leaves the limit to the model. Code that comes with a model is run only if it is `trusted`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lbr_cli.core import Family
from lbr_cli.families import Classifier


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of a hub, which may have to be fetched.

    `family` None means that the files of the repository name it; `options` are then those that the user set for it.
    """

    name: str
    hub_id: str
    label: str
    family: Family | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    max_length: int | None = None
    trusted: bool = False


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A folder as transformers writes it, or the GGUF file of that name in it.

    `sha256` is the digest that its `model.safetensors` must have, if any. `commit` is that of a snapshot from a hub.
    """

    name: str
    label: str
    family: Family
    folder: Path
    gguf: str = ""
    max_length: int | None = None
    trusted: bool = False
    sha256: str | None = None
    commit: str | None = None

    @property
    def path(self) -> Path:
        """The folder or the GGUF file."""
        return self.folder / self.gguf

    @property
    def reads_bare_pairs(self) -> bool:
        """Whether the user says that a causal classifier was trained on pairs without a prompt."""
        return isinstance(self.family, Classifier) and self.family.without_prompt


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model on a server, which calls it `label` or by its `hub_id`, and where its tokenizer is, if that is known."""

    name: str
    label: str
    family: Family
    hub_id: str | None = None
    tokenizer: HubModel | LocalModel | None = None


Model = HubModel | LocalModel | ServedModel
