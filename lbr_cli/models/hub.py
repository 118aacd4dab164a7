"""Models on a hub: what is in the hub's cache on this machine is used without a network; a hub is asked once, and
quickly, before anything is fetched.
"""

from __future__ import annotations

from pathlib import Path

from lbr_cli.core import Progress
from lbr_cli.errors import MissingError, RunError, first_line
from lbr_cli.models.model import HubModel
from lbr_cli.models.snapshot import missing_part
from lbr_cli.network import checked_environment, socks_address, through_proxy

PROBE_SECONDS = 3.0
NEEDED = ["*.json", "*.txt", "*.model", "*.jinja"]


def get_snapshot(model: HubModel, progress: Progress, *, tokenizer_only: bool = False) -> Path:
    """Return the folder of the model's snapshot in the hub's own cache. Files that are missing there are fetched.

    Raises MissingError for a model, a revision or a proxy that cannot be used, RunError for a hub that does not answer.
    """
    progress.status(f"looking for {model.hub_id}")
    from huggingface_hub import constants, errors

    found = _local_snapshot(model, tokenizer_only)
    missing = missing_part(found, tokenizer_only=tokenizer_only, trusted=model.trusted) if found else ""
    if found and not missing:
        return found
    part = f"only partly on this machine, without {missing}" if found else "not on this machine"
    here = f"{part} (looked in {constants.HF_HUB_CACHE})"
    ways_out = "fetch it where there is a network and copy the cache, or give a folder that holds it"
    if constants.HF_HUB_OFFLINE:
        hint = f"unset HF_HUB_OFFLINE, {ways_out}"
        raise MissingError(f"model {model.hub_id}: {here}, and HF_HUB_OFFLINE is set", hint=hint)
    with checked_environment(constants.ENDPOINT):
        problem = _unreachable(constants.ENDPOINT)
        proxy = through_proxy(constants.ENDPOINT)
        if problem:
            message = f"model {model.hub_id}: {here}, and {constants.ENDPOINT} cannot be reached{proxy} ({problem})"
            hint = f"set HF_ENDPOINT to a mirror, {ways_out}, or try another model: --model minilm"
            raise RunError(message, hint=hint)
        progress.note(f"fetching {model.hub_id} from {constants.ENDPOINT}")
        progress.status("")
        try:
            return _snapshot(model, tokenizer_only, local=False)
        except errors.RepositoryNotFoundError as error:
            hint = "is the name right? a private model needs HF_TOKEN"
            raise MissingError(f"model {model.hub_id}: {here}, nor on {constants.ENDPOINT}", hint=hint) from error
        except errors.RevisionNotFoundError as error:
            raise MissingError(f"model {model.hub_id}: has no revision {model.revision}") from error
        except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
            message = f"model {model.hub_id}: could not be fetched{proxy}: {first_line(error)}"
            raise RunError(message) from error


def find_snapshot(model: HubModel, *, tokenizer_only: bool = False) -> Path | None:
    """Return the folder of the snapshot in the hub's cache; None if a file that loading needs is missing."""
    found = _local_snapshot(model, tokenizer_only)
    missing = found and missing_part(found, tokenizer_only=tokenizer_only, trusted=model.trusted)
    return None if missing else found


def _local_snapshot(model: HubModel, tokenizer_only: bool) -> Path | None:
    """The snapshot in the hub's cache, complete or not."""
    from huggingface_hub import errors

    try:
        return _snapshot(model, tokenizer_only, local=True)
    except errors.LocalEntryNotFoundError:
        return None
    except errors.HFValidationError as error:
        raise MissingError(f"--model {model.hub_id}: no alias, folder or hub id: {error}") from error


def _snapshot(model: HubModel, tokenizer_only: bool, *, local: bool) -> Path:
    """A repository may hold the same weights in several forms: only the one that is loaded is fetched."""
    from huggingface_hub import snapshot_download

    patterns = [*NEEDED, "*.py"] if model.trusted else NEEDED

    def snapshot(weights: str) -> Path:
        wanted = [*patterns, weights]
        return Path(
            snapshot_download(model.hub_id, revision=model.revision, local_files_only=local, allow_patterns=wanted)
        )

    if tokenizer_only:
        return snapshot("tokenizer*")
    folder = snapshot("*.safetensors")
    return folder if any(folder.glob("*.safetensors")) else snapshot("pytorch_model*.bin")


def _unreachable(endpoint: str) -> str:
    """Why nothing answers at `endpoint` within `PROBE_SECONDS`, or "".

    The hub's own client goes on trying for longer. Any answer will do here, an error page too, and so will a
    certificate that only the hub's client knows. Looking up a name obeys no time limit, hence the thread.
    """
    # imported here, so that --help need not wait for them
    import socket
    import ssl
    import threading
    import urllib.error
    import urllib.request

    problem = [f"no answer within {PROBE_SECONDS:.0f} s"]
    socks = socks_address(endpoint)  # urllib has no SOCKS, so the probe ends at the proxy

    def probe() -> None:
        try:
            if socks:
                socket.create_connection(socks, PROBE_SECONDS).close()
            else:
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
