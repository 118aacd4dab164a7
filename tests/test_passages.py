"""Long documents are scored by their passages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbr_cli.core import Document, Score
from lbr_cli.passages import SPAN_BYTES, Passages, SpanCache, passage_spans
from support.files import write
from support.program import Program

LONGEST = 52  # characters of a word: four Thai letters with eight marks each, and sixteen of punctuation
TEN = " ".join(f"w{n}" for n in range(10))
LONG = "Nothing to see here. " * 3 + "Ripe figs turn purple in colour. " + "Bread needs salt and time. " * 3


@pytest.mark.parametrize(
    ("words", "stride", "texts"),
    [
        (4, 3, ["w0 w1 w2 w3", "w3 w4 w5 w6", "w6 w7 w8 w9"]),
        (4, 4, ["w0 w1 w2 w3", "w4 w5 w6 w7", "w8 w9"]),
        (9, 1, ["w0 w1 w2 w3 w4 w5 w6 w7 w8", "w1 w2 w3 w4 w5 w6 w7 w8 w9"]),
        (10, 1, [TEN]),
        (1, 1, TEN.split()),
    ],
)
def test_passages_begin_a_stride_apart(words: int, stride: int, texts: list[str]) -> None:
    assert [TEN[start:end] for start, end in passage_spans(TEN, words, stride)] == texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('He said: "3.5% of COVID-19." - so', ["He", "said:", '"3.', "5%", "of", "COVID-", '19."', "-", "so"]),
        ("हिन्दी में लिखा", ["हिन्दी", "में", "लिखा"]),
        ("العربيّة لغة", ["العربيّة", "لغة"]),
        ("我在北京。コーヒー", ["我", "在", "北", "京。", "コー", "ヒー"]),
        ("ภาษาไทยดี", ["ภาษา", "ไทยดี"]),
        ("ខ្ញុំសុខសប្បាយ", ["ខ្ញុំសុខ", "សប្បាយ"]),
        ("f" * 70, ["f" * 32, "f" * 32, "f" * 6]),
        ("-" * 40, ["-" * 32, "-" * 8]),
        (" \n ", [" \n "]),
        ("", [""]),
    ],
)
def test_words_are_split_in_all_scripts(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in passage_spans(text, 1, 1)] == words


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(1, 9), st.data())
def test_every_word_is_in_a_passage_of_limited_length(text: str, words: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, words))
    spans = list(passage_spans(text, words, stride))
    assert spans == sorted(set(spans))
    covered = {position for start, end in spans for position in range(start, end)}
    assert all(position in covered for position, letter in enumerate(text) if not letter.isspace())
    if len(spans) > 1:
        assert all(len("".join(text[start:end].split())) <= LONGEST * words for start, end in spans)


@pytest.mark.parametrize("piece", ["ก" + "ั" * 1000, "コ" + "ー" * 1000, "(" * 1000 + "x", "e" + "\u0301" * 1000])
def test_text_without_word_boundaries_has_short_passages(piece: str) -> None:
    text = piece * 30
    assert all(end - start <= LONGEST * 5 for start, end in passage_spans(text, 5, 2))


def test_a_text_of_one_passage_is_unchanged() -> None:
    document = Document("d", "  some  words \n", "A title")
    (passage,) = Passages("max").split(document)
    assert (passage.document, passage.number, passage.total, passage.start) == (document, 1, 1, 0)


def test_each_passage_has_the_title() -> None:
    passages = Passages("max", 4, 3).split(Document("d", TEN, "A title"))
    assert [passage.document.title for passage in passages] == ["A title"] * 3
    assert [(passage.number, passage.total, passage.start) for passage in passages] == [
        (1, 3, 0),
        (2, 3, 9),
        (3, 3, 18),
    ]


def test_document_scores_are_the_first_maximum_or_mean() -> None:
    scores = [Score(1.0, {"truncated": True, "mass": 0.1}), Score(3.0, {"truncated": False, "mass": 0.9}), Score(3.0)]
    passage = {"number": 2, "of": 3, "start": 9, "text": "w3 w4 w5 w6"}
    best = Passages("max", 4, 3)
    passages = best.split(Document("d", TEN))
    assert best.aggregate(passages, scores) == Score(3.0, {"truncated": False, "mass": 0.9, "passage": passage})
    mean = Passages("mean", 4, 3)
    assert mean.aggregate(passages, scores) == Score(
        7 / 3, {"truncated": True, "passage": {**passage, "score": 3.0, "mass": 0.9}}
    )
    first = Passages("first", 4, 3)
    assert [passage.document.text for passage in first.split(Document("d", TEN))] == ["w0 w1 w2 w3"]
    folded = first.aggregate(first.split(Document("d", TEN)), scores[:1])
    assert folded.details["passage"] == {
        "number": 1,
        "start": 0,
        "text": "w0 w1 w2 w3",
    }  # further passages are not computed
    assert folded.value == 1.0


def run_with(lbr: Program, *options: str) -> list[tuple[str, float]]:
    ended = lbr(
        *("rerank", "run.trec", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap"),
        *("--output-format", "jsonl", *options),
    )
    assert ended.code == 0, ended.err
    return [(record["doc_id"], record["score"]) for record in ended.records if record["query_id"] == "q1"]


@pytest.fixture
def long(files: Path) -> Path:
    documents = [{"_id": "d1", "text": LONG}, {"_id": "d2", "text": "colour of bread"}]
    return write(files, {"docs.jsonl": "".join(f"{json.dumps(document)}\n" for document in documents)})


def test_passages_on_the_command_line(long: Path, lbr: Program) -> None:
    # the query is "ripe fig colour": a window of six words holds two of its words, the first holds none
    window = ("--passage-words", "6", "--passage-stride", "3")
    assert run_with(lbr, "--passages", "max", *window) == [("d1", 0.6666667), ("d2", 0.33333334)]
    assert run_with(lbr, "--passages", "first", "--passage-words", "6") == [("d2", 0.33333334), ("d1", 0.0)]
    mean = dict(run_with(lbr, "--passages", "mean", *window))
    assert 0 < mean["d1"] < 0.66
    assert mean["d2"] == 0.33333334


def test_explain_shows_the_passage(long: Path, lbr: Program) -> None:
    ended = lbr(
        *("rerank", "run.trec", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap", "--explain"),
        *("--output-format", "jsonl", "--passages", "max", "--passage-words", "6"),
    )
    shown = ended.records[0]["passage"]
    assert shown["text"] == LONG[shown["start"] :][: len(shown["text"])] == "Ripe figs turn purple in colour."
    assert (shown["number"], shown["of"]) == (5, 10)
    assert "lbr: 2 queries, 3 pairs as 12 passages (0 truncated) in " in ended.err


def test_passages_are_cached_up_to_a_limit() -> None:
    cache = SpanCache(2 * (len(TEN) + 3 * SPAN_BYTES))
    texts = [TEN, TEN.upper(), TEN[::-1]]  # one more than the cache can hold
    first, second, third = (cache.get(text, 4, 3) for text in texts)
    assert [list(found) for found in (first, second, third)] == [list(passage_spans(text, 4, 3)) for text in texts]
    assert cache.get(texts[2], 4, 3) is third
    assert cache.get(texts[1], 4, 3) is second
    assert cache.get(texts[0], 4, 3) is not first
    assert cache.get(texts[2], 4, 3) is not third  # the least recently used one
    long = cache.get(TEN * 9, 4, 3)  # has no room
    assert list(long) == list(passage_spans(TEN * 9, 4, 3))
    assert cache.get(TEN * 9, 4, 3) is not long


def test_passages_in_a_stream(long: Path, lbr: Program) -> None:
    lines = [
        {"query": "ripe fig colour", "documents": [{"text": LONG, "score": 1.0}, {"text": "", "title": "Figs"}]},
        {"query": "bread", "documents": ["bread"]},
    ]
    stdin = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    command = ("rerank", "--engine", "overlap", "--stream", "--passages", "max", "--passage-words", "6", "--explain")
    ended = lbr(*command, stdin=stdin)
    assert ended.code == 0
    assert [record["passage"]["text"] for record in ended.records] == ["Ripe figs turn purple in colour.", "", "bread"]


def test_the_manifest_has_the_passage_options(long: Path, lbr: Program) -> None:
    command = (
        "rerank",
        "run.trec",
        "-c",
        "docs.jsonl",
        "--engine",
        "overlap",
        "-o",
        "out.trec",
        "--manifest",
        "m.json",
    )
    assert lbr(*command, "--passages", "max", "--passage-words", "7").code == 0
    options = json.loads((long / "m.json").read_text())["options"]
    assert (options["passages"], options["passage_words"], options["passage_stride"]) == ("max", 7, 3)
    assert lbr(*command).code == 0
    assert not {"passages", "passage_words", "passage_stride"} & set(
        json.loads((long / "m.json").read_text())["options"]
    )


def test_truncated_passages_are_a_warning(long: Path, lbr: Program, minilm: Path) -> None:
    command = ("rerank", "run.trec", "-c", "docs.jsonl", "-m", "minilm", "--max-length", "6", "--passages", "max")
    ended = lbr(*command, "--passage-words", "5", "--quiet")
    expected = "passages are longer than the model reads; fewer --passage-words make them shorter"
    assert expected in ended.err
    assert expected not in lbr(*command, "--passage-words", "2", "--quiet").err


def test_the_dry_run_counts_passages(long: Path, lbr: Program) -> None:
    ended = lbr(*("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", "--dry-run"), *("--passages", "max"))
    assert "to score    3 pairs, 3 passages\n" in ended.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--passage-words", "9"], "--passage-words has no effect: there is no --passages"),
        (
            ["--passages", "first", "--passage-stride", "9"],
            "--passage-stride has no effect: --passages first reads",
        ),
        (
            ["--passages", "max", "--passage-words", "9", "--passage-stride", "10"],
            "--passage-stride 10: passages of 9 words would leave out the words between them",
        ),
    ],
)
def test_invalid_options_are_errors(files: Path, lbr: Program, options: list[str], message: str) -> None:
    ended = lbr("rerank", "run.trec", "-c", "docs.jsonl", "--engine", "overlap", *options)
    assert ended.code == 2
    assert ended.err.startswith(f"lbr: {message}")


def test_scores_of_passages_are_cached(long: Path, lbr: Program, minilm: Path) -> None:
    cached = {"LBR_CACHE": "1", "LBR_CACHE_DIR": str(long / "cache")}
    command = ("rerank", "run.trec", "-c", "docs.jsonl", "-m", "minilm", "--passages", "max", "--passage-words", "6")
    first, second = lbr(*command, env=cached), lbr(*command, env=cached)
    assert first.out == second.out
    assert "3 pairs as 12 passages (0 cached, " in first.err
    assert "3 pairs as 12 passages (12 cached, " in second.err
