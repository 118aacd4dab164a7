"""A job before its first score: the model, the identity of its scores, which pairs are cached, and a scorer.

No weights are loaded, and torch is not imported, if all scores of the job are cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lbr_cli.cache import Cache
from lbr_cli.cache.scores import ScoreCache
from lbr_cli.core import Document, Engine, Progress, Query
from lbr_cli.engines import Settings, prepare_engine
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
    cache: Cache,
    progress: Progress,
    *,
    pairs: Pairs | None = None,
    identify: bool = False,
) -> Setup:
    """Return the setup of a job: its scorer, and the plan of its `pairs`, None for a stream.

    The engine is prepared only if a score is missing; it then has the last word on how it computes. Raises RequestError
    for a pair that the engine could not score.
    """
    if model is None:
        scorer = Scorer(SharedWords(), prepare_engine(engine, None, settings).load, progress)
        return Setup(None, None, scorer, scorer.plan(pairs) if pairs else None)
    memo = Memo(cache)
    is_cached = cache.on
    if isinstance(model, LocalModel) and is_cached and has_code_elsewhere(model):
        progress.note(f"scores of {model.name} are not cached: its code lies in another repository and may change")
        is_cached = False
    is_identified = is_cached or identify
    if is_identified:
        progress.status(f"reading the files of {model.name}")
    files = file_digests(model, memo.sha256) if is_identified else {}

    def score_cache(identity: Identity | None) -> ScoreCache:
        return ScoreCache(cache, identity.key, model.label) if identity and is_cached else ScoreCache()

    remembered = plan = None
    parts = spec_parts(files, engine, model, settings)
    if pairs and is_identified and (spec := memo.spec(parts)):
        progress.status("looking up scores")
        remembered = Identity(files, engine, model.family, spec)
        scorer = Scorer(model.family, _load_nothing, progress, score_cache(remembered))
        plan = look_up(pairs(), model.family, scorer.scores)
        if not plan.missing:
            return Setup(model, remembered, scorer, plan)
    prepared = prepare_engine(engine, model, settings)
    for warning in prepared.warnings:
        progress.warn(warning)
    identity = Identity(files, engine, model.family, prepared.spec) if is_identified and prepared.spec else None
    if identity and identity != remembered:
        memo.put_spec(parts, identity.spec)
        plan = None

    def load(pairs: int) -> Engine:
        progress.status(f"loading {model.name}")
        loaded = prepared.load(pairs)
        if is_identified and file_digests(model, memo.sha256) != files:
            place = model.path if isinstance(model, LocalModel) else model.label
            raise RunError(f"{place}: its files have changed since this run began", hint="run it again")
        progress.status("checking the prompts")
        return loaded

    scorer = Scorer(model.family, load, progress, score_cache(identity))
    if pairs:
        progress.status("looking up scores" if is_cached else "checking the prompts")
        plan = plan or look_up(pairs(), model.family, scorer.scores)
        scorer.check(plan, pairs)
    return Setup(model, identity, scorer, plan)


def _load_nothing(pairs: int) -> Engine:
    raise ValueError("all scores are cached")
