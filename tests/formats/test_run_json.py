"""Runs as one JSON object: those of pytrec_eval and BEIR, of FlagEmbedding, and of MTEB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.files import write
from support.program import Program

OPTIONS = ("-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", "--quiet")
SCORES = {"q1": {"d3": 9.5, "d2": 8, "d1": 1e-3}}
TWIN = "q1 Q0 d3 1 9.5 x\nq1 Q0 d2 2 8 x\nq1 Q0 d1 3 0.001 x\n"


@pytest.fixture
def twin(files: Path, lbr: Program) -> str:
    write(files, {"twin.trec": TWIN})
    return lbr("rerank", "twin.trec", *OPTIONS, "--output-format", "jsonl").out


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize(
    "whole",
    [
        SCORES,
        {"eval_name": "x", "model_name": "y", "search_results": SCORES},
        {"mteb_model_meta": {"name": "y"}, "default": {"test": SCORES}},
    ],
    ids=["plain", "FlagEmbedding", "MTEB"],
)
def test_a_run_is_reranked_as_its_trec_twin(
    whole: Any, indent: int | None, twin: str, files: Path, lbr: Program
) -> None:
    content = json.dumps(whole, indent=indent)
    write(files, {"own.json": content})
    ended = lbr("rerank", "own.json", *OPTIONS)
    assert (ended.code, ended.err, ended.out) == (0, "", twin)
    assert lbr("rerank", *OPTIONS, stdin=content.encode()).out == twin
    assert lbr("rerank", "own.json", "-o", "out.trec", *OPTIONS).code == 0
    assert (files / "out.trec").read_text().startswith("q1 Q0 ")


def test_awkward_ids_are_kept(files: Path, lbr: Program) -> None:
    scores = {" q\t1": {"d 1": 1.0, "": 0.5, "é #": 0.25}}
    write(files, {"own.json": json.dumps(scores)})
    options = ("-c", "docs.jsonl", "--query", "x")
    ended = lbr("rerank", "own.json", "--missing-docs", "last", *options, "--engine", "overlap")
    assert ended.code == 2
    write(files, {"q.jsonl": json.dumps({"_id": " q\t1", "text": "figs"})})
    write(files, {"c.jsonl": "".join(json.dumps({"_id": one, "text": "figs"}) + "\n" for one in scores[" q\t1"])})
    ended = lbr("rerank", "own.json", "-c", "c.jsonl", "-q", "q.jsonl", "--engine", "overlap")
    assert [(one["query_id"], one["doc_id"]) for one in ended.records] == [(" q\t1", one) for one in scores[" q\t1"]]


def test_several_subsets_and_splits_need_a_choice(twin: str, files: Path, lbr: Program) -> None:
    other = {"q1": {"d1": 1.0}}
    parts = {"en": {"dev": other, "test": SCORES}, "de": {"test": other}}
    write(files, {"own.json": json.dumps({"mteb_model_meta": {}} | parts)})
    for options, message, hint in (
        ((), "has 2 subsets: en, de", "choose one with --subset"),
        (("--subset", "en"), "has 2 splits: dev, test", "choose one with --split"),
        (("--subset", "fr"), "has no subset fr", "the subsets are: en, de"),
        (("--subset", "de", "--split", "dev"), "has no split dev", "the splits are: test"),
    ):
        ended = lbr("rerank", "own.json", *options, *OPTIONS)
        assert (ended.code, ended.out, ended.err) == (2, "", f"lbr: own.json: {message}\nlbr: hint: {hint}\n")
    assert lbr("rerank", "own.json", "--subset", "en", "--split", "test", *OPTIONS).out == twin
    refused = {"twin.trec": "twin.trec:1: is not a JSON run: --subset", "plain.json": "plain.json: --subset en:"}
    for name, where in refused.items():
        write(files, {"plain.json": json.dumps(SCORES)})
        ended = lbr("rerank", name, "--subset", "en", *OPTIONS)
        assert (ended.code, ended.err.startswith(f"lbr: {where}")) == (2, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"q1": {"d1": null}}', '"q1", "d1": a number is needed, this is null'),
        ('{"q1": {"d1": "0.5"}}', '"q1", "d1": a number is needed, this is a string'),
        ('{"q1": {"d1": true}}', '"q1", "d1": a number is needed, this is a boolean'),
        ('{"q1": {"d1": NaN}}', '"q1", "d1": the score is nan'),
        (f'{{"q1": {{"d1": 1{"0" * 400}}}}}', '"q1", "d1": the score is inf'),
        ('{\n"q1": {"d1": 1e999}}', '"q1", "d1": the score is inf'),
        ('{"q1": {"d1": {"x": 1}}}', '"q1", "d1": a number is needed, this is an object'),
        ('{"q1": {"d1": 1, "d1": 2}}', 'duplicate key "d1" in an object'),
        ('{"mteb_model_meta": {}, "default": {"test": {"q1": {"d1": []}}}}', '"default", "test", "q1", "d1": a number'),
        ('{"mteb_model_meta": {}, "default": [1]}', '"default": an object is needed, this is an array'),
        ('{"search_results": {"q1": [1]}}', '"search_results", "q1": an object of documents and scores is needed'),
        ('{\n\n"q1": {"d1": 1,}}', "3: invalid JSON: "),
        ('{\n"q1": {"d1": 1}', "2: invalid JSON: "),
        ('{\n"query_id": "1"\n}', "not JSONL, and not a run of the form {query id: {document id: score}}"),
    ],
)
def test_an_invalid_run_is_an_error_with_its_location(content: str, message: str, files: Path, lbr: Program) -> None:
    write(files, {"own.json": content})
    ended = lbr("rerank", "own.json", *OPTIONS)
    where = f"own.json:{message}" if message[0].isdigit() else f"own.json: {message}"
    assert (ended.code, ended.out, ended.err.startswith(f"lbr: {where}")) == (2, "", True), ended.err


def test_evaluate_reads_json_runs(files: Path, lbr: Program) -> None:
    write(files, {"own.json": json.dumps(SCORES), "twin.trec": TWIN, "qrels": "q1 0 d2 1\n"})
    own, twin = (lbr("evaluate", name, "--qrels", "qrels", "--format", "json") for name in ("own.json", "twin.trec"))
    assert own.code == twin.code == 0
    assert own.out.replace("own.json", "") == twin.out.replace("twin.trec", "")
