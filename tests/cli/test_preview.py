"""--dry-run: counts of pairs and tokens, without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lbr_cli.families.lb import SYSTEM
from support.files import RUN, write
from support.program import Program

SHOW = ["rerank", "run.trec", "-c", "docs.jsonl", "--show-prompt"]
DRY = ["rerank", "run.trec", "-c", "docs.jsonl", "--dry-run"]


def test_a_dry_run_reads_all_input_and_prints_counts(files: Path, lbr: Program) -> None:
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
        "tokens      not counted: --engine overlap uses no tokenizer\n"
        "output      jsonl\n"
    )
    assert not (files / "out.jsonl").exists()


def test_a_dry_run_counts_tokens_without_loading_weights(files: Path, lbr: Program, chat_model: Path) -> None:
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


def test_a_dry_run_counts_each_text_of_a_bi_encoder_once(files: Path, lbr: Program, minilm: Path) -> None:
    ended = lbr(*DRY, "-m", "minilm")
    assert "in 4 texts: shortest " in ended.out  # two queries, two documents


def test_a_dry_run_downloads_no_tokenizer(files: Path, lbr: Program) -> None:
    ended = lbr(*DRY, env={"HF_HOME": str(files / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9"})
    assert ended.code == 0
    assert (
        "tokens      not counted: the tokenizer of lightblue/lb-reranker-0.5B-v1.0 is not on this machine\n"
        in ended.out
    )


def test_a_dry_run_fails_if_the_job_would_fail(files: Path, lbr: Program, chat_model: Path) -> None:
    assert lbr(*DRY, "--engine", "overlap", "--explain").code == 2
    assert lbr(*DRY, "--engine", "overlap", "--tag", "a b").code == 2
    assert lbr(*DRY, "-m", str(chat_model), "--family", "lb", "--device", "nosuch").code == 2
    ended = lbr(*DRY, "-m", str(chat_model), "--family", "lb", "--max-length", "40")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[1].startswith("lbr: query q1, document d1: query too long: the prompt has ")


def test_a_dry_run_accepts_what_the_job_accepts(files: Path, lbr: Program) -> None:
    # an empty id can be written in the input format, but not in TREC
    write(files, {"run.tsv": "\td1\t1\n", "queries.tsv": "\tripe fig\n"})
    command = ["rerank", "run.tsv", "-c", "docs.jsonl", "-q", "queries.tsv", "--engine", "overlap"]
    for options in ([], ["--dry-run"]):
        assert lbr(*command, *options).code == 0
        refused = lbr(*command, *options, "--output-format", "trec")
        assert (refused.code, refused.out) == (2, "")
        assert "query '', document 'd1': an empty id cannot be written to trec output" in refused.err


def test_show_prompt_prints_the_prompt_of_the_first_pair(files: Path, lbr: Program, chat_model: Path) -> None:
    # the first in first-stage order, not in the file
    write(files, {"run.trec": "q1 Q0 d2 1 1 x\nq1 Q0 d1 2 9 x\n"})
    ended = lbr(*SHOW, "-m", str(chat_model), "--family", "lb", "--max-length", "150")
    assert ended.code == 0, ended.err
    head, prompt = ended.out.split("\n\n", 1)
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    expected = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": "<<<Query>>>\nripe fig colour\n\n<<<Context>>>\nFigs Ripe figs turn purple."},
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert prompt == expected + "\n"
    count = len(tokenizer(expected, add_special_tokens=False)["input_ids"])
    assert head == f"query     q1\ndocument  d1\ntokens    {count} of at most 150"


def test_show_prompt_prints_both_texts_of_a_bi_encoder(files: Path, lbr: Program, minilm: Path) -> None:
    ended = lbr(*SHOW, "-m", "minilm", "--max-length", "6", "--query-prompt", "query: ")
    assert ended.out == (
        "query     q1\ndocument  d1\n"
        "tokens    6 of at most 6, the text truncated\n\n[CLS] query : ripe fig [SEP]\n\n"
        "tokens    6 of at most 6, the text truncated\n\n[CLS] figs ripe fig [SEP]\n"
    )


def test_show_prompt_prints_the_first_passage(files: Path, lbr: Program, minilm: Path) -> None:
    ended = lbr(*SHOW, "-m", "minilm", "--passages", "max", "--passage-words", "2")
    assert ended.out.endswith("\n[CLS] figs ripe figs [SEP]\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "overlap"], "--show-prompt has no effect: --engine overlap uses no model"),
        (["--dry-run"], "--show-prompt has no effect: --dry-run makes no ranking"),
        (["--manifest", "m.json"], "--manifest has no effect: --show-prompt makes no ranking"),
        (
            ["--engine", "openai", "--base-url", "http://127.0.0.1:9/v1", "-m", "lb"],
            "--show-prompt: the server makes the prompt with its own chat template",
        ),
        (["-m", "lb"], "model lightblue/lb-reranker-0.5B-v1.0: not on this machine"),
    ],
)
def test_a_prompt_that_cannot_be_shown_is_an_error(files: Path, lbr: Program, options: list[str], message: str) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(files / "hub")}
    ended = lbr(*SHOW, "--quiet", *options, env=offline)
    assert (ended.code, ended.out) in ((1, ""), (2, ""))
    assert ended.err.startswith(f"lbr: {message}")
