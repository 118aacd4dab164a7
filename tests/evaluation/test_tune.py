"""`lbr tune` equals an exhaustive search over `lbr rerank --interpolate`, and refuses runs without both scores."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbr_cli.evaluation.reranked import read_reranked
from lbr_cli.evaluation.tuning import grid
from support.files import write
from support.paths import ROOT
from support.program import Program
from support.progress import RecordedProgress

COMMAND = ["rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--depth", "12", "--quiet"]
TUNE = ["tune", "reranked.jsonl", "--qrels", "qrels.txt"]
QRELS = "q1 0 d1 1\nq2 0 d2 1\n"
LINE = {"query_id": "q1", "doc_id": "d1", "score": 2, "first_stage_score": 3, "first_stage_rank": 1}
SECOND = {"query_id": "q2", "doc_id": "d2", "score": 1, "first_stage_score": 1, "first_stage_rank": 1}


@pytest.fixture
def samples(tmp_path: Path, lbr: Program) -> Path:
    """Return the samples and their run, reranked by shared words."""
    shutil.copytree(ROOT / "samples", tmp_path, dirs_exist_ok=True)
    assert lbr(*COMMAND, "-o", "reranked.jsonl").code == 0
    return tmp_path


def jsonl(lines: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def values_of(folder: Path, run: str, measure: str) -> dict[str, float]:
    """Return the value of each query, by ir_measures; a query without results has none."""
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels.txt")))
    ranked = ir_measures.read_trec_run(str(folder / run))
    parsed = {"nDCG@10": ir_measures.nDCG @ 10, "AP": ir_measures.AP}[measure]
    return {one.query_id: one.value for one in ir_measures.iter_calc([parsed], qrels, ranked)}


@pytest.mark.parametrize("measure", ["nDCG@10", "AP"])
def test_the_best_weight_is_that_of_an_exhaustive_search(samples: Path, lbr: Program, measure: str) -> None:
    values = {}
    for percent in range(0, 101, 20):
        weight = percent / 100
        assert lbr(*COMMAND, "--interpolate", str(weight), "-o", "weight.trec").code == 0
        values[weight] = values_of(samples, "weight.trec", measure)
    means = {weight: sum(of_query.values()) / len(of_query) for weight, of_query in values.items()}
    ended = lbr(*TUNE, "--step", "0.2", "--measure", measure, "--folds", "4", "--format", "json")
    tuned = json.loads(ended.out)
    assert {one["weight"]: one["value"] for one in tuned["weights"]} == pytest.approx(means, abs=1e-12)
    best = max(means, key=lambda weight: (round(means[weight], 9), -weight))
    assert tuned["best"] == {"weight": best, "value": pytest.approx(means[best])}
    assert tuned["command"] == f"lbr rerank … --interpolate {best:g}"
    # cross-validation: the queries in turn, sorted by id
    queries = sorted(values[0.0])
    total = 0.0
    for number, fold in enumerate(tuned["folds"]):
        assert fold["queries"] == queries[number::4]
        others = [query for query in queries if query not in fold["queries"]]
        chosen = max(values, key=lambda weight: (round(sum(values[weight][query] for query in others), 9), -weight))
        held_out = sum(values[chosen][query] for query in fold["queries"])
        assert (fold["weight"], fold["value"]) == (chosen, pytest.approx(held_out / len(fold["queries"])))
        total += held_out
    assert tuned["held_out"] == pytest.approx(total / len(queries))


number = st.one_of(st.integers(-3, 3).map(float), st.floats(-(2.0**100), 2.0**100, width=32))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    candidates=st.lists(st.tuples(number, st.one_of(st.none(), number)), min_size=1, max_size=8).filter(
        lambda pairs: any(model is not None for _, model in pairs)
    ),
    weight=st.sampled_from([0.0, 0.05, 0.35, 0.5, 1.0]),
    random=st.randoms(use_true_random=False),
)
def test_rankings_follow_the_formula_of_the_documentation(
    tmp_path: Path, candidates: list[tuple[float, float | None]], weight: float, random: Any
) -> None:
    def scaled(values: list[float]) -> list[float]:
        low, high = min(values), max(values)
        return [(value - low) / (high - low) if high > low else 0.0 for value in values]

    lines = [
        {
            "query_id": "q",
            "doc_id": str(index),
            "score": model,
            "first_stage_score": first,
            "first_stage_rank": index + 1,
        }
        for index, (first, model) in enumerate(candidates)
    ]
    scored = [index for index, (_, model) in enumerate(candidates) if model is not None]
    first_stage = scaled([candidates[index][0] for index in scored])
    model = scaled([candidates[index][1] or 0.0 for index in scored])
    mixed = [
        float(np.float32(weight * one + (1 - weight) * other)) for one, other in zip(first_stage, model, strict=True)
    ]
    order = [index for _, index in sorted((-value, index) for value, index in zip(mixed, scored, strict=True))]
    order += [index for index in range(len(candidates)) if index not in scored]
    random.shuffle(lines)
    write(tmp_path, {"run.jsonl": jsonl(lines)})
    run = read_reranked(str(tmp_path / "run.jsonl"), RecordedProgress())
    assert run.interpolated(weight).rankings == {"q": [str(index) for index in order]}


def test_an_interpolated_run_with_details_gives_the_same_weights(samples: Path, lbr: Program) -> None:
    plain = lbr(*TUNE, "--step", "0.25", "--format", "tsv")
    assert lbr(*COMMAND, "--interpolate", "0.7", "--explain", "-o", "reranked.jsonl").code == 0
    assert lbr(*TUNE, "--step", "0.25", "--format", "tsv").out == plain.out
    assert plain.out.splitlines()[0] == "weight\tnDCG@10\tbest"
    assert [line.split("\t")[0] for line in plain.out.splitlines()[1:]] == ["0", "0.25", "0.5", "0.75", "1"]


def test_the_table_has_the_best_weight_and_the_command(samples: Path, lbr: Program) -> None:
    ended = lbr(*TUNE, "--step", "0.5", "--plot", "weights.svg")
    lines = ended.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["0.0", "0.5", "1.0"]
    assert sum(line.endswith("best") for line in lines) == 1
    assert lines[-3].startswith("best weight: ")
    assert lines[-2].startswith("cross-validation: 5 folds choose ")
    assert lines[-1].startswith("command: lbr rerank … --interpolate ")
    markdown = lbr(*TUNE, "--step", "0.5", "--format", "markdown", "--plot", "again.svg").out
    assert markdown.startswith("| weight | value | change |  |\n| ---: | ---: | ---: | --- |\n| 0.0 | ")
    assert (samples / "weights.svg").read_bytes() == (samples / "again.svg").read_bytes()


def test_missing_queries_count_zero_and_a_chance_weight_is_a_warning(tmp_path: Path, lbr: Program) -> None:
    run = [
        {
            **LINE,
            "query_id": query,
            "doc_id": doc,
            "score": score,
            "first_stage_score": 3 - score,
            "first_stage_rank": rank,
        }
        for query in ("q1", "q2")
        for rank, doc, score in ((1, "a", 1), (2, "b", 2))
    ]
    write(tmp_path, {"reranked.jsonl": jsonl(run), "qrels.txt": "q1 0 a 1\nq2 0 b 1\nq3 0 c 1\n"})
    ended = lbr(*TUNE, "--measure", "P@1", "--format", "json")
    tuned = json.loads(ended.out)
    assert tuned["queries_missing"] == 1
    assert tuned["best"] == {"weight": 0.0, "value": pytest.approx(1 / 3)}
    assert [fold["value"] for fold in tuned["folds"]] == [0.0, 0.0]  # one query each: fewer than five folds
    assert "1 of 3 judged queries are missing, and count 0" in ended.err
    write(tmp_path, {"qrels.txt": "q1 0 a 1\nq2 0 b 1\nq2 0 a 2\n"})
    assert "may be due to chance" not in lbr(*TUNE, "--measure", "nDCG@1").err


def test_a_run_without_some_candidates_is_a_warning(samples: Path, lbr: Program) -> None:
    assert lbr(*COMMAND, "--top-k", "3", "-o", "reranked.jsonl").code == 0
    assert "with missing candidates: " in lbr(*TUNE, "--step", "0.5").err


@pytest.mark.parametrize("step", [0.05, 0.1, 0.3, 0.001, 1, 0.07])
def test_the_weights_are_decimal_and_end_with_1(step: float) -> None:
    weights = grid(step)
    assert (weights[0], weights[-1]) == (0.0, 1.0)
    assert all(weight == round(weight, 6) for weight in weights)
    assert all(0 < b - a <= step + 1e-12 for a, b in itertools.pairwise(weights))


def without(line: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in keys}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            [LINE, without(SECOND, "first_stage_score")],
            "reranked.jsonl:2: query q2, document d2: first_stage_score is missing",
        ),
        (
            [LINE, {**SECOND, "first_stage_score": None}],
            "reranked.jsonl:2: query q2, document d2: first_stage_score is missing",
        ),
        ([{**LINE, "score": None}], "reranked.jsonl:1: no candidate has a score of the model"),
        ([without(LINE, "score")], "reranked.jsonl:1: no candidate has a score of the model"),
        ([LINE, {**SECOND, "first_stage_score": "1"}], 'reranked.jsonl:2: "first_stage_score" has to be a number'),
        ([{**LINE, "first_stage_rank": 1.5}], 'reranked.jsonl:1: "first_stage_rank" has to be an integer'),
        ([LINE, SECOND, LINE], "reranked.jsonl:3: query q1, document d1: duplicate pair, first at reranked.jsonl:1"),
        (
            [{**LINE, "reranker_score": 1}, SECOND],
            "reranked.jsonl:2: reranker_score is missing, and line 1 has one",
        ),
        ([LINE], "reranked.jsonl: 1 judged query, and cross-validation needs two or more"),
        ([{**LINE, "query_id": "x"}], "reranked.jsonl: none of 1 queries is judged in qrels.txt"),
    ],
)
def test_lines_without_both_scores_are_refused(
    tmp_path: Path, lbr: Program, lines: list[dict[str, Any]], problem: str
) -> None:
    write(tmp_path, {"reranked.jsonl": jsonl(lines), "qrels.txt": QRELS})
    ended = lbr(*TUNE, "--quiet")
    assert (ended.code, ended.out) == (2, "")
    assert any(line.startswith(f"lbr: {problem}") for line in ended.err.splitlines()), ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measure", "nDCG"], ""),
        (["--measure", "nope@10"], "lbr: --measure nope@10: unknown measure nope"),
        (["--measure", "P@{1,5}"], "lbr: --measure P@{1,5}: 2 measures, and one is needed"),
        (["--measure", "NumRet"], "lbr: --measure NumRet: a count; choose a measure that has a mean"),
        (["--plot", "w.pdf"], "lbr: --plot w.pdf: unknown extension"),
        (["--plot", "reranked.svg"], "lbr: --plot reranked.svg: would overwrite the run reranked.jsonl"),
        (["--step", "0"], "lbr: Invalid value for '--step'"),
        (["--step", "nan"], "lbr: "),
        (["--folds", "1"], "lbr: Invalid value for '--folds'"),
    ],
)
def test_options_are_checked(tmp_path: Path, lbr: Program, arguments: list[str], message: str) -> None:
    write(tmp_path, {"reranked.jsonl": jsonl([LINE, SECOND]), "qrels.txt": QRELS})
    (tmp_path / "reranked.svg").symlink_to("reranked.jsonl")
    ended = lbr(*TUNE, *arguments)
    assert ended.code == (2 if message else 0)
    assert ended.err.startswith(message)


def test_a_run_of_another_format_is_refused(tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"reranked.jsonl": "q1 Q0 d1 1 1 x\n", "qrels.txt": QRELS})
    ended = lbr(*TUNE)
    assert ended.err.splitlines() == [
        "lbr: reranked.jsonl: format trec, and only JSONL has the scores of both stages",
        "lbr: hint: lbr rerank -o FILE.jsonl writes the scores of both stages",
    ]
