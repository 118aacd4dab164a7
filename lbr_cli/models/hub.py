"""Models on a hub. Files in the hub's cache are used without a network; a download begins with a probe of the hub."""

from __future__ import annotations

import functools
from pathlib import Path

from lbr_cli.core import Progress
from lbr_cli.errors import MissingError, RunError, first_line
from lbr_cli.models.model import HubModel
from lbr_cli.models.snapshot import folders_of_weights, missing_part
from lbr_cli.network import checked_environment, socks_address, through_proxy

PROBE_SECONDS = 3.0
PATTERNS = ["*.json", "*.txt", "*.model", "*.jinja", "*.metadata"]


def get_snapshot(model: HubModel, progress: Progress, *, tokenizer_only: bool = False) -> Path:
    """Return the folder of the model's snapshot in the hub's own cache; download missing files.

    Raises MissingError for a model, a revision or a proxy that cannot be used, RunError for a hub that does not answer.
    """
    progress.status(f"looking for {model.hub_id}")
    from huggingface_hub import constants, errors

    try:
        folder, missing = _local_snapshot(model, tokenizer_only)
    except PermissionError as error:
        hint = "make the cache of the hub readable for this user, or set HF_HOME to another folder"
        raise MissingError(f"model {model.hub_id}: permission denied: {error.filename}", hint=hint) from error
    if folder and not missing:
        return folder
    part = f"only partly on this machine, without {missing}" if folder else "not on this machine"
    state = f"{part} (looked in {constants.HF_HUB_CACHE})"
    ways_out = "copy the cache from a machine that has the model, or name its folder with --model"
    if constants.HF_HUB_OFFLINE:
        hint = f"unset HF_HUB_OFFLINE, {ways_out}"
        raise MissingError(f"model {model.hub_id}: {state}, and HF_HUB_OFFLINE is set", hint=hint)
    with checked_environment(constants.ENDPOINT):
        problem = _unreachable(constants.ENDPOINT)
        proxy = through_proxy(constants.ENDPOINT)
        if problem:
            message = f"model {model.hub_id}: {state}, and {constants.ENDPOINT} cannot be reached{proxy} ({problem})"
            hint = f"set HF_ENDPOINT to a mirror, {ways_out}, or try another model: --model minilm"
            raise RunError(message, hint=hint)
        progress.note(f"fetching {model.hub_id} from {constants.ENDPOINT}")
        progress.status("")
        try:
            return _snapshot(model, tokenizer_only, local=False)
        except errors.RepositoryNotFoundError as error:
            hint = "check the name; a private model needs HF_TOKEN"
            raise MissingError(f"model {model.hub_id}: {state}, nor on {constants.ENDPOINT}", hint=hint) from error
        except errors.RevisionNotFoundError as error:
            raise MissingError(f"model {model.hub_id}: has no revision {model.revision}") from error
        except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
            raise RunError(f"model {model.hub_id}: could not be fetched{proxy}: {first_line(error)}") from error


def find_snapshot(model: HubModel, *, tokenizer_only: bool = False) -> Path | None:
    """Return the folder of the snapshot in the hub's cache; None if a file that loading needs cannot be found."""
    try:
        folder, missing = _local_snapshot(model, tokenizer_only)
    except PermissionError:  # in the cache of another user
        return None
    return None if missing else folder


def _local_snapshot(model: HubModel, tokenizer_only: bool) -> tuple[Path | None, str]:
    """Return the folder of the snapshot in the hub's cache, if any, and a part that it lacks, if any."""
    from huggingface_hub import errors

    try:
        folder = _snapshot(model, tokenizer_only, local=True)
        return folder, missing_part(folder, tokenizer_only=tokenizer_only, trusted=model.trusted)
    except errors.LocalEntryNotFoundError:
        return None, ""
    except errors.HFValidationError as error:
        raise MissingError(f"--model {model.hub_id}: no alias, folder or hub id: {error}") from error


def _snapshot(model: HubModel, tokenizer_only: bool, *, local: bool) -> Path:
    """Return the folder of a snapshot, with the weights of each module in one form only: safetensors if possible."""
    from huggingface_hub import snapshot_download

    patterns = [*PATTERNS, "*.py"] if model.trusted else PATTERNS
    download = functools.partial(snapshot_download, revision=model.revision, local_files_only=local)

    def snapshot(*weights: str) -> Path:
        return Path(download(model.hub_id, allow_patterns=[*patterns, *weights]))

    if tokenizer_only:
        return snapshot("tokenizer*")
    folder = snapshot("*.safetensors")
    older = [
        f"{path}pytorch_model*.bin"
        for path in folders_of_weights(folder)
        if not any(folder.glob(f"{path}*.safetensors"))
    ]
    return snapshot("*.safetensors", *older, "adapter_model.bin") if older else folder


def _unreachable(endpoint: str) -> str:
    """Return why `endpoint` does not answer within `PROBE_SECONDS`, "" if it does.

    The hub's own client retries for longer. Any response counts, even an error page or a certificate that only the
    hub's client accepts. The thread is needed because name resolution has no timeout.
    """
    # imported here to keep --help fast
    import socket
    import ssl
    import threading
    import urllib.error
    import urllib.request

    problem = [f"no answer within {PROBE_SECONDS:.0f} s"]
    socks = socks_address(endpoint)  # urllib has no SOCKS: only the proxy itself is probed

    def probe() -> None:
        try:
            if socks:
                socket.create_connection(socks, PROBE_SECONDS).close()
            else:
                urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=PROBE_SECONDS).close()
            problem[0] = ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            answered = isinstance(error, urllib.error.HTTPError) or isinstance(reason, ssl.SSLError)
            problem[0] = "" if answered else str(reason)

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS + 0.5)
    return problem[0]
