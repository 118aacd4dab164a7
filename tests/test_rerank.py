"""The order of candidates: first stage, scored and unscored; depth, interpolation and thresholds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Answer, Batch, Candidate, Document, Pair, Query, RankedCandidate, Ranking, Request, Score
from lbr_cli.errors import RequestError, RunError
from lbr_cli.families import Classifier
from lbr_cli.families.odds import sigmoid
from lbr_cli.float32 import float32, round_trip_number
from lbr_cli.ordering import first_stage_order, normalised
from lbr_cli.passages import Passages
from lbr_cli.rerank import Method, new_order, pairs_to_score, rerank
from lbr_cli.scoring import Scorer
from support.program import Program
from support.progress import RecordedProgress


class Lookup:
    """An engine that reads the score from the document and answers in an order of its own."""

    description = "test"
    window = 1

    def __init__(self, seed: int = 0) -> None:
        self.requests: list[Request] = []
        self._random = random.Random(seed)

    def check(self, requests: Iterable[Request]) -> None: ...

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        for window in windows:
            self.requests += window
            for request in self._random.sample(window, len(window)):
                assert isinstance(request, Pair)
                if request.document == "refused":
                    raise RequestError("no", request)
                yield Batch([(request, Answer((float(request.document),)))])


def candidates(*scores: float | None, ranks: Sequence[int | None] | None = None) -> list[Candidate]:
    ranks = ranks or [None] * len(scores)
    return [Candidate(f"d{i}", score=s, rank=r) for i, (s, r) in enumerate(zip(scores, ranks, strict=True))]


def order(items: Iterable[Candidate]) -> list[str]:
    return [candidate.doc_id for candidate in items]


def test_first_stage_order_is_by_score_if_all_have_one() -> None:
    assert order(first_stage_order(candidates(1, 3, 2, 3, ranks=[1, 2, 3, 4]))) == ["d1", "d3", "d2", "d0"]


def test_first_stage_order_is_by_rank_if_all_have_one() -> None:
    assert order(first_stage_order(candidates(1, None, 2, ranks=[3, 1, 1]))) == ["d1", "d2", "d0"]


def test_first_stage_order_is_that_of_the_input_otherwise() -> None:
    assert order(first_stage_order(candidates(1, None, 2, ranks=[3, None, 1]))) == ["d0", "d1", "d2"]


def test_float32_ties_keep_the_first_stage_order() -> None:
    # the first two are equal as float32
    scores = {0: Score(0.1), 1: Score(0.1 + 1e-12), 2: Score(0.2)}
    lines = new_order(candidates(3, 2, 1), scores)
    assert [line.candidate.doc_id for line in lines] == ["d2", "d0", "d1"]
    assert [(line.rank, line.first_stage_rank) for line in lines] == [(1, 3), (2, 1), (3, 2)]


def ranking(*documents: str | None) -> Ranking:
    return Ranking(
        Query("q", "text"),
        [Candidate(f"d{i}", None if text is None else Document(f"d{i}", text)) for i, text in enumerate(documents)],
    )


def scorer(engine: Lookup | None = None) -> Scorer:
    found = engine or Lookup()
    return Scorer(Classifier(), lambda pairs: found, RecordedProgress())


def test_depth_counts_candidates_with_a_text() -> None:
    ((_, lines),) = rerank([ranking("1", None, "3", "9")], scorer(), Method(depth=2))
    assert [(line.candidate.doc_id, line.score) for line in lines] == [("d2", 3), ("d0", 1), ("d1", None), ("d3", None)]
    assert [document.doc_id for _, document in pairs_to_score([ranking("1", None, "3", "9")], Method(depth=2))] == [
        "d0",
        "d2",
    ]


def test_top_k_limits_the_output_and_not_the_scoring() -> None:
    work = scorer()
    ((_, lines),) = rerank([ranking("1", "2", "3")], work, Method(top_k=1))
    assert [line.candidate.doc_id for line in lines] == ["d2"]
    assert work.counts.pairs == 3


@given(
    st.lists(st.tuples(st.floats(-20, 20, width=32), st.integers(-9, 9)), min_size=1, max_size=12),
    st.floats(-20, 20),
    st.booleans(),
    st.sampled_from([None, 0.5]),
    st.sampled_from([None, 3]),
)
def test_a_threshold_removes_lines_without_changing_others(
    pairs: list[tuple[float, int]], score: float, as_probability: bool, weight: float | None, depth: int | None
) -> None:
    documents = [
        Candidate(f"d{index}", Document(f"d{index}", repr(model)), float(first))
        for index, (model, first) in enumerate(pairs)
    ]
    threshold = {"min_probability": sigmoid(score)} if as_probability else {"min_score": score}
    work = scorer()
    found: list[list[RankedCandidate]] = []
    for method in (Method(depth, interpolate=weight), Method(depth, interpolate=weight, **threshold)):  # type: ignore[arg-type]
        ((_, lines),) = rerank([Ranking(Query("q", "text"), documents)], work, method)
        found.append(lines)
    every, kept = found
    of_model = {f"d{index}": float32(model) for index, (model, _) in enumerate(pairs)}
    expected = [
        line
        for line in every
        if line.score is not None
        and (
            sigmoid(of_model[line.candidate.doc_id]) >= sigmoid(score)
            if as_probability
            else of_model[line.candidate.doc_id] >= float32(score)
        )
    ]
    assert kept == [replace(line, rank=rank) for rank, line in enumerate(expected, 1)]
    assert (work.counts.written, work.counts.empty) == (len(every) + len(kept), not kept)


def test_a_written_score_as_threshold_keeps_its_line() -> None:
    model = float(np.float32(0.1) / np.float32(3))
    for threshold in (model, round_trip_number(model), model + 1e-12):
        ((_, lines),) = rerank([ranking(repr(model))], scorer(), Method(min_score=threshold))
        assert len(lines) == 1


def test_a_threshold_applies_to_the_score_of_the_document() -> None:
    passages = Passages("mean", 1, 1)
    ((_, lines),) = rerank([ranking("1 3", "0 2")], scorer(), Method(passages=passages, min_score=1.5))
    assert [(line.candidate.doc_id, line.score) for line in lines] == [("d0", 2)]
    method = Method(passages=passages, min_probability=sigmoid(2))
    assert [len(lines) for _, lines in rerank([ranking("1 3", "0 2")], scorer(), method)] == [1]


def test_candidates_without_a_score_are_below_any_threshold() -> None:
    rankings = [ranking("1", None, "3"), ranking("-1", "-2"), Ranking(Query("q2"), candidates(3, 2))]
    work = scorer()
    found = [lines for _, lines in rerank(rankings, work, Method(min_score=0))]
    assert [[line.candidate.doc_id for line in lines] for lines in found] == [["d2", "d0"], [], []]
    assert (work.counts.queries, work.counts.written, work.counts.empty) == (3, 2, 2)
    ((_, lines),) = rerank(rankings[:1], scorer(), Method(min_score=0, top_k=1))
    assert [line.candidate.doc_id for line in lines] == ["d2"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(0, 100))
def test_the_order_of_computation_does_not_change_the_output(values: list[int], seed: int) -> None:
    ((_, lines),) = rerank([ranking(*map(str, values))], scorer(Lookup(seed)))
    expected = sorted(range(len(values)), key=lambda index: (-values[index], index))
    assert [line.candidate.doc_id for line in lines] == [f"d{index}" for index in expected]
    assert [line.score for line in lines] == sorted(values, reverse=True)


def test_equal_texts_are_scored_once() -> None:
    engine, progress = Lookup(), RecordedProgress()
    ((_, lines),) = rerank([ranking("5", "5", "4", "5")], Scorer(Classifier(), lambda pairs: engine, progress))
    assert engine.requests == [Pair("text", "5"), Pair("text", "4")]
    assert [line.candidate.doc_id for line in lines] == ["d0", "d1", "d3", "d2"]
    assert (progress.pairs, progress.queries) == (4, 1)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_score_that_is_not_finite_is_an_error(value: str) -> None:
    with pytest.raises(RunError, match=f"query q, document d1: the score is {value}"):
        list(rerank([ranking("1", value)], scorer()))


def test_a_refused_pair_is_named() -> None:
    with pytest.raises(RequestError, match="query q, document d2: no"):
        list(rerank([ranking("1", "1", "refused")], scorer()))


def test_depth_on_the_command_line(files: object, lbr: Program) -> None:
    run = b"q2 Q0 d1 1 9 x\nq2 Q0 d3 2 8 x\nq2 Q0 d2 3 7 x\n"
    ended = lbr("rerank", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", "--depth", "2", stdin=run)
    assert ended.out == (
        "q2 Q0 d1 1 0 lbr-overlap\nq2 Q0 d3 2 -1.4013e-45 lbr-overlap\nq2 Q0 d2 3 -2.8026e-45 lbr-overlap\n"
    )
    assert "lbr: 1 query, 2 pairs (0 truncated)" in ended.err


def test_scores_are_scaled_to_a_range_from_0_to_1() -> None:
    assert normalised([3.0, 1.0, 2.0]) == [1.0, 0.0, 0.5]
    assert normalised([2.0, 2.0]) == [0.0, 0.0]
    assert normalised([5e-324, 0.0]) == [1.0, 0.0]
    assert normalised([1.7e308, -1.7e308, 0.0]) == [1.0, 0.0, 0.5]
    assert normalised([]) == []


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=12), st.floats(0, 1))
def test_interpolation_is_the_weighted_mean_of_both(pairs: list[tuple[int, int]], weight: float) -> None:
    documents = [
        Candidate(f"d{index}", Document(f"d{index}", str(model)), float(first))
        for index, (first, model) in enumerate(pairs)
    ]
    ((_, lines),) = rerank([Ranking(Query("q", "text"), documents)], scorer(), Method(interpolate=weight))
    firsts, models = ([pair[side] for pair in pairs] for side in (0, 1))

    def share(value: int, of: list[int]) -> float:
        return (value - min(of)) / (max(of) - min(of)) if max(of) > min(of) else 0.0

    for line in lines:
        first, model = pairs[int(line.candidate.doc_id[1:])]
        expected = weight * share(first, firsts) + (1 - weight) * share(model, models)
        assert line.score == pytest.approx(expected, abs=1e-6)
        assert line.details["reranker_score"] == model
    assert [line.score for line in lines] == sorted((line.score for line in lines), reverse=True)  # type: ignore[type-var]


def test_interpolation_scales_scored_candidates_only(files: Path, lbr: Program) -> None:
    # d3, below the depth, would make the scaled scores of the others almost equal
    run = b"q1 Q0 d2 1 9 x\nq1 Q0 d1 2 8 x\nq1 Q0 d3 3 -1000 x\n"
    command = ("rerank", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", "--depth", "2")
    assert lbr(*command, "--interpolate", "0.25", stdin=run).out == (
        "q1 Q0 d1 1 0.75 lbr-overlap\nq1 Q0 d2 2 0.25 lbr-overlap\nq1 Q0 d3 3 0.24999999 lbr-overlap\n"
    )
    explained = lbr(*command, "--interpolate", "0.25", "--explain", "--output-format", "jsonl", stdin=run).records[0]
    assert (explained["score"], explained["reranker_score"], explained["first_stage_score"]) == (0.75, 0.33333334, 8.0)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("q1\td1\t1\n", "run: query q1, document d1: no first-stage score, and --interpolate needs one"),
        (
            '{"query_id":"q1","doc_id":"d1","score":1}\n{"query_id":"q1","doc_id":"d2","score":null}\n',
            "run: query q1, document d2: no first-stage score, and --interpolate needs one",
        ),
    ],
)
def test_interpolation_needs_first_stage_scores(files: Path, lbr: Program, run: str, message: str) -> None:
    (files / "run").write_text(run)
    command = ("rerank", "run", "-c", "docs.jsonl", "-q", "queries.tsv", "--interpolate", "0.5", "--quiet")
    for more in (["--engine", "overlap"], ["--model", "lb"], ["--model", "lb", "--dry-run"]):  # before any model
        ended = lbr(*command, *more)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.splitlines()[0] == f"lbr: {message}"


@pytest.mark.parametrize("weight", ["-0.1", "1.1", "nan"])
def test_a_weight_that_is_not_from_0_to_1_is_an_error(files: Path, lbr: Program, weight: str) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--interpolate", weight)
    assert (ended.code, ended.out) == (2, "")
    assert "--interpolate" in ended.err.splitlines()[0]


def test_interpolation_in_a_stream(files: Path, lbr: Program) -> None:
    line = (
        '{{"query_id":"{0}","query":"ripe fig","documents":[{{"text":"fig","score":{1}}},{{"text":"ripe fig"{2}}}]}}\n'
    )
    whole, lacking = line.format("a", 9, ',"score":1'), line.format("b", 9, "")
    command = ("rerank", "--engine", "overlap", "--stream", "--interpolate", "0.25")
    ended = lbr(*command, stdin=(whole + lacking).encode())
    assert ended.code == 1  # an answer is out
    assert [(record["doc_id"], record["score"]) for record in ended.records] == [("1", 0.75), ("0", 0.25)]
    assert "standard input: query b, document 1: no first-stage score" in ended.err
    assert lbr(*command, stdin=lacking.encode()).code == 2
    run = b"q1 Q0 d404 1 99 x\nq1 Q0 d1 2 8 x\nq1 Q0 d2 3 7 x\n"
    rest = ("-c", "docs.jsonl", "-q", "queries.tsv", "--missing-docs", "last", "--output-format", "jsonl")
    ended = lbr("rerank", "--engine", "overlap", "--interpolate", "0.5", *rest, stdin=run)
    assert [(record["doc_id"], record["score"]) for record in ended.records] == [("d1", 1), ("d2", 0), ("d404", None)]


OVERLAP = ("rerank", "run.trec", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap")


def test_a_threshold_on_the_command_line(files: Path, lbr: Program) -> None:
    ended = lbr(*OVERLAP, "--min-score", "0.50001", "-o", "out.trec", "--manifest", "m.json")
    assert (ended.code, (files / "out.trec").exists()) == (2, False)
    assert ended.err.splitlines()[-2:] == [
        "lbr: --min-score 0.50001: none of 3 scored candidates reaches it",
        "lbr: hint: the scale of overlap: share of words, 0 to 1",
    ]
    assert not (files / "m.json").exists()
    ended = lbr(*OVERLAP, "--min-score", "0.5", "-o", "out.trec", "--manifest", "m.json")
    assert (files / "out.trec").read_text() == "q2 Q0 d2 1 0.5 lbr-overlap\n"
    assert "lbr: --min-score 0.5: 1 of 3 scored candidates written; queries without one: 1\n" in ended.err
    counts = json.loads((files / "m.json").read_text())["counts"]
    assert (counts["queries"], counts["candidates"], counts["written"], counts["empty"]) == (2, 3, 1, 1)
    old = lbr(*OVERLAP, "--min-score", "2", "-o", "out.trec")
    assert (old.code, (files / "out.trec").read_text()) == (2, "q2 Q0 d2 1 0.5 lbr-overlap\n")


def test_a_threshold_filters_plain_lines(lbr: Program) -> None:
    text = b"a fig\r\nno\na ripe fig"
    command = ("rerank", "--lines", "--query", "ripe fig", "--engine", "overlap", "--quiet")
    assert lbr(*command, "--min-score", "0.5", stdin=text).out == "a ripe fig\na fig\r\n"
    assert lbr(*command, "--min-score", "1.5", stdin=text).code == 2


def test_a_threshold_filters_a_stream(lbr: Program) -> None:
    lines = b"".join(b'{"query":"fig","documents":["%s"]}\n' % text for text in (b"no", b"fig", b"no"))
    command = ("rerank", "--stream", "--engine", "overlap", "--quiet", "--min-score", "1")
    ended = lbr(*command, stdin=lines)
    assert (ended.code, [record["query_id"] for record in ended.records]) == (0, ["2"])
    assert (lbr(*command, stdin=lines.splitlines()[0]).code) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min-score", "nan"], "--min-score nan: not a finite number"),
        (["--min-score", "-inf"], "--min-score -inf: not a finite number"),
        (["--min-probability", "nan"], "Invalid value for '--min-probability'"),
        (["--min-probability", "1.1"], "Invalid value for '--min-probability'"),
        (["--min-probability", "0.5", "--min-score", "1"], "--min-score and --min-probability exclude each other"),
        (["--engine", "overlap", "--min-probability", "0.5"], "--min-probability has no effect: --engine overlap uses"),
        (
            ["--min-probability", "0.5"],
            "--min-probability 0.5: scores of the family lb have no probability (expectation of a digit from 1 to 7)",
        ),
        (["-m", "minilm", "--min-probability", "0.5", "--dry-run"], "--min-probability 0.5: scores of the family bi-"),
    ],
)
def test_invalid_thresholds_are_errors(files: Path, lbr: Program, arguments: list[str], message: str) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"lbr: {message}")
