"""The identity of a score: everything that determines it except the two texts, computed without loading weights.

Hashing weights takes seconds, and so does importing torch to choose a device. The memo of the cache keeps both results:
a digest as long as the file does not change; a `ComputeSpec` as long as the files of the model, the options, the
hardware and the versions of torch and transformers do not change. A spec that may differ later is not stored.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from lbr_cli.cache import Cache, key_of
from lbr_cli.core import Family
from lbr_cli.engines import ComputeSpec, Settings
from lbr_cli.engines.environment import hardware_fingerprint
from lbr_cli.errors import MissingError, read_error
from lbr_cli.models import LocalModel, ServedModel
from lbr_cli.models.digests import fingerprint, sha256

SCORING_VERSION = "6"  # increase it if the same files and texts give another score, so that no old score is reused
STABLE_AFTER_SECONDS = 2.0  # a file written a moment ago may change again without a new modification time


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything that determines a score, except the texts. `files` has the sha256 of each model file by name."""

    files: Mapping[str, str]
    engine: str
    family: Family
    spec: ComputeSpec

    @property
    def key(self) -> bytes:
        """A digest of all fields and `SCORING_VERSION`, for the keys of cached scores."""
        spec = map(str, asdict(self.spec).values())
        return key_of(SCORING_VERSION, fingerprint(self.files), self.engine, *spec, _family_text(self.family))


class Memo:
    """The digests of files and the specs of engines, stored in `cache` (which may be off); digests also in memory."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self._digests: dict[tuple[str, ...], str] = {}

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file. MissingError if it cannot be read."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise read_error(path, error, MissingError) from error
        version = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        parts = ("sha256", os.path.realpath(path), *map(str, version))
        if parts in self._digests:
            return self._digests[parts]
        stored = self.cache.recall(*parts)
        if stored is not None:
            return stored.decode()
        digest = self._digests[parts] = sha256(path)
        if time.time() - max(status.st_mtime, status.st_ctime) > STABLE_AFTER_SECONDS:
            self.cache.remember(digest.encode(), *parts)
        return digest

    def spec(self, parts: Sequence[str]) -> ComputeSpec | None:
        """Return the spec of an engine in an earlier run with equal `spec_parts`, None if there was none."""
        value = self.cache.recall(*parts)
        return None if value is None else ComputeSpec(**orjson.loads(value))

    def put_spec(self, parts: Sequence[str], spec: ComputeSpec) -> None:
        """Store the spec of an engine, unless it is `dated`: it may differ in the next run."""
        if not spec.dated:
            self.cache.remember(orjson.dumps(asdict(spec)), *parts)


def spec_parts(
    files: Mapping[str, str], engine: str, model: LocalModel | ServedModel, settings: Settings
) -> tuple[str, ...]:
    """Return everything that determines the `ComputeSpec` of an engine, the scoring version included."""
    limit = model.max_length if isinstance(model, LocalModel) else None
    server = (settings.server.base_url, settings.server.dialect, model.label) if settings.server else ()
    options = (settings.device, settings.dtype, str(settings.max_length), str(limit))
    fields = tuple(ComputeSpec.__dataclass_fields__)
    family = _family_text(model.family)
    return (SCORING_VERSION, *fields, fingerprint(files), engine, *options, *server, family, hardware_fingerprint())


def _family_text(family: Family) -> str:
    return f"{family.name} {family!r}"
