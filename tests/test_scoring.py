"""Scoring with a cache: what is known is not computed, what is computed is kept, and neither shows in a score."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Listening
from hypothesis import given, settings
from hypothesis import strategies as st

from lbr_cli.cache import Cache
from lbr_cli.cache.place import Place
from lbr_cli.cache.scores import Scores
from lbr_cli.core import Answer, Answered, Document, Embedding, Family, Pair, Query, Request, Score
from lbr_cli.errors import ComputeError, RequestError, RunError
from lbr_cli.families import BiEncoder, Classifier, Lb
from lbr_cli.scoring import Scorer

QUERIES = [Query(f"q{number}", f"query {number % 4}") for number in range(6)]  # two have the text of another
TEXTS = [f"text {number}" for number in range(7)]


class Stop(BaseException):
    """The process is killed."""


class Counting:
    """An engine that computes in batches, across queries if `across`, and is killed behind `lasts` of them."""

    setting = "test"

    def __init__(self, *, size: int = 3, across: bool = False, lasts: int = 10**9) -> None:
        self.computed: Counter[Request] = Counter()
        self.batches: list[set[Request]] = []
        self._size = size
        self._across = across
        self._lasts = lasts
        self._announced: list[Request] = []
        self._known: dict[Request, Answer] = {}

    def expect(self, requests: Iterable[Request]) -> int:
        if self._across:
            self._announced = sorted(set(requests), key=repr)
        return len(set(requests))

    def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
        yield [(request, self._known[request]) for request in requests if request in self._known]
        for request in requests:
            if request not in self._known:
                yield self._batch(request, requests)
        if not self._across:
            self._known.clear()

    def _batch(self, request: Request, requests: Sequence[Request]) -> Answered:
        if len(self.batches) == self._lasts:
            raise Stop
        others = [one for one in (self._announced or requests) if one not in self._known and one != request]
        batch = [request, *others[: self._size - 1]]
        self.batches.append(set(batch))
        self.computed.update(batch)
        answers = [(one, Answer(values(one), "6" in repr(one), 1)) for one in batch]
        self._known.update((one, Answer(answer.values, answer.truncated, 0, 0)) for one, answer in answers)
        return answers


def values(request: Request) -> Any:
    """Some numbers that hang on the texts."""
    seed = sum(repr(request).encode())
    if isinstance(request, Embedding):
        return np.array([seed % 7 + 1, seed % 11, seed % 13], dtype=np.float32)
    if isinstance(request, Pair):
        return [(seed % 17) / 3]
    return [math.log(1 / (7 + (seed + digit) % 5)) for digit in range(7)]


def run(
    family: Family, engine: Counting, folder: Path | None, listener: Listening | None = None, announced: bool = True
) -> dict[tuple[str, str], Score]:
    """All pairs, query by query, as `rerank` does it."""
    listener = listener or Listening()
    documents = [Document(text, text) for text in TEXTS]
    with Cache(Place(folder, 10**9) if folder else None, listener) as cache:
        scorer = Scorer(family, engine, listener, Scores(cache, b"context", "m"))
        if announced:
            scorer.expect(lambda: itertools.product(QUERIES, documents))
        found = {}
        for query in QUERIES:
            for document, score in zip(documents, scorer.score(query, documents), strict=True):
                found[query.query_id, document.doc_id] = score
        assert scorer.tally.pairs == len(found)
        assert scorer.tally.tokens == sum(engine.computed.values())
    assert listener.warnings == []
    return found


FAMILIES: list[Family] = [Lb(), Classifier(), BiEncoder()]
every_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
every_way = pytest.mark.parametrize("across", [False, True], ids=["by query", "across queries"])


@every_family
@every_way
def test_a_second_run_computes_nothing_and_scores_the_same(family: Family, across: bool, tmp_path: Path) -> None:
    plain = run(family, Counting(across=across), None)
    first, second = Listening(), Listening()
    engine = Counting(across=across)
    assert run(family, engine, tmp_path, first) == plain
    # a pair of an equal query is known by then, unless it was computed together with the first
    assert max(engine.computed.values()) == 1 or isinstance(family, BiEncoder)
    warm = Counting(across=across, lasts=0)
    assert run(family, warm, tmp_path, second) == plain
    assert (second.pairs, second.cached, second.tokens, second.work) == (len(plain), len(plain), 0, 0)
    assert not warm.computed


@pytest.mark.slow
@every_family
@every_way
@settings(max_examples=40, deadline=None)
@given(kills=st.lists(st.integers(0, 12), min_size=1, max_size=8), size=st.integers(1, 9))
def test_a_job_that_is_killed_again_and_again_computes_no_pair_twice(
    family: Family, across: bool, kills: list[int], size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    pairs: Counter[Request] = Counter()
    for lasts in [*kills, 10**9]:
        engine = Counting(size=size, across=across, lasts=lasts)
        try:
            found = run(family, engine, folder)
        except Stop:
            assert lasts != 10**9
        pairs += engine.computed
    assert found == run(family, Counting(), None)
    if isinstance(family, BiEncoder):  # whose queries are read again in each run that has a pair of theirs to compute
        pairs = Counter({text: count for text, count in pairs.items() if "query" not in repr(text)})
        if not across:
            return
    assert set(pairs.values()) <= {1}


@every_family
def test_a_job_that_finds_nothing_says_so_though_its_queries_are_alike(family: Family, tmp_path: Path) -> None:
    listener = Listening()
    run(family, Counting(), tmp_path, listener)
    assert (listener.pairs, listener.cached) == (len(QUERIES) * len(TEXTS), 0)


@every_family
def test_what_is_computed_for_other_queries_counts_as_computed(family: Family, tmp_path: Path) -> None:
    listener = Listening()
    run(family, Counting(across=True, size=100), tmp_path, listener)
    assert (listener.pairs, listener.cached) == (len(QUERIES) * len(TEXTS), 0)


@every_family
def test_a_stream_is_cached_too(family: Family, tmp_path: Path) -> None:
    plain = run(family, Counting(), None)
    assert run(family, Counting(), tmp_path, announced=False) == plain
    assert run(family, Counting(lasts=0), tmp_path, announced=False) == plain


def test_an_engine_hears_only_of_what_is_not_known(tmp_path: Path) -> None:
    class Hearing(Counting):
        heard: ClassVar[list[list[Request]]] = []

        def expect(self, requests: Iterable[Request]) -> int:
            self.heard.append(list(requests))
            return super().expect(requests)

    documents = [Document(text, text) for text in TEXTS]
    for count in (3, 7, 7):
        with Cache(Place(tmp_path, 10**9), Listening()) as cache:
            scorer = Scorer(Classifier(), Hearing(), Listening(), Scores(cache, b"context", "m"))
            assert scorer.expect(lambda: ((QUERIES[0], document) for document in documents[:count])) in (  # noqa: B023
                (3, 3),
                (7, 4),
                (7, 0),
            )
            scorer.score(QUERIES[0], documents[:count])
    assert Hearing.heard == [
        [Pair("query 0", text) for text in TEXTS[:3]],
        [Pair("query 0", text) for text in TEXTS[3:]],
    ]


def test_a_pair_that_fails_is_not_kept_and_the_others_of_its_batch_are(tmp_path: Path) -> None:
    class Odd(Counting):
        def _batch(self, request: Request, requests: Sequence[Request]) -> Answered:
            batch = super()._batch(request, requests)
            return [(one, Answer([math.nan]) if "text 2" in repr(one) else answer) for one, answer in batch]

    with pytest.raises(RunError, match="query q0, document text 2: the score is nan"):
        run(Classifier(), Odd(size=5), tmp_path)
    engine = Counting()
    assert run(Classifier(), engine, tmp_path) == run(Classifier(), Counting(), None)
    assert not {Pair("query 0", "text 0"), Pair("query 0", "text 1")} & set(engine.computed)
    assert Pair("query 0", "text 2") in engine.computed


def test_no_number_is_kept_in_passing_either(tmp_path: Path) -> None:
    class Odd(Counting):
        def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
            for batch in super().answer(requests):
                yield [
                    (one, Answer([math.inf], False, answer.tokens) if "query 3" in repr(one) else answer)
                    for one, answer in batch
                ]

    with pytest.raises(RunError, match="query q3, document text 0: the score is inf"):
        run(Classifier(), Odd(size=100, across=True), tmp_path)
    assert run(Classifier(), Counting(), tmp_path) == run(Classifier(), Counting(), None)


def test_an_error_in_a_pair_is_named(tmp_path: Path) -> None:
    class Failing(Counting):
        def answer(self, requests: Sequence[Request]) -> Iterator[Answered]:
            yield from itertools.islice(super().answer(requests), 2)
            raise ComputeError("too long", requests.index(Pair("query 1", "text 4")))

    documents = [Document(text, text) for text in TEXTS]
    with Cache(Place(tmp_path, 10**9), Listening()) as cache:
        scorer = Scorer(Classifier(), Failing(), Listening(), Scores(cache, b"context", "m"))
        with pytest.raises(RequestError, match="query q1, document text 4: too long"):
            scorer.score(QUERIES[1], documents)
        assert cache.kept == 3


def test_details_and_doubts_come_back_as_they_were(tmp_path: Path) -> None:
    score = Score(0.1 + 0.2, {"digits": [1e-300, 5e-324, 0.1], "mass": -0.0, "truncated": True}, "why")
    pair = (Pair("q", "d"),)
    with Cache(Place(tmp_path, 10**9), Listening()) as cache:
        Scores(cache, b"1", "m").keep({pair: score})
        assert Scores(cache, b"1", "m").find([pair, (Pair("q", "e"),)]) == [score, None]
        assert Scores(cache, b"2", "m").find([pair]) == [None]
        assert not Scores(cache, b"", "m").on  # in which all models would be one
        (back,) = Scores(cache, b"1", "m").find([pair])
        assert back
        assert math.copysign(1, back.detail["mass"]) == -1


texts = st.text(alphabet=st.sampled_from('ab"\\,[]{}: \n\udc80é'), max_size=5)


@given(st.tuples(texts, texts), st.tuples(texts, texts))
def test_different_questions_have_different_keys(one: tuple[str, str], other: tuple[str, str]) -> None:
    scores = Scores(None, b"", "")
    assert (scores._key((Pair(*one),)) == scores._key((Pair(*other),))) == (one == other)
    assert scores._key((Pair(*one),)) != scores._key((Embedding(*one),))
    assert scores._key((Embedding(one[0]), Embedding(one[1]))) != scores._key((Pair(*one),))
