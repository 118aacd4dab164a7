"""A job before its first score: the model, the identity of its scores, which pairs are cached, and a scorer.

No weights are loaded, and torch is not imported, if all scores of the job are cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

from lbr_cli.cache.scores import ScoreCache
from lbr_cli.core import Document, Engine, Progress, Query
from lbr_cli.engines import ComputeSpec, Prepared, Settings, prepare_engine
from lbr_cli.errors import RunError
from lbr_cli.families.shared_words import SharedWords
from lbr_cli.identity import Identity, Memo, spec_parts
from lbr_cli.models import LocalModel, ServedModel
from lbr_cli.models.digests import file_digests, has_code_elsewhere
from lbr_cli.scoring import Plan, Scorer, look_up

Pairs = Callable[[], Iterable[tuple[Query, Document]]]  # the same pairs at each call


@dataclass(frozen=True, slots=True)
class Setup:
    """`model` is None for an engine without one, `identity` None if neither a cache nor a manifest needs it.

    `plan` is None for a stream.
    """

    model: LocalModel | ServedModel | None
    identity: Identity | None
    scorer: Scorer
    plan: Plan | None


def set_up(
    model: LocalModel | ServedModel | None,
    engine: str,
    settings: Settings,
    memo: Memo,
    progress: Progress,
    *,
    pairs: Pairs | None = None,
    identify: bool = False,
) -> Setup:
    """Return the setup of a job: its scorer, and the plan of its `pairs`, None for a stream. `memo` has the cache.

    The engine is prepared only if a score is missing; it then has the last word on how it computes. Raises RequestError
    for a pair that the engine could not score.
    """
    if model is None:
        scorer = Scorer(SharedWords(), prepare_engine(engine, None, settings).load, progress)
        return Setup(None, None, scorer, scorer.plan(pairs) if pairs else None)
    is_cached = memo.cache.on
    if isinstance(model, LocalModel) and is_cached and has_code_elsewhere(model):
        progress.note(f"scores of {model.name} are not cached: its code lies in another repository and may change")
        is_cached = False
    is_identified = is_cached or identify
    if is_identified:
        progress.status(f"reading the files of {model.name}")
    files = file_digests(model, memo.sha256) if is_identified else None
    engine_of_job = _EngineOfJob(model, engine, settings, memo, progress, files)

    def setup(spec: ComputeSpec | None) -> Setup:
        identity = Identity(files, engine, model.family, spec) if files is not None and spec else None
        scores = ScoreCache(memo.cache, identity.key, model.label) if identity and is_cached else ScoreCache()
        scorer = Scorer(model.family, partial(engine_of_job.load, spec), progress, scores)
        if pairs and is_cached:
            progress.status("looking up scores")
        return Setup(model, identity, scorer, look_up(pairs(), model.family, scores) if pairs else None)

    remembered = engine_of_job.remembered if pairs else None
    result = setup(remembered or engine_of_job.prepared.spec)
    if remembered and result.plan and result.plan.missing and engine_of_job.prepared.spec != remembered:
        result = setup(engine_of_job.prepared.spec)
    if pairs and result.plan:
        result.scorer.check(result.plan, pairs)
    return result


class _EngineOfJob:
    """Prepares the engine when a score is missing, and loads it. `files` None means that no identity is needed."""

    def __init__(
        self,
        model: LocalModel | ServedModel,
        engine: str,
        settings: Settings,
        memo: Memo,
        progress: Progress,
        files: Mapping[str, str] | None,
    ) -> None:
        self._model = model
        self._engine = engine
        self._settings = settings
        self._memo = memo
        self._progress = progress
        self._files = files
        self._spec_parts = spec_parts(files or {}, engine, model, settings)
        # how the engine computed in an earlier run, None if that is not known
        self.remembered = memo.spec(self._spec_parts) if files is not None else None

    @cached_property
    def prepared(self) -> Prepared:
        settings = self._settings
        if self.remembered is not None:  # the tokenizer need not be compared again with its file
            settings = replace(settings, tokenizer=self.remembered.tokenizer)
        prepared = prepare_engine(self._engine, self._model, settings)
        if self._files is not None and prepared.spec and prepared.spec != self.remembered:
            self._memo.put_spec(self._spec_parts, prepared.spec)
        for warning in prepared.warnings:
            self._progress.warn(warning)
        return prepared

    def load(self, spec: ComputeSpec | None, pairs: int) -> Engine:
        """Load the engine, for scores with this spec. RunError if it or the files of the model have changed."""
        model = self._model
        self._progress.status(f"loading {model.name}")
        if self.prepared.spec != spec:
            raise RunError(f"{model.name}: computes in another way than in earlier runs", hint="run it again")
        engine = self.prepared.load(pairs)
        if self._files is not None and file_digests(model, self._memo.sha256) != self._files:
            place = model.path if isinstance(model, LocalModel) else model.label
            raise RunError(f"{place}: its files have changed since this run began", hint="run it again")
        self._progress.status("checking the prompts")
        return engine
