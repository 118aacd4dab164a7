"""Models on a hub: what is in the hub's cache on this machine is used without a network; a hub is asked once, and
quickly, before anything is fetched.
"""

from __future__ import annotations

from pathlib import Path

from lbr_cli.core import Listener
from lbr_cli.errors import MissingError, RunError
from lbr_cli.models.model import Model

PROBE_SECONDS = 3.0
NEEDED = ["*.json", "*.txt", "*.model", "*.jinja"]


def from_hub(model: Model, listener: Listener) -> Path:
    """The model's snapshot in the hub's own cache, fetched if need be."""
    listener.stage(f"looking for {model.hub_id}")
    from huggingface_hub import constants, errors

    here_already = cached(model)
    if here_already is not None:
        return here_already
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


def cached(model: Model) -> Path | None:
    """The snapshot in the hub's cache, if it is there and whole."""
    from huggingface_hub import errors

    try:
        return _snapshot(model, local=True)
    except errors.LocalEntryNotFoundError:
        return None
    except errors.HFValidationError as error:
        raise MissingError(f"--model {model.hub_id}: no alias, folder or hub id: {error}") from error


def _snapshot(model: Model, *, local: bool) -> Path:
    """A repository may hold the same weights in several forms: only the one that is loaded is fetched."""
    from huggingface_hub import snapshot_download

    patterns = [*NEEDED, "*.py"] if model.trusted else NEEDED

    def snapshot(weights: str) -> Path:
        wanted = [*patterns, weights]
        return Path(
            snapshot_download(model.hub_id, revision=model.revision, local_files_only=local, allow_patterns=wanted)
        )

    if model.served:
        return snapshot("tokenizer*")
    folder = snapshot("*.safetensors")
    return folder if any(folder.glob("*.safetensors")) else snapshot("pytorch_model*.bin")


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
