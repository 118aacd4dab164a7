"""Training data with `query`, `pos` and `neg`: read, scored, and written again with the scores."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import RankedCandidate
from lbr_cli.formats import OutputOptions, parse_run
from support.files import write
from support.program import Program

OVERLAP = ("rerank", "train.jsonl", "--engine", "overlap", "--quiet")
LINES: list[dict[str, Any]] = [
    {"query": "ripe fig", "pos": ["a fig", "ripe fig"], "neg": ["tram", "a fig"], "prompt": "p", "type": "normal"},
    {"neg": [], "pos": [], "query": "ripe fig", "id": 7},
    {"query": "", "neg_scores": [9], "pos": [""], "neg": ["fig"], "teacher": {"pos_scores": [1]}},
]


def jsonl(lines: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def test_the_lines_are_written_again_with_scores_in_the_order_of_the_texts(tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"train.jsonl": jsonl(LINES)})
    scores = [([0.5, 1.0], [0.0, 0.5]), ([], []), ([0.0], [0.0])]
    expected = [line | {"pos_scores": p, "neg_scores": n} for line, (p, n) in zip(LINES, scores, strict=True)]
    ended = lbr(*OVERLAP)
    assert (ended.code, ended.err, ended.records) == (0, "", expected)
    assert [list(record)[: len(line)] for record, line in zip(ended.records, LINES, strict=True)] == [*map(list, LINES)]
    for name in ("out.jsonl", "out.jsonl.gz", "out"):
        assert lbr(*OVERLAP, "-o", name).code == 0
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "out").read_text() == ended.out
    assert lbr(*OVERLAP, "--output-format", "training", "-o", "train.jsonl").code == 0
    assert (tmp_path / "train.jsonl").read_text() == ended.out
    assert lbr(*OVERLAP).out == ended.out  # existing scores are replaced


def test_scores_are_those_of_the_same_texts_in_jsonl(files: Path, lbr: Program, minilm: Path) -> None:
    texts = ["Ripe figs turn purple.", "Lisbon trams use 900 mm gauge.", "日本の茶"]
    line = {"query": "ripe fig", "pos": texts[:1], "neg": texts}
    write(files, {"train.jsonl": jsonl([line]), "twin.jsonl": jsonl([{"query": "ripe fig", "documents": texts}])})
    command = ("-m", "minilm", "--cache", "--cache-dir", "cache")
    first = lbr("rerank", "train.jsonl", *command)
    assert "lbr: 1 query, 4 pairs (0 cached, 0 truncated)" in first.err
    twin = lbr("rerank", "twin.jsonl", *command)
    assert "lbr: 1 query, 3 pairs (3 cached, 0 truncated)" in twin.err
    scores = {record["text"]: record["score"] for record in twin.records}
    (record,) = first.records
    assert record["neg_scores"] == [scores[text] for text in texts]
    assert record["pos_scores"] == record["neg_scores"][:1]
    again = lbr("rerank", "train.jsonl", *command)
    assert (again.out, "4 pairs (4 cached" in again.err) == (first.out, True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
TEXTS = st.lists(st.text(max_size=5), max_size=3)


@given(
    st.fixed_dictionaries({"query": st.text(max_size=5), "pos": TEXTS, "neg": TEXTS}),
    st.dictionaries(st.text(max_size=4).filter(lambda key: key not in ("candidates", "documents")), JSON, max_size=3),
    st.randoms(),
)
def test_every_other_key_keeps_its_value(line: dict[str, Any], others: dict[str, Any], random: Any) -> None:
    items = list((others | line).items())
    random.shuffle(items)
    line = dict(items)
    data = json.dumps(line).encode()
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return  # a lone surrogate
    stream = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    stream.raw.name = "train"  # type: ignore[attr-defined]
    format_, lines = parse_run(stream)
    assert format_.name == "training"
    found = list(lines)
    candidates = [one.candidate for one in found if one.candidate]
    assert [one.document.text for one in candidates if one.document] == line["pos"] + line["neg"]
    rows = [RankedCandidate(one, rank, rank, float(rank)) for rank, one in enumerate(candidates, 1)]
    random.shuffle(rows)
    written = json.loads(format_.write(found[0].query, rows, OutputOptions("tag")))
    count = len(line["pos"])
    numbers = [float(rank) for rank in range(1, len(candidates) + 1)]
    assert written == line | {"pos_scores": numbers[:count], "neg_scores": numbers[count:]}


def test_other_formats_have_line_numbers_and_positions_as_ids(tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"train.jsonl": "\n" + jsonl(LINES[:2])})
    expected = [("2", "pos-1", 1.0), ("2", "pos-0", 0.5), ("2", "neg-1", 0.5), ("2", "neg-0", 0.0)]
    records = lbr(*OVERLAP, "--output-format", "jsonl").records
    assert [(record["query_id"], record["doc_id"], record["score"]) for record in records] == expected
    ended = lbr(*OVERLAP, "-o", "/dev/stdout", "--output-format", "trec", "--top-k", "2", "--min-score", "0.5")
    assert ended.out == "2 Q0 pos-1 1 1 lbr-overlap\n2 Q0 pos-0 2 0.5 lbr-overlap\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"query": "q", "pos": []}, 'no "neg", and training data has query, pos and neg'),
        ({"query": "q", "neg": []}, 'no "pos", and training data has query, pos and neg'),
        ({"pos": [], "neg": []}, 'no "query", and training data has query, pos and neg'),
        ({"query": ["q"], "pos": [], "neg": []}, '"query" has to be a string, this is an array'),
        ({"query": None, "pos": [], "neg": []}, '"query" has to be a string, this is null'),
        ({"query": "q", "pos": "text", "neg": []}, '"pos" has to be an array, this is a string'),
        ({"query": "q", "pos": [], "neg": None}, '"neg" has to be an array, this is null'),
        ({"query": "q", "pos": [], "neg": ["a", {"text": "b"}]}, '"neg" has to hold strings, item 1 is an object'),
        ({"query": "q", "pos": [None], "neg": []}, '"pos" has to hold strings, item 0 is null'),
        (
            {"query": "q", "pos": [], "neg": [], "instruction": 1},
            '"instruction" has to be a string, this is an integer',
        ),
        ([], "not JSONL, which is one JSON object a line"),
    ],
)
def test_invalid_lines_are_errors_with_line_and_key(tmp_path: Path, lbr: Program, line: Any, message: str) -> None:
    write(tmp_path, {"train.jsonl": jsonl([LINES[0], line])})
    ended = lbr(*OVERLAP)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0] == f"lbr: train.jsonl:2: {message}"


def test_an_invalid_first_line_is_an_error(tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"train.jsonl": '{"query": "q", "pos": "text"}\n'})
    assert lbr(*OVERLAP).err == 'lbr: train.jsonl:1: no "neg", and training data has query, pos and neg\n'
    write(tmp_path, {"train.jsonl": '{"query": "q", "pos": ["text"], "neg": [}\n'})
    assert lbr(*OVERLAP, "--input-format", "training").err.startswith("lbr: train.jsonl:1: not valid JSON: ")


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        ('{"query":"q","pos":[],"neg":["a"]}', "training"),
        ('{"query_id":"1","query":"q","pos":[],"neg":["a"]}', "training"),
        ('{"id":"1","query":"q","pos":["a"],"neg":[],"loss":1e400}', "training"),
        ('{"query_id":"1","doc_id":"d","query":"q","text":"t","pos":["NN"],"neg":false}', "jsonl"),
        ('{"query":"q","documents":["t"],"pos":[],"neg":[]}', "jsonl"),
    ],
)
def test_the_format_is_detected_from_the_first_line(tmp_path: Path, lbr: Program, content: str, format_: str) -> None:
    write(tmp_path, {"train.jsonl": content + "\n"})
    assert f"output      {format_}\n" in lbr(*OVERLAP, "--dry-run").out


@pytest.mark.parametrize(
    ("option", "value"),
    [("--depth", "1"), ("--top-k", "1"), ("--interpolate", "0.5"), ("--min-score", "0")],
)
def test_training_output_has_every_text(tmp_path: Path, lbr: Program, option: str, value: str) -> None:
    write(tmp_path, {"train.jsonl": jsonl(LINES)})
    ended = lbr(*OVERLAP, option, value)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"lbr: {option}: training output has the model's score of every text\n")


def test_training_output_needs_training_input(files: Path, lbr: Program) -> None:
    for command in (("run.trec", "-c", "docs.jsonl", "-q", "queries.tsv"), ("--stream",)):
        stdin = b'{"query":"q","documents":["a"]}\n'
        ended = lbr("rerank", *command, "--engine", "overlap", "--output-format", "training", "--quiet", stdin=stdin)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith("lbr: training output needs training input, which has query, pos and neg; this is ")


def test_training_input_without_a_text_is_refused(tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"train.jsonl": jsonl(LINES[1:2])})
    assert lbr(*OVERLAP).err == "lbr: train.jsonl: holds no candidates\n"


def test_a_stream_of_training_data_is_refused_with_a_hint(lbr: Program) -> None:
    ended = lbr("rerank", "--stream", "--engine", "overlap", stdin=jsonl(LINES).encode())
    assert (ended.code, ended.out) == (2, "")
    assert "hint: training data is read with --input-format training, without --stream" in ended.err
