"""Model + engine + cache -> a scorer that loads no model before there is a pair to compute.

What decides a score besides the two texts is found out here. Choosing a device takes torch and rendering a prompt takes
transformers, so the outcome is remembered as long as neither the files of the model, nor the versions of both, nor the
machine have changed, unless a date stands in the prompt; an engine that is loaded after all chooses again, and its word
counts. Files that have changed by the time the model is loaded end the run.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path

import orjson

from lbr_cli.cache import Cache, key_of
from lbr_cli.cache.scores import Scores
from lbr_cli.core import Engine, Progress
from lbr_cli.engines import Prepared, Settings, Terms, prepare_engine
from lbr_cli.engines.machine import this_machine
from lbr_cli.errors import MissingError, RunError
from lbr_cli.families.shared_words import SharedWords
from lbr_cli.models import Model, fetched
from lbr_cli.models.contents import contents, fingerprint, has_code_elsewhere, sha256
from lbr_cli.scoring import Scorer

SCORING_VERSION = b"2"  # raised whenever the same files come to mean another score, so that no old score is found
SETTLED = 2.0  # seconds; a file that was just written may change again without another time


class Assembly:
    """A scorer, and what it is made of.

    `model` is None for an engine without one. `files`, the sha256 of each file of the model, and `terms` are known from
    the beginning where a cache needs them or `identify` asks for them; else `terms` are when the engine is loaded.
    """

    def __init__(
        self,
        model: Model | None,
        engine: str,
        settings: Settings,
        cache: Cache,
        progress: Progress,
        *,
        identify: bool = False,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._cache = cache
        self._listener = progress
        self._prepared: Prepared | None = None
        self._digests: dict[tuple[str, ...], str] = {}
        self._identified = False
        self.files: dict[str, str] = {}
        self.terms: Terms | None = None
        self.model = model = fetched(model, progress, self._digest) if model else None
        kept = model is not None and cache.on
        if model and kept and has_code_elsewhere(model):
            progress.note(f"scores of {model.name} are not kept: its code lies in another repository, and may change")
            kept = False
        self._scores = Scores(cache if kept else None, model=model.label if model else "")
        if model and (kept or identify):
            progress.status(f"looking at the files of {model.name}")
            self.files = contents(model, self._digest)
            self._identified = True
            self._settle(self._recalled() or self._prepare().terms)
        family = model.known_family if model else SharedWords()
        self.scorer = Scorer(family, self._load, progress, self._scores)

    def _load(self, pairs: int) -> Engine:
        if self.model:
            self._listener.status(f"loading {self.model.name}")
        engine = (self._prepared or self._prepare()).load(pairs)
        if self.model and self._identified and contents(self.model, self._digest) != self.files:
            raise RunError(f"{self.model.folder}: its files have changed since this run began", hint="run it again")
        self._listener.status("checking the prompts")
        return engine

    def _prepare(self) -> Prepared:
        self._prepared = prepare_engine(self._engine, self.model, self._settings)
        terms = self._prepared.terms
        if terms != self.terms:
            self._settle(terms)
            if terms and self._identified and not terms.dated:
                self._cache.remember(orjson.dumps(asdict(terms)), *self._about())
        for warning in self._prepared.warnings:
            self._listener.warn(warning)
        return self._prepared

    def _settle(self, terms: Terms | None) -> None:
        self.terms = terms
        if self.model and self._identified and terms:
            family = self.model.known_family
            parts = (
                fingerprint(self.files),
                self._engine,
                *map(str, asdict(terms).values()),
                family.name,
                repr(family),
            )
            self._scores.context = key_of(SCORING_VERSION, *(part.encode("utf-8", "surrogatepass") for part in parts))

    def _about(self) -> tuple[str, ...]:
        """What decides the terms."""
        if self.model is None:
            return ()
        settings = self._settings
        asked = (settings.device, settings.dtype, str(settings.max_length))
        server = (settings.server.base_url, self.model.served) if settings.server else ()
        family = repr(self.model.known_family)
        return (
            *Terms.__dataclass_fields__,
            fingerprint(self.files),
            self._engine,
            *asked,
            *server,
            str(self.model.max_length),
            family,
            this_machine(),
        )

    def _recalled(self) -> Terms | None:
        """The terms of an earlier run."""
        value = self._cache.recall(*self._about())
        return None if value is None else Terms(**orjson.loads(value))

    def _digest(self, path: Path) -> str:
        """The sha256 of a file, remembered until the file changes."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise MissingError(f"{path}: cannot be read: {error.strerror}") from error
        told = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)
        about = ("sha256", os.path.realpath(path), *map(str, told))
        known = self._cache.recall(*about)
        if known is not None:
            return known.decode()
        if about in self._digests:
            return self._digests[about]
        found = self._digests[about] = sha256(path)
        if time.time() - max(status.st_mtime, status.st_ctime) > SETTLED:
            self._cache.remember(found.encode(), *about)
        return found
