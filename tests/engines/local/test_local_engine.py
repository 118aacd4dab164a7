"""The local engine against a plain loop: one pair at a time, transformers' own forward pass."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from lbr_cli.core import Answer, Chat, Document, Embedding, NextToken, Query, Request
from lbr_cli.engines import Settings
from lbr_cli.engines.local.devices import choose_device, choose_dtype, computes_wide
from lbr_cli.engines.local.encoder import Encoder
from lbr_cli.engines.local.float32_compute import Float32Linear
from lbr_cli.engines.local.prompt_engine import PromptEngine
from lbr_cli.errors import ComputeError, MissingError, RequestError, UsageError
from lbr_cli.families import BiEncoder, Lb
from lbr_cli.models import LocalModel, fetch, resolve
from lbr_cli.scoring import QueryDocuments, Scorer
from support.engines import answered, ask, load
from support.files import write
from support.plain_loop import DOCUMENTS, PAIRS, QUERIES, engine, max_difference, plain_scores, scores
from support.program import Program
from support.progress import RecordedProgress
from support.tokenizers import chat_tokenizer


@pytest.mark.parametrize("budget", [None, 1, 300, 100_000])
def test_float32_scores_equal_the_plain_loop(chat_model: Path, budget: int | None) -> None:
    plain = plain_scores(chat_model, torch.float32)
    ours = scores(engine(chat_model, dtype="float32", batch_tokens=budget))
    assert max_difference(ours, plain) < 1e-5
    assert sorted(range(len(PAIRS)), key=ours.__getitem__) == sorted(range(len(PAIRS)), key=plain.__getitem__)
    assert max(plain) - min(plain) > 0.01  # equal scores would agree trivially


def test_bfloat16_scores_are_as_close_to_float32_as_a_plain_loop(chat_model: Path) -> None:
    exact = plain_scores(chat_model, torch.float32)
    plain = max_difference(plain_scores(chat_model, torch.bfloat16), exact)
    assert max_difference(scores(engine(chat_model, dtype="bfloat16")), exact) <= 1.5 * plain


def test_a_score_does_not_depend_on_its_batch(chat_model: Path) -> None:
    loaded = engine(chat_model, dtype="float32", batch_tokens=4096)
    alone = [scores(loaded, [pair])[0] for pair in PAIRS]
    assert max_difference(scores(loaded), alone) < 1e-6
    assert max_difference(scores(loaded, PAIRS[::-1])[::-1], alone) < 1e-6


def test_equal_requests_have_identical_scores(chat_model: Path) -> None:
    assert scores(engine(chat_model)) == scores(engine(chat_model))


def test_a_truncated_document_scores_like_its_beginning(chat_model: Path) -> None:
    loaded = engine(chat_model, dtype="float32", max_length=320)
    ((_, long),), tokens = only(loaded, *ask(Lb(), "ripe figs", "Ripe figs turn purple. " * 200))
    assert long.truncated
    assert 316 <= tokens <= 320
    cut = [("ripe figs", ("Ripe figs turn purple. " * 200)[:end]) for end in range(200, 700)]
    assert min(abs(Lb().score([long]).value - other) for other in plain_scores(chat_model, torch.float32, cut)) < 1e-5


def only(loaded: Any, *requests: Request) -> tuple[Sequence[tuple[Request, Answer]], int]:
    """Return the answers and the number of tokens of requests that are computed as one batch."""
    (batch,) = loaded.answer([requests])
    return batch.answers, batch.tokens


def test_a_query_that_exceeds_the_maximum_length_is_refused_first(chat_model: Path) -> None:
    loaded = engine(chat_model, max_length=300)
    short, long, last = ask(Lb(), "a", "b"), ask(Lb(), "fig " * 300, "b"), ask(Lb(), "c", "d")
    loaded.check(short)
    with pytest.raises(
        RequestError, match=r"query too long: the prompt has \d+ tokens without a document, of at most 300"
    ) as caught:
        loaded.check(short + long + last)
    assert caught.value.request == long[0]


def round_weights(model: Any) -> None:
    """Give a float32 model the weights of a bfloat16 one."""
    for weight in model.parameters():
        weight.data = weight.data.bfloat16().float()


def test_scores_that_are_not_finite_are_recomputed_in_float32(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lbr_cli.engines.local.computes_wide", lambda device, dtype: False)
    loaded = engine(chat_model, dtype="bfloat16")
    exact = engine(chat_model, dtype="float32")
    round_weights(exact.model)

    def overflows(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        if output.dtype != torch.float32:
            output[0, 0] = math.nan
        return output

    loaded.model.base_model.norm.register_forward_hook(overflows)
    assert all(math.isfinite(score) for score in scores(loaded))
    assert max_difference(scores(loaded, PAIRS[:1]), scores(exact, PAIRS[:1])) < 1e-6
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.model.base_model.rotary_emb.inv_freq.dtype == torch.float32


def test_half_precision_weights_are_computed_in_float32_without_further_loss(
    chat_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("local", "local.devices"):
        monkeypatch.setattr(f"lbr_cli.engines.{module}.computes_wide", lambda device, dtype: dtype != torch.float32)
    wide = engine(chat_model, dtype="bfloat16")
    exact = engine(chat_model, dtype="float32")
    round_weights(exact.model)
    assert max_difference(scores(wide), scores(exact)) < 1e-6
    assert wide.description == "cpu, bfloat16 computed in float32"
    layers = [module for module in wide.model.modules() if isinstance(module, Float32Linear)]
    assert {layer.weight.dtype for layer in layers} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("dtype", "capabilities", "wide"),
    [
        (torch.bfloat16, {"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, False),
        (torch.bfloat16, {"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, True),
        (torch.bfloat16, {"avx512_bf16": True, "amx_bf16": False, "cpu_name": "AMD Zen 5"}, False),
        (torch.bfloat16, {"cpu_name": "AMD Zen 2"}, True),
        (torch.float32, {"cpu_name": "AMD Zen 2"}, False),
    ],
)
def test_float32_arithmetic_is_used_if_bfloat16_is_slower(
    dtype: torch.dtype, capabilities: dict[str, Any], wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert computes_wide(torch.device("cpu"), dtype) is wide
    assert not computes_wide(torch.device("cuda"), dtype)


def test_a_label_of_several_tokens_is_refused(chat_model: Path) -> None:
    loaded = engine(chat_model)
    with pytest.raises(MissingError, match="its tokenizer has no single token for the label 'bread gauge'"):
        answered(loaded, [NextToken(Chat("s"), ("b",), "d", ("",), ("1", "bread gauge"))])


def broken(loaded: PromptEngine | Encoder, error: Exception, above: int = 0) -> None:
    """Let the model fail on every row of more than `above` tokens."""

    def breaks(module: Any, arguments: Any, options: dict[str, Any]) -> None:
        if options["input_ids"].numel() > above:
            raise error

    loaded.model.base_model.register_forward_pre_hook(breaks, with_kwargs=True)


NO_MEMORY = [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]


@pytest.mark.parametrize("error", NO_MEMORY, ids=["accelerator", "cpu"])
def test_out_of_memory_halves_the_batch(chat_model: Path, error: Exception) -> None:
    whole = scores(engine(chat_model, dtype="float32"))
    small = engine(chat_model, dtype="float32")
    broken(small, error, above=500)
    assert max_difference(scores(small), whole) < 1e-6
    assert max_difference(scores(small), whole) < 1e-6  # a second call begins with the first budget


def test_a_pair_that_exceeds_the_memory_is_named(chat_model: Path) -> None:
    loaded = engine(chat_model)
    broken(loaded, NO_MEMORY[0], above=250)
    pairs = [("fig", "x"), ("fig", "y"), ("fig", "fig " * 300)]
    with pytest.raises(ComputeError, match=r"out of memory: \d+ tokens do not fit, even alone") as caught:
        scores(loaded, pairs)
    assert caught.value.request == ask(Lb(), *pairs[2])[0]


@pytest.mark.parametrize("family", ["lb", "lb-rev", "bi-encoder"])
def test_a_document_that_exceeds_the_memory_is_named(family: str, chat_model: Path, minilm: Path) -> None:
    model = resolve("minilm" if family == "bi-encoder" else str(chat_model), None if family == "bi-encoder" else family)
    loaded = load(fetch(model, RecordedProgress()), Settings(dtype="float32"))
    broken(loaded, NO_MEMORY[0], above=240)
    texts = {"d1": "a fig", "d2": "fig " * 250, "d3": "a tram"}
    documents = [Document(doc_id, text) for doc_id, text in texts.items()]
    items = [QueryDocuments(Query("q1", "salt"), documents[::2]), QueryDocuments(Query("q2", "bread"), documents)]
    scorer = Scorer(fetch(model, RecordedProgress()).family, lambda pairs: loaded, RecordedProgress())
    plan = scorer.plan(lambda: [(item.query, document) for item in items for document in item.documents])
    with pytest.raises(ComputeError, match=r"^query q2, document d2: out of memory: \d+ tokens do not fit"):
        list(scorer.score(items, plan))


def test_other_errors_are_not_handled_as_out_of_memory(chat_model: Path) -> None:
    loaded = engine(chat_model)
    broken(loaded, RuntimeError("shape"))
    with pytest.raises(ComputeError, match="the model failed on it or on the 20 computed with it: shape") as caught:
        scores(loaded)
    most_tokens = ask(Lb(), QUERIES[0], DOCUMENTS[5])[0]
    assert (caught.value.request, caught.value.exit_code) == (most_tokens, 1)


def test_a_model_without_all_its_weights_is_refused(chat_model: Path, tmp_path: Path) -> None:
    config = json.loads((chat_model / "config.json").read_text())
    folder = tmp_path / "grown"
    folder.mkdir()
    for file in chat_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config |= {"num_hidden_layers": 3, "layer_types": ["full_attention"] * 3}
    write(folder, {"config.json": json.dumps(config)})
    with pytest.raises(MissingError, match=r"missing weights of a Qwen2ForCausalLM: model\.layers\.2"):
        engine(folder)


def test_a_tokenizer_without_a_chat_template_is_refused(chat_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in chat_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tokenizer = chat_tokenizer()
    tokenizer.chat_template = None
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    tokenizer.save_pretrained(folder)
    with pytest.raises(MissingError, match="its tokenizer has no chat template, and this family needs one"):
        engine(folder)


def test_a_maximum_length_beyond_the_position_embeddings_is_refused(chat_model: Path) -> None:
    with pytest.raises(UsageError, match="--max-length 1025: tiny-chat reads 1024 tokens at most"):
        engine(chat_model, max_length=1025)


def test_a_maximum_length_without_room_for_a_text_is_refused(minilm: Path) -> None:
    with pytest.raises(UsageError, match="--max-length 2: m needs 3 tokens to read anything"):
        encoder(minilm, max_length=2)
    requests = [Embedding(text) for text in TEXTS]
    assert max(len(text) for text in TEXTS) > 100
    _, tokens = only(encoder(minilm, max_length=3), *requests)
    assert tokens <= 3 * len(TEXTS)


def test_devices_are_checked() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="--device gpu: unknown device"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(MissingError, match="--device cuda:0: not on this machine"):
            choose_device("cuda:0")


def test_precisions_are_checked() -> None:
    assert choose_dtype("float32", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("mps")) == torch.float32
    with pytest.raises(UsageError, match="--dtype float16: a CPU computes in it many times slower"):
        choose_dtype("float16", torch.device("cpu"))


TEXTS = ["figs", "a tram in Lisbon", "bread needs salt and time. " * 30, "", "日本", "[SEP] fig [CLS]", "trams, figs"]


def encoder(folder: Path, **settings: Any) -> Encoder:
    loaded = load(LocalModel("m", "m", BiEncoder(), folder, max_length=64), Settings(**settings))
    assert isinstance(loaded, Encoder)
    return loaded


def plain_vectors(folder: Path) -> list[Any]:
    """Return mean-pooled, normalised vectors, computed text by text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for text in TEXTS:
        encoded = tokenizer(text, truncation=True, max_length=64, split_special_tokens=True, return_tensors="pt")
        with torch.inference_mode():
            mean = model(**encoded).last_hidden_state[0].mean(0)
            found.append((mean / mean.norm()).numpy())
    return found


@pytest.mark.parametrize("budget", [1, 100, 10_000])
def test_vectors_equal_plain_mean_pooling(minilm: Path, budget: int) -> None:
    loaded = encoder(minilm, dtype="float32", batch_tokens=budget)
    requests = [Embedding(text) for text in TEXTS]
    found = answered(loaded, requests)
    assert max(abs(one.values - other).max() for one, other in zip(found, plain_vectors(minilm), strict=True)) < 1e-5
    assert [answer.truncated for answer in found] == [text.startswith("bread") for text in TEXTS]
    assert sum(len(batch.answers) for batch in loaded.answer([requests])) == len(TEXTS)


def test_one_thread_calls_the_tokenizer(chat_model: Path, tokenizer_threads: set[int]) -> None:
    loaded = engine(chat_model)
    tokenizer_threads.clear()
    windows = [ask(Lb(), query, document) for query, document in PAIRS[:3]]
    assert len(list(loaded.answer(windows))) == 3
    assert len(tokenizer_threads) == 1


def test_the_command_line_scores_like_the_plain_loop(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    lines = "".join(
        json.dumps({"query_id": f"q{number}", "doc_id": "d", "query": query, "text": document}) + "\n"
        for number, (query, document) in enumerate(PAIRS)
    )
    ended = lbr(
        "rerank", "-m", str(chat_model), "--family", "lb", "--dtype", "float32", "--explain", stdin=lines.encode()
    )
    assert ended.code == 0
    assert max_difference([record["score"] for record in ended.records], plain_scores(chat_model, torch.float32)) < 1e-5
    first = ended.records[0]
    assert list(first)[-3:] == ["digits", "mass", "truncated"]
    assert first["mass"] == pytest.approx(sum(first["digits"]))
    assert f"{len(PAIRS)} of {len(PAIRS)} pairs: the digits 1 to 7 have less than half of the probability" in ended.err
    assert ended.err.splitlines()[-1].endswith(" with tiny-chat (cpu, float32)")


def test_the_order_of_lines_changes_no_score(chat_model: Path, lbr: Program) -> None:
    lines = [
        json.dumps({"query_id": f"q{number}", "doc_id": f"d{index}", "query": query, "text": document})
        for number, query in enumerate(QUERIES)
        for index, document in enumerate(DOCUMENTS)
    ]
    mixed = [line for index in range(len(DOCUMENTS)) for line in lines[index :: len(DOCUMENTS)][::-1]]
    found = [
        lbr("rerank", "-m", model, *family, "--output-format", "trec", stdin="\n".join(order).encode()).out.splitlines()
        for model, family in ((str(chat_model), ["--family", "lb"]), ("minilm", []))
        for order in (lines, mixed)
    ]
    for straight, interleaved in (found[:2], found[2:]):
        assert [line.split()[0] for line in interleaved] != [line.split()[0] for line in straight]
        scores_of = [
            {(row[0], row[2]): float(row[4]) for row in map(str.split, lines)} for lines in (straight, interleaved)
        ]
        assert scores_of[0] == pytest.approx(scores_of[1], abs=1e-5)


def test_a_query_that_exceeds_the_maximum_length_leaves_no_output(
    chat_model: Path, tmp_path: Path, lbr: Program
) -> None:
    lines = "".join(
        json.dumps({"qid": qid, "id": "d", "query": query, "text": "x"}) + "\n"
        for qid, query in (("a", "x"), ("b", "fig " * 2000))
    )
    ended = lbr("rerank", "-m", str(chat_model), "--family", "lb", stdin=lines.encode())
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0].startswith("lbr: query b, document d: query too long: the prompt has ")
    assert ended.err.splitlines()[1] == "lbr: hint: shorten the query, or raise --max-length if the model reads more"
