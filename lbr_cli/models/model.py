"""The three kinds of model: on a hub, on this machine, and on a server.

`name` is the short name, for run tags. `label` identifies the model in messages: an alias, a hub id or a path. If
`max_length` is None, the model has its own limit. Code that comes with a model is run only if it is `trusted`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbr_cli.core import Family
from lbr_cli.families import Classifier, LateInteraction

if TYPE_CHECKING:
    from lbr_cli.models.adapter import Adapter


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository on a hub, which may not be on this machine yet.

    If `family` is None, the files of the repository determine it, and `options` are its options set by the user.
    If `adapter` is set, the repository is the base model of that adapter, which is on this machine.
    """

    name: str
    hub_id: str
    label: str
    family: Family | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    max_length: int | None = None
    trusted: bool = False
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A folder in the format of transformers, or the file `gguf` in it.

    `sha256` is the required digest of its `model.safetensors`, if any. `commit` is that of a snapshot from a hub.
    The folder of an adapter has a `base` model, which holds the configuration and the weights to merge it into.
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
    base: LocalModel | None = None

    @property
    def config_folder(self) -> Path:
        """The folder of `config.json`."""
        return self.base.folder if self.base else self.folder

    @property
    def path(self) -> Path:
        """The folder or the GGUF file."""
        return self.folder / self.gguf

    @property
    def reads_bare_pairs(self) -> bool:
        """Whether a causal classifier reads pairs without a prompt, by the choice of the user or of the library."""
        return isinstance(self.family, Classifier) and self.family.without_prompt


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that a server calls `label` or `hub_id`, and the model that its tokenizer is from, if known.

    `named` is False if the user gave no name for the only model of a server.
    """

    name: str
    label: str
    family: Family
    hub_id: str | None = None
    tokenizer: HubModel | LocalModel | None = None
    named: bool = True


Model = HubModel | LocalModel | ServedModel


def short_name(name: str) -> str:
    """Return a name for run tags, without blanks and surrogates."""
    return re.sub(r"[\s\ud800-\udfff]", "_", name) or "model"


def explained(model: LocalModel | ServedModel) -> LocalModel | ServedModel:
    """Return the model with a family that adds all its details to a score, even large ones."""
    if not isinstance(model.family, LateInteraction):
        return model
    return replace(model, family=replace(model.family, with_matches=True))
