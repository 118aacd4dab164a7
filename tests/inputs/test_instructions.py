"""An instruction of one query: from JSONL queries, candidates and training data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import checkpoints
from support.engines import local_scores
from support.files import DOCS, write
from support.program import Program

PAIR = {"query_id": "q1", "doc_id": "d1", "text": "t"}
TEXT = "Ripe figs turn purple."
RUN = "q1 Q0 d1 1 2 x\nq2 Q0 d1 1 2 x\n"
QUERIES = (
    '{"_id":"q1","text":"ripe fig","instruction":"Find figs"}\n{"_id":"q2","text":"ripe fig","instruction":null}\n'
)
COMMAND = ("--family", "qwen3", "--dtype", "float32", "--cache", "--cache-dir", "cache")
OVERLAP = ("--engine", "overlap", "--quiet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, {"run.trec": RUN, "queries.jsonl": QUERIES, "docs.jsonl": DOCS})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a random causal model whose vocabulary has yes and no."""
    return str(checkpoints.causal(tmp_path_factory.mktemp("model") / "tiny", "Qwen3"))


def jsonl(*lines: dict[str, Any]) -> bytes:
    return "\n".join(map(json.dumps, lines)).encode()


@pytest.mark.slow
def test_an_instruction_of_a_query_replaces_that_of_the_job(folder: Path, lbr: Program, model: str) -> None:
    of_instruction = {
        text: local_scores(Path(model), "qwen3", "float32", ["ripe fig"], [TEXT], {"instruction": text})[0].value
        for text in ("Find bread", "Find figs", "日本")
    }
    assert len(set(of_instruction.values())) == 3
    bread, figs, other = of_instruction.values()
    request = {"query": "ripe fig", "documents": [TEXT]}
    pair = PAIR | {"query": "ripe fig", "text": TEXT}
    lines = [
        request,
        request | {"query_id": "a", "instruction": "Find figs"},
        {"query_id": "b", "query": {"text": "ripe fig", "instruction": "日本"}, "documents": [TEXT]},
        *(pair, pair | {"doc_id": "d2", "instruction": "Find figs"}),
    ]
    command = ("rerank", "-m", model, *COMMAND, "--instruction", "Find bread")
    first, again = (lbr(*command, stdin=jsonl(*lines)) for _ in range(2))
    found = [record["score"] for record in first.records]
    assert found == pytest.approx([bread, figs, other, figs, figs], rel=1e-5)
    assert (again.out, "(5 cached" in again.err) == (first.out, True)
    # the cached scores are found from the other inputs, too
    line = {"query": "ripe fig", "pos": [], "neg": [TEXT]}
    ended = lbr(*command, stdin=jsonl(line, line | {"instruction": "日本"}))
    assert "2 pairs (2 cached" in ended.err
    assert [record["neg_scores"] for record in ended.records] == [found[:1], found[2:3]]


def test_show_prompt_prints_the_instruction_of_the_query(folder: Path, lbr: Program, model: str) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "-m", model, *COMMAND, "--show-prompt")
    assert "<Instruct>: Find figs\n<Query>: ripe fig\n" in ended.out


@pytest.mark.parametrize("options", ["-m lb", "-m minilm --dry-run", "--engine overlap", "--engine overlap --dry-run"])
def test_an_instruction_is_refused_by_families_without_one(folder: Path, lbr: Program, options: str) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", *options.split(), "--quiet", "-o", "out")
    assert (ended.code, (folder / "out").exists()) == (2, False)
    location, message = ended.err.splitlines()[0].split(": query q1 has an instruction, and models of the family ")
    assert location == "lbr: queries.jsonl:1"
    assert message.endswith(" take none")
    assert ended.err.splitlines()[1] == "lbr: hint: remove the key, for example with: jq -c 'del(.instruction)'"


def test_a_stream_refuses_an_instruction_after_earlier_answers(lbr: Program) -> None:
    lines = [{"query": "a", "documents": ["a"]}, {"query": "b", "documents": ["a"], "instruction": "x"}]
    ended = lbr("rerank", "--stream", *OVERLAP, stdin=jsonl(*lines))
    assert (ended.code, len(ended.records)) == (1, 1)
    assert ended.err.startswith("lbr: standard input:2: query 2 has an instruction")
    assert lbr("rerank", "--stream", *OVERLAP, stdin=jsonl(lines[1])).code == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [PAIR | {"query": "a", "instruction": "x"}, PAIR | {"doc_id": "d2"}, PAIR | {"instruction": "y"}],
            "standard input:3: query q1 has another instruction at standard input:1",
        ),
        (
            [PAIR | {"query": "a"}, PAIR | {"instruction": "x"}, PAIR | {"instruction": ""}],
            "standard input:3: query q1 has another instruction at standard input:2",
        ),
        ([PAIR | {"instruction": ["x"]}], 'standard input:1: "instruction" has to be a string, this is an array'),
        (
            [PAIR | {"instruction": "x", "query": {"text": "a", "instruction": "y"}}],
            'standard input:1: in "query": "instruction" differs from that of the line',
        ),
        (
            [PAIR | {"query": {"text": "a", "instruction": 1}}],
            'standard input:1: in "query": "instruction" has to be a string, this is an integer',
        ),
    ],
)
def test_conflicting_instructions_name_both_lines(lbr: Program, lines: list[dict[str, Any]], message: str) -> None:
    ended = lbr("rerank", *OVERLAP, stdin=jsonl(*lines))
    assert (ended.code, ended.err) == (2, f"lbr: {message}\n")


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (
            [{"instruction": "x"}, {"instruction": "y"}],
            "queries.jsonl:2: query q1 has another instruction at queries.jsonl:1",
        ),
        ([{"instruction": "x"}, {}], "queries.jsonl:2: query q1 has another instruction at queries.jsonl:1"),
        ([{"instruction": {}}], 'queries.jsonl:1: "instruction" has to be a string, this is an object'),
        ([{"instruction": "x"}], "standard input:2: query q1 has another instruction at queries.jsonl:1"),
    ],
)
def test_conflicting_instructions_of_the_queries_file_are_errors(
    folder: Path, lbr: Program, queries: list[dict[str, Any]], message: str
) -> None:
    lines = [PAIR | {"query": "a"}, PAIR | {"doc_id": "d2", "instruction": "z"}]
    write(folder, {"queries.jsonl": jsonl(*({"id": "q1", "text": "a"} | query for query in queries))})
    ended = lbr("rerank", "-", "-q", "queries.jsonl", *OVERLAP, stdin=jsonl(*lines))
    assert (ended.code, ended.err) == (2, f"lbr: {message}\n")


def test_a_stream_refuses_another_instruction_for_an_answered_query(lbr: Program, model: str) -> None:
    lines = [{"query_id": "q", "query": "a", "documents": ["a"], "instruction": text} for text in ("x", "x", "y")]
    ended = lbr("rerank", "--stream", "-m", model, *COMMAND, "--quiet", stdin=jsonl(*lines))
    assert (ended.code, len(ended.records)) == (1, 2)
    assert ended.err == "lbr: standard input:3: query q has another instruction at standard input:2\n"


def test_an_instruction_that_topic_field_names_is_the_query_text(folder: Path, lbr: Program) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--topic-field", "instruction", "--depth", "1", *OVERLAP)
    assert 'lbr: queries.jsonl:2: "instruction" has to be a string' in ended.err  # q2 has none
    write(folder, {"run.trec": RUN.splitlines()[0] + "\n"})
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--topic-field", "instruction", *OVERLAP)
    assert (ended.code, ended.out) == (0, "q1 Q0 d1 1 0.5 lbr-overlap\n")
