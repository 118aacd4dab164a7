"""Scoring with a cache and an engine that reads windows: what is computed, stored, yielded and counted, and when."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbr_cli import computation
from lbr_cli.cache import Cache
from lbr_cli.cache.location import CacheLocation
from lbr_cli.cache.scores import ScoreCache
from lbr_cli.core import Answer, Batch, Document, Embedding, Engine, Family, Pair, Query, Request, Score
from lbr_cli.errors import ComputeError, RequestError, RunError
from lbr_cli.families import BiEncoder, Classifier, Lb, LbRev
from lbr_cli.scoring import Plan, QueryDocuments, Scorer, requests_of
from support.progress import RecordedProgress

# the last two have the texts of the first two
QUERIES = [Query(f"q{number}", f"query {number % 4}") for number in range(6)]
DOCUMENTS = [Document(f"text {number}", f"text {number}") for number in range(7)]
ITEMS = [QueryDocuments(query, DOCUMENTS) for query in QUERIES]
FAMILIES: list[Family] = [Lb(), Classifier(), LbRev(), BiEncoder()]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


class Stop(BaseException):
    """Raised as if the process were killed."""


class FakeEngine:
    """Computes in batches of `size` and is killed after `lasts` of them. Requests that contain `refused` fail."""

    description = "test"

    def __init__(self, *, size: int = 3, window: int = 1, lasts: int = 10**9, refused: str = "\0") -> None:
        self.window = window
        self.checked: list[Request] = []
        self.windows: list[list[Request]] = []
        self.computed: Counter[Request] = Counter()
        self.batches = 0
        self._size, self._lasts, self._refused = size, lasts, refused

    def check(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.checked.append(request)
            if self._refused in repr(request):
                raise RequestError("no room", request)

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        for window in windows:
            assert len(set(window)) == len(window) > 0
            self.windows.append(list(window))
            for start in range(0, len(window), self._size):
                if self.batches == self._lasts:
                    raise Stop
                self.batches += 1
                yield self.batch(window[start : start + self._size])

    def batch(self, requests: Sequence[Request]) -> Batch:
        for request in requests:
            if self._refused in repr(request):
                raise ComputeError("out of memory", request)
        self.computed.update(requests)
        return Batch([(one, Answer(values(one), "6" in repr(one))) for one in requests], len(requests))


def values(request: Request) -> Any:
    """Return numbers that depend on the texts."""
    seed = sum(repr(request).encode())
    if isinstance(request, Embedding):
        return np.array([seed % 7 + 1, seed % 11, seed % 13], dtype=np.float32)
    if isinstance(request, Pair):
        return [(seed % 17) / 3]
    return [math.log(1 / (7 + (seed + digit) % 5)) for digit in range(7)]


def pairs() -> Iterator[tuple[Query, Document]]:
    return itertools.product(QUERIES, DOCUMENTS)


def new_scorer(family: Family, engine: Engine, cache: Cache, progress: RecordedProgress | None = None) -> Scorer:
    return Scorer(family, lambda pairs: engine, progress or RecordedProgress(), ScoreCache(cache, b"context", "m"))


def run(
    family: Family,
    engine: FakeEngine,
    folder: Path | None,
    progress: RecordedProgress | None = None,
    *,
    planned: bool = True,
) -> dict[tuple[str, str], Score]:
    """Score all pairs as a job does, or as a stream does."""
    progress = progress or RecordedProgress()
    with Cache(CacheLocation(folder, 10**9) if folder else None, progress) as cache:
        scorer = new_scorer(family, engine, cache, progress)
        plan = scorer.plan(pairs) if planned else None
        found = {}
        for item, scores in scorer.score(ITEMS, plan):
            for document, score in zip(item.documents, scores, strict=True):
                found[item.query.query_id, document.doc_id] = score
        assert list(found) == [(query.query_id, document.doc_id) for query, document in pairs()]
        assert scorer.counts.pairs == progress.pairs == len(found)
        assert scorer.counts.cached == progress.cached
        assert scorer.counts.tokens == progress.tokens == sum(engine.computed.values())
    assert progress.warnings == []
    return found


@every_family
@pytest.mark.parametrize("window", [1, 10, 100])
def test_a_second_run_computes_nothing_and_gives_the_same_scores(family: Family, window: int, tmp_path: Path) -> None:
    plain = run(family, FakeEngine(), None)
    engine, progress = FakeEngine(window=window), RecordedProgress()
    assert run(family, engine, tmp_path) == plain
    assert set(engine.computed.values()) == {1}  # also for pairs with equal texts
    warm = FakeEngine(lasts=0)
    assert run(family, warm, tmp_path, progress) == plain
    assert (progress.pairs, progress.cached, progress.tokens) == (len(plain), len(plain), 0)
    assert not warm.windows


@pytest.mark.slow
@every_family
@settings(max_examples=60)
@given(
    kills=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    size=st.integers(1, 9),
    windows=st.lists(st.sampled_from([1, 10, 100]), min_size=9, max_size=9),
)
def test_a_job_that_is_killed_repeatedly_computes_each_pair_once(
    family: Family, kills: list[int], size: int, windows: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    computed: Counter[Request] = Counter()
    for lasts, window in zip([*kills, 10**9], windows, strict=False):
        engine = FakeEngine(size=size, window=window, lasts=lasts)
        try:
            found = run(family, engine, folder)
        except Stop:
            assert lasts != 10**9
        computed += engine.computed
    assert found == run(family, FakeEngine(), None)
    if isinstance(family, BiEncoder):  # queries are encoded again in each run that misses one of their pairs
        computed = Counter({text: count for text, count in computed.items() if "query" not in repr(text)})
    assert set(computed.values()) <= {1}


@every_family
def test_pairs_that_this_job_computed_do_not_count_as_cached(family: Family, tmp_path: Path) -> None:
    progress = RecordedProgress()
    run(family, FakeEngine(), tmp_path, progress)
    assert (progress.pairs, progress.cached) == (len(QUERIES) * len(DOCUMENTS), 0)


@every_family
def test_a_stream_is_cached_too(family: Family, tmp_path: Path) -> None:
    plain = run(family, FakeEngine(), None)
    assert run(family, FakeEngine(), tmp_path, planned=False) == plain
    progress = RecordedProgress()
    assert run(family, FakeEngine(lasts=0), tmp_path, progress, planned=False) == plain
    assert progress.cached == len(plain)


@every_family
def test_each_query_of_a_stream_is_complete_before_the_next_is_read(family: Family) -> None:
    read: list[str] = []

    def items() -> Iterator[QueryDocuments]:
        for item in ITEMS:
            read.append(item.query.query_id)
            yield item

    scorer = new_scorer(family, FakeEngine(window=100), Cache(None, RecordedProgress()))
    for number, (item, _) in enumerate(scorer.score(items())):
        assert read[-1] == item.query.query_id == f"q{number}"


@pytest.mark.parametrize("family", [Lb(), Classifier()], ids=lambda family: family.name)
def test_windows_are_whole_queries_and_grow_to_what_the_engine_prefers(family: Family, tmp_path: Path) -> None:
    queries = [Query(str(number), f"text of {number}") for number in range(40)]
    items = [QueryDocuments(query, DOCUMENTS[: 3 + number % 3]) for number, query in enumerate(queries)]
    engine = FakeEngine(size=100, window=30)
    scorer = new_scorer(family, engine, Cache(None, RecordedProgress()))
    plan = scorer.plan(lambda: ((item.query, document) for item in items for document in item.documents))
    assert [item for item, _ in scorer.score(items, plan)] == items
    assert list(map(len, engine.windows[:3])) == [3, 12, 33]  # queries have 3, 4, 5, 3, 4, … documents
    assert all(30 <= len(window) < 35 for window in engine.windows[2:-1])
    flat = [request for window in engine.windows for request in window]
    assert flat == [requests_of(family, item.query, document)[0] for item in items for document in item.documents]


@pytest.mark.parametrize("family", [LbRev(), BiEncoder()], ids=lambda family: family.name)
def test_a_family_that_shares_documents_has_one_sorted_window(family: Family) -> None:
    engine = FakeEngine()
    run(family, engine, None)
    *before, window = engine.windows
    if isinstance(family, BiEncoder):  # requests that the pairs of a query share precede those of all documents
        assert [[request.document for request in shared] for shared in before] == [[f"query {n}" for n in range(4)]]
    else:
        assert before == []
    texts = [request.document for request in window]
    assert texts == sorted(texts)  # all have equal length
    documents = [Document(str(size), "x" * size) for size in (3, 1, 2)]
    scorer = new_scorer(family, engine, Cache(None, RecordedProgress()))
    scorer.score_query(QUERIES[0], documents)
    assert [len(one.document) for one in engine.windows[-1] if "x" in one.document] == [3, 2, 1]


@every_family
def test_a_query_is_yielded_as_soon_as_it_and_those_before_it_are_complete(family: Family, tmp_path: Path) -> None:
    engine = FakeEngine(size=4, window=14)
    yielded_after = []
    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scorer = new_scorer(family, engine, cache)
        yielded_after = [engine.batches for _ in scorer.score(ITEMS, scorer.plan(pairs))]
    if family.shares == "query":  # two batches a query; the texts of the last two are those of the first two
        assert yielded_after == [2, 4, 6, 8, 8, 8]
    else:  # a query needs all seven documents
        assert yielded_after == [engine.batches] * 6


@every_family
@pytest.mark.parametrize("planned", [True, False], ids=["job", "stream"])
def test_scores_are_stored_before_their_window_is_complete(family: Family, planned: bool, tmp_path: Path) -> None:
    class Backwards(FakeEngine):
        def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
            return super().answer(window[::-1] for window in windows)

    engine = Backwards(size=3, lasts=4)  # the second batch completes the queries of a bi-encoder
    with pytest.raises(Stop):
        run(family, engine, tmp_path, planned=planned)
    progress = RecordedProgress()
    run(family, FakeEngine(), tmp_path, progress)
    assert progress.cached >= 6


@every_family
def test_cached_queries_are_yielded_at_once_and_in_order(family: Family, tmp_path: Path) -> None:
    missing = {"q2"}
    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scorer = new_scorer(family, FakeEngine(), cache)
        list(scorer.score(item for item in ITEMS if item.query.query_id not in missing))
    engine = FakeEngine()
    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scorer = new_scorer(family, engine, cache)
        found = [(item.query.query_id, engine.batches) for item, _ in scorer.score(ITEMS, scorer.plan(pairs))]
        assert scorer.counts.cached == 5 * len(DOCUMENTS)
    assert found[:2] == [("q0", 0), ("q1", 0)]
    assert [query_id for query_id, _ in found] == [query.query_id for query in QUERIES]


def test_a_long_run_of_cached_queries_is_not_read_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computation, "MAX_CACHED", 2 * len(DOCUMENTS))
    items = [QueryDocuments(Query(str(number), f"text {number}"), DOCUMENTS) for number in range(20)]

    def all_pairs() -> Iterator[tuple[Query, Document]]:
        return ((item.query, document) for item in items for document in item.documents)

    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scorer = new_scorer(Classifier(), FakeEngine(), cache)
        list(scorer.score(items[1:10] + items[11:]))
    read: list[int] = []

    def reading() -> Iterator[QueryDocuments]:
        for number, item in enumerate(items):
            read.append(number)
            yield item

    engine = FakeEngine(window=1000)
    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scorer = new_scorer(Classifier(), engine, cache)
        for number, _ in enumerate(scorer.score(reading(), scorer.plan(all_pairs))):
            assert read[-1] <= number + 2
    assert list(map(len, engine.windows)) == [len(DOCUMENTS)] * 2
    assert not any(engine.computed[request] > 1 for request in engine.computed)


def test_a_row_that_is_damaged_after_the_plan_is_recomputed(tmp_path: Path) -> None:
    plain = run(Classifier(), FakeEngine(), tmp_path)
    engine = FakeEngine()
    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scores = ScoreCache(cache, b"context", "m")
        get = scores.get
        lost = (Pair("query 1", "text 3"),)
        scores.get = lambda keys: [  # type: ignore[method-assign]
            None if key == scores.key(lost) else score for key, score in zip(keys, get(keys), strict=True)
        ]
        scorer = Scorer(Classifier(), lambda pairs: engine, RecordedProgress(), scores)
        plan = scorer.plan(pairs)
        assert plan.hits == plan.pairs
        found = {
            (item.query.query_id, document.doc_id): score
            for item, row in scorer.score(ITEMS, plan)
            for document, score in zip(item.documents, row, strict=True)
        }
    assert found == plain
    assert set(engine.computed) == {lost[0]}


@every_family
def test_the_requests_of_a_pair_are_built_at_most_three_times(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: Counter[tuple[str, str]] = Counter()
    requests = type(family).requests

    def counted(self: Family, query: str, document: Document) -> tuple[Request, ...]:
        built[query, document.doc_id] += 1
        return requests(self, query, document)

    monkeypatch.setattr(type(family), "requests", counted)
    for passes in (3, 1):  # passes: lookup, check and scoring; in the second run only the lookup
        built.clear()
        run(family, FakeEngine(), tmp_path)
        alike = Counter((query.text or "", document.doc_id) for query, document in pairs())
        # equal texts under another query id may be in the cache when their turn comes
        assert all(0 < built[pair] <= passes * count for pair, count in alike.items())
        assert all(built[pair] == passes for pair, count in alike.items() if count == 1)


def test_the_engine_checks_and_computes_only_what_is_not_cached(tmp_path: Path) -> None:
    loaded: list[int] = []
    for count, cached in ((3, 0), (7, 3), (7, 7)):
        engine = FakeEngine(size=10)

        def load(pairs: int, engine: FakeEngine = engine) -> Engine:
            loaded.append(pairs)
            return engine

        some = [(QUERIES[0], document) for document in DOCUMENTS[:count]]
        with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
            scorer = Scorer(Classifier(), load, RecordedProgress(), ScoreCache(cache, b"context", "m"))
            plan = scorer.plan(lambda: some)  # noqa: B023 - called at once
            assert (plan.pairs, plan.hits) == (count, cached)
            assert scorer.description == ("nothing computed" if cached == count else "test")
            list(scorer.score([QueryDocuments(QUERIES[0], DOCUMENTS[:count])], plan))
        new = [Pair("query 0", document.text) for document in DOCUMENTS[cached:count]]
        assert (engine.checked, engine.windows) == (new, [new] if new else [])
    assert loaded == [3, 4]


def test_pairs_that_are_not_in_the_plan_are_refused() -> None:
    scorer = new_scorer(Classifier(), FakeEngine(), Cache(None, RecordedProgress()))
    plan = scorer.plan(lambda: [(QUERIES[0], DOCUMENTS[0])])
    with pytest.raises(ValueError, match="the pairs are not those of the plan"):
        list(scorer.score(ITEMS, plan))


@every_family
@pytest.mark.parametrize("window", [1, 100])
@pytest.mark.parametrize("planned", [True, False], ids=["when planned", "while computing"])
@pytest.mark.parametrize(
    ("text", "pair"), [("text 5", "query q0, document text 5"), ("query 2", "query q2, document text 0")]
)
def test_an_error_names_its_pair(family: Family, window: int, planned: bool, text: str, pair: str) -> None:
    engine = FakeEngine(size=4, window=window, refused=text)
    scorer = new_scorer(family, engine, Cache(None, RecordedProgress()))
    if planned:
        with pytest.raises(RequestError, match=f"^{pair}: no room$") as caught:
            scorer.plan(pairs)
    else:
        plan = Plan(bytes(len(list(pairs()))))
        with pytest.raises(ComputeError, match=f"^{pair}: out of memory$") as caught:
            list(scorer.score(ITEMS, plan))
    assert text in repr(caught.value.request)


def test_a_pair_that_fails_is_not_stored_and_the_others_of_its_batch_are(tmp_path: Path) -> None:
    class Odd(FakeEngine):
        def batch(self, requests: Sequence[Request]) -> Batch:
            batch = super().batch(requests)
            odd = [(one, Answer([math.nan]) if "text 2" in repr(one) else answer) for one, answer in batch.answers]
            return Batch(odd, batch.tokens)

    with pytest.raises(RunError, match="query q0, document text 2: the score is nan"):
        run(Classifier(), Odd(size=5), tmp_path)
    engine = FakeEngine()
    assert run(Classifier(), engine, tmp_path) == run(Classifier(), FakeEngine(), None)
    assert not {Pair("query 0", "text 0"), Pair("query 0", "text 1")} & set(engine.computed)
    assert Pair("query 0", "text 2") in engine.computed


def test_answers_before_an_error_are_stored(tmp_path: Path) -> None:
    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scorer = new_scorer(Classifier(), FakeEngine(refused="text 4"), cache)
        with pytest.raises(RequestError, match="query q1, document text 4: out of memory"):
            scorer.score_query(QUERIES[1], DOCUMENTS)
        assert cache.kept == 3


def test_details_and_warnings_are_cached(tmp_path: Path) -> None:
    score = Score(0.1 + 0.2, {"digits": [1e-300, 5e-324, 0.1], "mass": -0.0, "truncated": True}, "why")
    pair = (Pair("q", "d"),)
    with Cache(CacheLocation(tmp_path, 10**9), RecordedProgress()) as cache:
        scores, other = ScoreCache(cache, b"1", "m"), ScoreCache(cache, b"2", "m")
        key, unknown = scores.key(pair), scores.key((Pair("q", "e"),))
        scores.put({key: score})
        assert scores.get([key, unknown]) == [score, None]
        assert scores.contains([unknown, key]) == [False, True]
        assert other.get([other.key(pair)]) == [None]
        assert not ScoreCache(cache, b"", "m").enabled  # without an identity, all models would share scores
        (back,) = scores.get([key])
        assert back
        assert math.copysign(1, back.details["mass"]) == -1


texts = st.text(alphabet=st.sampled_from('ab"\\,[]{}: \n\udc80é'), max_size=5)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    with Cache(CacheLocation(tmp_path_factory.mktemp("cache"), 10**9), RecordedProgress()) as cache:
        yield cache


CONTEXTS = itertools.count(1)  # a new one for each example


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_different_requests_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    scores = ScoreCache()
    assert (scores.key((Pair(*one),)) == scores.key((Pair(*other),))) == (one == other)
    assert scores.key((Pair(*one),)) != scores.key((Embedding(*one),))
    assert scores.key((Embedding(one[0]), Embedding(one[1]))) != scores.key((Pair(*one),))
