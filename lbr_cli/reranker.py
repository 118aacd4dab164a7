"""Reranking from Python: `Reranker` computes the scores of `lbr rerank`, with its options, its cache and its errors."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self, TypedDict, Unpack, overload

from lbr_cli.cache import Cache
from lbr_cli.commands.options.cache import CacheOptions
from lbr_cli.commands.options.engine import Dtype, EngineOptions
from lbr_cli.commands.options.model import RerankerOptions
from lbr_cli.commands.options.scoring import DocumentOptions, ScoringOptions
from lbr_cli.commands.rerank import check_engine_options, chosen_model
from lbr_cli.commands.values import option_values
from lbr_cli.core import Query, RankedCandidate, Ranking
from lbr_cli.errors import InputError, UsageError
from lbr_cli.formats.trec import falling_scores
from lbr_cli.identity import Memo
from lbr_cli.inputs.values import RUN, Run, Texts, joined_rankings, merged_rankings, ranking_of_texts
from lbr_cli.job import warn_about_scores
from lbr_cli.models import fetch
from lbr_cli.rerank import Method, check_first_stage_scores, pairs_to_score, rerank
from lbr_cli.scoring import Pairs
from lbr_cli.setup import Preparation, Setup, set_up_without_model

Path = str | os.PathLike[str]


class Options(TypedDict, total=False):
    """The options of `lbr rerank`, except --model, that determine how a score is computed."""

    revision: str | None
    family: str | None
    instruction: str | None
    prompt_file: Path | None
    labels: str | None
    query_prompt: str | None
    document_prompt: str | None
    trust_remote_code: bool
    max_length: int | None
    passages: Literal["first", "max", "mean"] | None
    passage_words: int
    passage_stride: int | None
    engine: str
    device: str
    dtype: Dtype
    batch_tokens: int | None
    threads: int | None
    base_url: str | None
    concurrency: int
    dialect: str | None
    documents_per_request: int | None
    tokenizer: Path | None
    workers: int
    worker_cpus: int
    worker_gpus: float
    ray_address: str | None
    cache: bool | None
    cache_dir: Path | None
    cache_size: str


class RankingOptions(TypedDict, total=False):
    """The options of `lbr rerank` that determine which candidates are scored, and how they are ranked."""

    depth: int | None
    top_k: int | None
    interpolate: float | None
    min_score: float | None
    min_probability: float | None


class Reranker:
    """Scores texts with a model, which is loaded when the first score is computed and kept until `close`.

    The arguments are named like the options of `lbr rerank`; the default of an option is the value of its environment
    variable, if set. Raises UsageError and MissingError for an invalid option or an unknown model.

    Calls from several threads wait for each other.
    """

    def __init__(self, model: Path | None = None, **options: Unpack[Options]) -> None:
        _check_names(type(self).__name__, options, Options)
        groups = (RerankerOptions, DocumentOptions, EngineOptions, CacheOptions)
        values, given = option_values(groups, {"model": model, **options})
        chosen = RerankerOptions.parsed(values, given)
        engine = EngineOptions.parsed(values, given)
        self._documents = DocumentOptions.parsed(values, given)
        cache = CacheOptions.parsed(values, given)
        check_engine_options(given, engine, cache)
        self._engine = engine.engine
        self._settings = engine.settings(self._documents.max_length)
        self._model = chosen_model(chosen, engine, self._settings.server)
        self._location = cache.location() if engine.has_model else None
        self._progress = LoggedProgress()
        self._memo = Memo(Cache(None, self._progress))
        self._preparation: Preparation | None = None
        self._lock = threading.RLock()
        self._is_closed = False

    def score(self, query: str, texts: Iterable[str]) -> list[float]:
        """Return the score of each text for a query, in the order of `texts`; higher is more relevant.

        Raises InputError for an invalid argument, and RequestError for a pair that cannot be scored; its document id is
        the index of the text.
        """
        ranking = ranking_of_texts(query, texts)
        if not ranking.candidates:
            return []
        ((_, candidates),) = self._rerank([ranking], Method(passages=self._documents.split()))
        scores = {candidate.first_stage_rank: candidate.score for candidate in candidates}
        return [score for _, score in sorted(scores.items()) if score is not None]

    @overload
    def rerank(
        self, run: Run, queries: Mapping[str, str], documents: Texts, **options: Unpack[RankingOptions]
    ) -> dict[str, dict[str, float]]: ...
    @overload
    def rerank(
        self, run: Iterable[Ranking], **options: Unpack[RankingOptions]
    ) -> list[tuple[Query, list[RankedCandidate]]]: ...
    def rerank(
        self,
        run: Run | Iterable[Ranking],
        queries: Mapping[str, str] | None = None,
        documents: Texts | None = None,
        **options: Unpack[RankingOptions],
    ) -> dict[str, dict[str, float]] | list[tuple[Query, list[RankedCandidate]]]:
        """Return the candidates of each query in their new order; queries are in the order of `run`.

        A run `{query id: {document id: score}}` needs the texts of its `queries` and `documents` by id, and is returned
        in the same form, with the scores that `lbr rerank` writes to a TREC run. A run of `Ranking`s holds its texts,
        and is returned as a list of queries and their `RankedCandidate`s.

        Raises InputError for an invalid run, a missing text, and a run without a candidate.
        """
        _check_names("rerank", options, RankingOptions)
        values, given = option_values([ScoringOptions], options)
        method = ScoringOptions.parsed(values, given).method(self._documents)
        if not isinstance(run, Mapping):
            if queries is not None or documents is not None:
                raise UsageError("queries and documents have no effect: rankings hold their texts")
            return self._rerank(merged_rankings(run, self._progress), method)
        if queries is None or documents is None:
            raise UsageError(
                "a run of ids needs queries and documents", hint="reranker.rerank(run, queries, documents)"
            )
        result = self._rerank(list(joined_rankings(run, queries, documents)), method)
        return {
            query.query_id: {row.candidate.doc_id: score for row, score in zip(rows, falling_scores(rows), strict=True)}
            for query, rows in result
        }

    def close(self) -> None:
        """Free the memory of the model. The object cannot be used afterwards."""
        with self._lock:
            self._preparation = None
            self._is_closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rerank(self, rankings: Sequence[Ranking], method: Method) -> list[tuple[Query, list[RankedCandidate]]]:
        if not any(ranking.candidates for ranking in rankings):
            raise InputError("holds no candidates", RUN)
        for ranking in rankings:
            check_first_stage_scores(ranking, method, RUN)
        with self._lock:
            if self._is_closed:
                raise UsageError("this Reranker is closed")
            # opened for each call, so that no connection is shared by threads or forks, or stays open between calls
            with Cache(self._location, self._progress) as cache:
                self._memo.cache = cache
                setup = self._set_up(lambda: pairs_to_score(rankings, method))
                result = list(rerank(rankings, setup.scorer, method, setup.plan))
        warn_about_scores(setup.scorer.counts, method, self._progress)
        return result

    def _set_up(self, pairs: Pairs) -> Setup:
        """Return the setup of a call. The first call fetches the model."""
        if self._model is None:
            return set_up_without_model(self._engine, self._settings, self._progress, pairs)
        if self._preparation is None:
            model = fetch(self._model, self._progress, self._memo.sha256)
            cached = self._location is not None
            arguments = (model, self._engine, self._settings, self._memo, self._progress)
            self._preparation = Preparation(*arguments, identify=cached)
        return self._preparation.set_up(pairs)


class LoggedProgress:
    """A `Progress` with the logger "lbr_cli": warnings, notes (level INFO) and slow steps (level DEBUG)."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("lbr_cli")

    def status(self, what: str) -> None:
        self._logger.debug(what)

    def note(self, message: str) -> None:
        self._logger.info(message)

    def warn(self, message: str) -> None:
        self._logger.warning(message)

    def start(self, queries: int, pairs: int, cached: int) -> None:
        """Do nothing: a log has no progress bar."""

    def advance(self, *, queries: int = 0, pairs: int = 0, cached: int = 0, tokens: int = 0) -> None:
        """Do nothing: a log has no progress bar."""

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()


def _check_names(function: str, options: Mapping[str, Any], known: Any) -> None:
    """Raise TypeError for an unknown argument, as Python does."""
    for name in options:
        if name not in known.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
