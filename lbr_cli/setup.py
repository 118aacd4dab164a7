"""Set up a job: the model, the identity of its scores, the plan of cached pairs, and a scorer.

No weights are loaded, and torch is not imported, if all scores of the job are cached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from lbr_cli.cache.scores import ScoreCache
from lbr_cli.core import Engine, Progress
from lbr_cli.engines import ComputeSpec, Prepared, Settings, prepare_engine
from lbr_cli.errors import RunError
from lbr_cli.families.shared_words import SharedWords
from lbr_cli.identity import Identity, Memo, spec_parts
from lbr_cli.models import LocalModel, ServedModel
from lbr_cli.models.digests import file_digests, has_code_elsewhere
from lbr_cli.scoring import Pairs, Plan, Scorer, look_up


@dataclass(frozen=True, slots=True)
class Setup:
    """A job that is ready to score.

    `model` is None for an engine without one. `identity` is None if no cache or manifest needs it. `plan` is None for a
    stream.
    """

    model: LocalModel | ServedModel | None
    identity: Identity | None
    scorer: Scorer
    plan: Plan | None


def set_up_without_model(engine: str, settings: Settings, progress: Progress, pairs: Pairs | None) -> Setup:
    """Return the setup of a job for an engine without a model. `pairs` are those of `Preparation.set_up`."""
    scorer = Scorer(SharedWords(), prepare_engine(engine, None, settings).load, progress)
    return Setup(None, None, scorer, scorer.plan(pairs) if pairs else None)


class Preparation:
    """A model and its engine, for one job or several. The engine is prepared if a score is missing, and loaded once.

    `memo` has the cache. The files of the model are hashed if it is on, or for `identify`.
    """

    def __init__(
        self,
        model: LocalModel | ServedModel,
        engine: str,
        settings: Settings,
        memo: Memo,
        progress: Progress,
        *,
        identify: bool = False,
    ) -> None:
        self._model = model
        self._engine = engine
        self._settings = settings
        self._memo = memo
        self._progress = progress
        self._day = date.today()
        self._prepared: Prepared | None = None
        self._loaded: tuple[ComputeSpec | None, Engine] | None = None
        self._is_cacheable = not (isinstance(model, LocalModel) and has_code_elsewhere(model))
        if memo.cache.on and not self._is_cacheable:
            progress.note(f"scores of {model.name} are not cached: its code is in another repository and may change")
        is_identified = identify or (memo.cache.on and self._is_cacheable)
        if is_identified:
            progress.status(f"reading the files of {model.name}")
        self._files = file_digests(model, memo.sha256) if is_identified else None
        self._spec_parts = spec_parts(self._files or {}, engine, model, settings)
        # the spec of the engine in an earlier run, None if unknown
        self._remembered = memo.spec(self._spec_parts) if self._files is not None else None

    def set_up(self, pairs: Pairs | None = None) -> Setup:
        """Return the setup of a job: its scorer, and the plan of its `pairs`, None for a stream.

        The engine is prepared only if a score is missing; its own spec then replaces a remembered one. Raises
        RequestError for a pair that the engine could not score.
        """
        today = date.today()
        if self._prepared is not None and self._prepared.spec and self._prepared.spec.dated and self._day != today:
            self._prepared = self._loaded = None  # the prompt has another date now
        self._day = today
        remembered = self._remembered if pairs and self._prepared is None else None
        result = self._setup(remembered or self._prepare().spec, pairs)
        if remembered and result.plan and result.plan.missing and self._prepare().spec != remembered:
            result = self._setup(self._prepare().spec, pairs)
        if pairs and result.plan:
            result.scorer.check(result.plan, pairs)
        return result

    def _setup(self, spec: ComputeSpec | None, pairs: Pairs | None) -> Setup:
        """Return the setup for scores with this spec. The pairs are not checked."""
        model, cache = self._model, self._memo.cache
        is_cached = cache.on and self._is_cacheable
        identity = Identity(self._files, self._engine, model.family, spec) if self._files is not None and spec else None
        scores = ScoreCache(cache, identity.key, model.label) if identity and is_cached else ScoreCache()
        scorer = Scorer(model.family, partial(self._load, spec), self._progress, scores)
        if pairs and is_cached:
            self._progress.status("looking up scores")
        return Setup(model, identity, scorer, look_up(pairs(), model.family, scores) if pairs else None)

    def _prepare(self) -> Prepared:
        """Return the engine without its weights."""
        if self._prepared is not None:
            return self._prepared
        settings = self._settings
        if self._remembered is not None:  # the tokenizer need not be compared again with its file
            settings = replace(settings, tokenizer=self._remembered.tokenizer)
        prepared = prepare_engine(self._engine, self._model, settings)
        if self._files is not None and prepared.spec and prepared.spec != self._remembered:
            self._memo.put_spec(self._spec_parts, prepared.spec)
        for warning in prepared.warnings:
            self._progress.warn(warning)
        self._prepared = prepared
        return prepared

    def _load(self, spec: ComputeSpec | None, pairs: int) -> Engine:
        """Return the engine, for scores with this spec. RunError if its spec or the files of the model have changed."""
        if self._loaded is not None and self._loaded[0] == spec:
            return self._loaded[1]
        self._loaded = None  # frees the memory of the old one
        model = self._model
        self._progress.status(f"loading {model.name}")
        if self._prepare().spec != spec:
            raise RunError(f"{model.name}: computes in another way than in earlier runs", hint="run the command again")
        engine = self._prepare().load(pairs)
        if self._files is not None and file_digests(model, self._memo.sha256) != self._files:
            name = model.path if isinstance(model, LocalModel) else model.label
            raise RunError(f"{name}: its files have changed since this run began", hint="run the command again")
        self._progress.status("checking the prompts")
        self._loaded = spec, engine
        return engine
