"""--dry-run: what there is to do, without any weights."""

from __future__ import annotations

from pathlib import Path

from conftest import RUN, Program, write

DRY = ["rerank", "run.trec", "-c", "docs.jsonl", "--dry-run"]


def test_it_reads_joins_and_counts(files: Path, lbr: Program) -> None:
    write(files, {"run.trec": RUN + "q2 Q0 d404 2 6 x\nq2 Q0 d2 3 5 x\n"})
    refused = lbr(*DRY, "--engine", "overlap")
    assert (refused.code, refused.out) == (2, "")
    ended = lbr(*DRY, "--engine", "overlap", "--missing-docs", "last", "--depth", "1", "-o", "out.jsonl")
    assert ended.code == 0
    assert ended.out == (
        "queries     2\n"
        "candidates  4, 1 of them without a text\n"
        "duplicates  1\n"
        "to score    2 pairs\n"
        "tokens      not counted, overlap reads words\n"
        "output      jsonl\n"
    )
    assert not (files / "out.jsonl").exists()


def test_it_measures_prompts_without_the_weights(files: Path, lbr: Program, chat_model: Path) -> None:
    model = files / "weightless"
    model.mkdir()
    for file in chat_model.iterdir():
        if file.suffix != ".safetensors":
            (model / file.name).write_bytes(file.read_bytes())
    ended = lbr(*DRY, "-m", "weightless", "--family", "lb", "--max-length", "220")
    assert ended.code == 0
    (tokens,) = (line for line in ended.out.splitlines() if line.startswith("tokens"))
    assert tokens.split()[1:6] == [tokens.split()[1], "in", "3", "texts:", "shortest"]
    assert tokens.endswith("truncated at 220")


def test_a_bi_encoders_texts_are_counted_once(files: Path, lbr: Program, minilm: Path) -> None:
    ended = lbr(*DRY, "-m", "minilm")
    assert "in 4 texts: shortest " in ended.out  # two queries, two documents


def test_a_tokenizer_that_is_not_here_is_not_fetched(files: Path, lbr: Program) -> None:
    ended = lbr(*DRY, env={"HF_HOME": str(files / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert ended.code == 0
    assert (
        "tokens      not counted, the tokenizer of lightblue/lb-reranker-0.5B-v1.0 is not on this machine\n"
        in ended.out
    )


def test_it_refuses_what_the_job_would_refuse(files: Path, lbr: Program, chat_model: Path) -> None:
    assert lbr(*DRY, "--engine", "overlap", "--explain").code == 2
    assert lbr(*DRY, "--engine", "overlap", "--tag", "a b").code == 2
    assert lbr(*DRY, "-m", str(chat_model), "--family", "lb", "--device", "nosuch").code == 2
    ended = lbr(*DRY, "-m", str(chat_model), "--family", "lb", "--max-length", "40")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[1].startswith("lbr: query q1, document d1: the prompt has ")
