"""Unsupported model folders are refused, with file and key, if transformers would load them without an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lbr_cli.core import Answer
from lbr_cli.engines import Settings
from lbr_cli.errors import LbrError, MissingError
from lbr_cli.families import Classifier
from lbr_cli.models import fetch, resolve
from lbr_cli.models.folder import relevant_label
from lbr_cli.models.json_file import JsonFile
from lbr_cli.models.weights import check_files
from support import checkpoints
from support.engines import answered, ask, load
from support.files import write
from support.program import Program
from support.progress import RecordedProgress
from support.tokenizers import chat_tokenizer

LINE = json.dumps({"query_id": "1", "doc_id": "d", "query": "ripe figs", "text": "figs turn purple"}).encode()
ST = "sentence_transformers.models."
TRANSFORMER = {"type": f"{ST}Transformer", "path": ""}
POOLING = {"type": f"{ST}Pooling", "path": "1_Pooling"}
DENSE = {"type": f"{ST}Dense", "path": "2_Dense"}
UNSUPPORTED = "which this version of lbr does not support"


def encoder(folder: Path, labels: int = 1, **config: Any) -> Path:
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>")
    return checkpoints.classifier(folder, "Bert", tokenizer, labels, **config)


def as_json(folder: Path, **files: Any) -> Path:
    """Write files of the folder by their names without the ending."""
    return write(folder, {f"{name}.json": json.dumps(value) for name, value in files.items()})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"modules": [TRANSFORMER, POOLING], "config_sentence_transformers": {"model_type": "SparseEncoder"}},
            f'config_sentence_transformers.json: "model_type" is SparseEncoder, {UNSUPPORTED}',
        ),
        (
            {"modules": [TRANSFORMER, POOLING], "config_sentence_transformers": {"model_type": "CrossEncoder"}},
            f"modules.json: a cross-encoder with the modules Transformer, Pooling, {UNSUPPORTED}",
        ),
        (
            {
                "modules": [TRANSFORMER, POOLING, {"type": f"{ST}CNN", "path": "2_CNN"}, DENSE],
                "config_sentence_transformers": {"model_type": "CrossEncoder"},
            },
            f"modules.json: a cross-encoder with the modules Transformer, Pooling, CNN, Dense, {UNSUPPORTED}",
        ),
        (
            {
                "modules": [TRANSFORMER, {"type": f"{ST}LogitScore", "path": "1_LogitScore"}],
                "config_sentence_transformers": {"model_type": "CrossEncoder"},
            },
            "--family logit-score: tiny is a BertForSequenceClassification, which has no vocabulary to answer with",
        ),
        (
            {"modules": [{"type": "custom_st.Transformer", "path": ""}, POOLING]},
            'modules.json: module 0: "type" is custom_st.Transformer, a class that is not part of '
            f"sentence-transformers, {UNSUPPORTED}",
        ),
        (
            {"modules": [TRANSFORMER, {"type": "pooling.Pooling", "path": "1_Pooling"}]},
            'modules.json: module 1: "type" is pooling.Pooling, a class that is not part of sentence-transformers, '
            + UNSUPPORTED,
        ),
        (
            {
                "modules": [TRANSFORMER],
                "config_sentence_transformers": {
                    "model_type": "CrossEncoder",
                    "prompts": {"query": "Q: "},
                    "default_prompt_name": "web",
                },
            },
            "config_sentence_transformers.json: \"default_prompt_name\" is 'web'",
        ),
        (
            {
                "modules": [TRANSFORMER],
                "config_sentence_transformers": {"model_type": "CrossEncoder"},
                "sentence_bert_config": {"modality_config": {"text": {}, "message": {}}},
            },
            "its tokenizer has no chat template, and this family needs one",
        ),
        (
            {
                "modules": [TRANSFORMER],
                "config_sentence_transformers": {"model_type": "CrossEncoder"},
                "sentence_bert_config": {"processing_kwargs": {"text": {"truncation": False}}},
            },
            f'sentence_bert_config.json: "processing_kwargs" sets text, {UNSUPPORTED}',
        ),
        (
            {
                "modules": [TRANSFORMER],
                "config_sentence_transformers": {"model_type": "CrossEncoder"},
                "sentence_bert_config": {"tokenizer_args": {"add_prefix_space": True}},
            },
            f'sentence_bert_config.json: "tokenizer_args" has add_prefix_space, {UNSUPPORTED}',
        ),
        (
            {"adapter_config": {"base_model_name_or_path": "acme/base", "peft_type": "LORA"}},
            "adapter_config.json: an adapter of acme/base without its weights (none of adapter_model.safetensors, "
            "adapter_model.bin)",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else ",".join(value),
)
def test_unsupported_folders_are_refused(files: dict[str, Any], message: str, tmp_path: Path, lbr: Program) -> None:
    as_json(encoder(tmp_path / "tiny"), **files)
    ended = lbr("rerank", "-m", "tiny", stdin=LINE)
    where = "" if message.startswith("--family") else "tiny: " if message.startswith("its") else "tiny/"
    assert (ended.code, ended.out, ended.err.splitlines()[0]) == (2, "", f"lbr: {where}{message}")


def test_prompts_are_used_only_by_name_or_default(tmp_path: Path, lbr: Program) -> None:
    """As in sentence-transformers, whose `predict` uses a prompt only by its name."""
    folder = encoder(tmp_path / "tiny")
    before = lbr("rerank", "-m", "tiny", stdin=LINE)
    as_json(folder, modules=[TRANSFORMER], config_sentence_transformers={"prompts": {"query": "Q: "}})
    after = lbr("rerank", "-m", "tiny", stdin=LINE)
    assert (after.code, after.out) == (0, before.out)


@pytest.mark.parametrize("name", ["Qwen2", "GPT2", "Llama"])
def test_a_causal_classifier_needs_its_prompt(name: str, tmp_path: Path, lbr: Program) -> None:
    checkpoints.classifier(tmp_path / "tiny", name, checkpoints.bytes_tokenizer())
    ended = lbr("rerank", "-m", "tiny", stdin=LINE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        f'lbr: tiny/config.json: "architectures" is {name}ForSequenceClassification, a causal model, and no file has '
        "its prompt",
        "lbr: hint: give its prompt with --prompt-file; if it was trained on bare pairs, use --family classifier",
    ]
    assert lbr("rerank", "-m", "tiny", "--family", "classifier", stdin=LINE).code == 0


def test_a_causal_classifier_needs_its_family_with_cached_scores(tmp_path: Path, lbr: Program) -> None:
    checkpoints.classifier(tmp_path / "tiny", "Qwen2", checkpoints.bytes_tokenizer())
    cache = {"LBR_CACHE": "1", "LBR_CACHE_DIR": str(tmp_path / "cache")}
    assert lbr("rerank", "-m", "tiny", "--family", "classifier", stdin=LINE, env=cache).code == 0
    assert lbr("rerank", "-m", "tiny", stdin=LINE, env=cache).code == 2


@pytest.mark.parametrize(
    ("names", "relevant"),
    [
        (["LABEL_0", "LABEL_1"], 1),
        (["not_relevant", "relevant"], 1),
        (["relevant", "not_relevant"], 0),
        (["Relevant", "Irrelevant"], 0),
        (["yes", "no"], 0),
        (["entailment", "not_entailment"], 0),
        (["positive", "negative"], 0),
        (["non-relevant", "relevant"], 1),
        (["a", "b"], 1),
        (["relevant", "b"], 1),
    ],
)
def test_the_relevant_label_is_found_by_its_name(names: list[str], relevant: int, tmp_path: Path) -> None:
    as_json(tmp_path, config={"id2label": dict(enumerate(names))})
    assert relevant_label(JsonFile(tmp_path / "config.json")) == relevant
    assert Classifier(relevant).score([Answer([3.0, 1.0])]).value == (2.0 if relevant == 0 else -2.0)


def test_swapped_labels_keep_the_order(tmp_path: Path, lbr: Program) -> None:
    encoder(tmp_path / "tiny", 2, id2label={0: "not_relevant", 1: "relevant"})
    (usual,) = lbr("rerank", "-m", "tiny", "--dtype", "float32", stdin=LINE).records
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    as_json(tmp_path / "tiny", config=config | {"id2label": {"0": "relevant", "1": "not_relevant"}})
    (turned,) = lbr("rerank", "-m", "tiny", "--dtype", "float32", stdin=LINE).records
    assert turned["score"] == -usual["score"]


@pytest.mark.parametrize("name", ["Bert", "MPNet", "Qwen2"])
def test_outputs_that_a_configuration_requests_do_not_matter(name: str, tmp_path: Path, lbr: Program) -> None:
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>")
    checkpoints.classifier(tmp_path / "tiny", name, tokenizer)
    arguments = ("rerank", "-m", "tiny", "--family", "classifier", "--dtype", "float32")
    expected = lbr(*arguments, stdin=LINE)
    config = json.loads((tmp_path / "tiny" / "config.json").read_text())
    for outputs in ({"return_dict": False}, {"output_attentions": True, "output_hidden_states": True}):
        as_json(tmp_path / "tiny", config=config | outputs)
        ended = lbr(*arguments, stdin=LINE)
        assert (ended.code, ended.out) == (0, expected.out), ended.err


def pointer(folder: Path, name: str = "model.safetensors") -> None:
    content = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n"
    write(folder, {name: content})


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:9000])


def as_bin(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    write(folder, {"pytorch_model.bin": content})


LFS = "a Git LFS pointer, not the file itself"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (pointer, f"tiny/model.safetensors: {LFS}"),
        (lambda folder: pointer(folder, "tokenizer.json"), f"tiny/tokenizer.json: {LFS}"),
        (lambda folder: pointer(folder, "config.json"), f"tiny/config.json: {LFS}"),
        (cut, "tiny/model.safetensors: a truncated file: it has 9000 bytes of at least "),
        (lambda folder: write(folder, {"model.safetensors": b""}), "tiny/model.safetensors: an empty file"),
        (
            lambda folder: write(folder, {"model.safetensors": b"\xff" * 99}),
            "tiny/model.safetensors: not a safetensors",
        ),
        (lambda folder: as_bin(folder, b""), "tiny/pytorch_model.bin: an empty file"),
        (lambda folder: as_bin(folder, b"PK\x03\x04" + b"x" * 99), "tiny: its weights cannot be loaded: "),
        (lambda folder: as_bin(folder, b"x" * 99), "tiny: its weights cannot be loaded: "),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "model.onnx"),
            "tiny: its weights cannot be loaded: Error no file named model.safetensors, or pytorch_model.bin, found",
        ),
    ],
)
def test_invalid_weights_files_are_errors(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, lbr: Program, chat_model: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    for path in chat_model.iterdir():
        write(tmp_path / "tiny", {path.name: path.read_bytes()})
    spoil(tmp_path / "tiny")
    ended = lbr("rerank", "-m", "tiny", "--family", "lb", stdin=LINE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0].startswith(f"lbr: {message}")
    assert "Traceback" not in ended.err


def test_every_truncated_safetensors_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3), "b": torch.ones(2, 2)}, path)
    check_files([path])
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(MissingError, match=r"truncated|empty|not a safetensors"):
            check_files([path])


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        (
            "sentence_bert_config.json",
            {"max_seq_length": "x"},
            '"max_seq_length" has to be an integer, this is a string',
        ),
        ("sentence_bert_config.json", {"max_seq_length": 0}, '"max_seq_length" has to be at least 1, this is 0'),
        ("sentence_bert_config.json", [], "a JSON object is needed, this is an array"),
        ("modules.json", {}, "a JSON array is needed, this is an object"),
        ("modules.json", [1], 'module 0: "type" and "path" have to be strings'),
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": 1}},
            '"prompts.query" has to be a string, this is an integer',
        ),
        (
            "1_Module/config.json",
            {"pooling_mode": 5},
            '"pooling_mode" has to be a string or an array of strings, this',
        ),
        ("tokenizer_config.json", {"model_max_length": "x"}, '"model_max_length" has to be a number, this is a string'),
        ("tokenizer_config.json", {"model_max_length": 0}, '"model_max_length" has to be at least 1, this is 0'),
    ],
)
def test_values_of_the_wrong_type_are_errors(file: str, value: Any, message: str, bi_encoder: Path) -> None:
    content = (bi_encoder / file).read_text()
    known = json.loads(content)
    write(
        bi_encoder, {file: json.dumps(known | value if isinstance(value, dict) and isinstance(known, dict) else value)}
    )
    try:
        with pytest.raises(MissingError) as error:
            scored(bi_encoder, "bi-encoder")
    finally:
        write(bi_encoder, {file: content})
    assert str(error.value).startswith(f"{bi_encoder / file}: {message}")


def scored(folder: Path, family: str | None) -> None:
    model = fetch(resolve(str(folder), family), RecordedProgress())
    engine = load(model, Settings("cpu", "float32"))
    answered(engine, ask(model.family, "ripe figs", "figs turn purple"))


@pytest.fixture(scope="module")
def bi_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folders") / "tiny"
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>")
    dense: dict[str, Any] = {"kind": "Dense", "in_features": 32, "out_features": 8, "bias": True}
    dense["activation_function"] = "torch.nn.modules.activation.Tanh"
    config = {"prompts": {"query": "q: "}, "similarity_fn_name": "dot", "truncate_dim": None, "model_type": None}
    pooling = {"kind": "Pooling", "pooling_mode": "mean", "include_prompt": True}
    return checkpoints.bi_encoder(folder, "Bert", tokenizer, pooling, dense, **config)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bi-encoder", "classifier", "lb"])
def test_any_value_of_any_key_is_read_or_refused(kind: str, bi_encoder: Path, chat_model: Path, tmp_path: Path) -> None:
    """Every key of every JSON file, with values of every type: exit code 2 at most, never a Python error."""
    if kind == "classifier":
        folder = encoder(tmp_path / "tiny")
    else:
        folder = Path(shutil.copytree(bi_encoder if kind == "bi-encoder" else chat_model, tmp_path / "tiny"))
    problems = []
    for path in sorted(folder.rglob("*.json")):
        content = path.read_text()
        whole = json.loads(content)
        if path.name == "tokenizer.json":
            continue
        for key in whole if isinstance(whole, dict) else range(len(whole)):
            for value in (True, -1, "x", [1]):
                changed = json.loads(content)
                changed[key] = value
                path.write_text(json.dumps(changed))
                try:
                    scored(folder, None if kind == "classifier" else kind)
                except LbrError as error:
                    if error.exit_code != 2:
                        problems.append((path.name, key, value, error))
                except Exception as error:
                    problems.append((path.name, key, value, error))
        path.write_text(content)
    assert problems == []


def test_a_special_token_of_the_prompt_without_an_embedding_is_refused(tmp_path: Path, lbr: Program) -> None:
    tokenizer = chat_tokenizer()
    checkpoints.causal(tmp_path / "tiny", "Qwen2", tokenizer)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>' + message", "<|user|>' + message")
    tokenizer.save_pretrained(tmp_path / "tiny")
    ended = lbr("rerank", "-m", "tiny", "--family", "lb", stdin=LINE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0] == (
        f"lbr: tiny: the tokenizer has the token '<|user|>' with the id {rows}, and the model has {rows} embeddings"
    )


def test_a_token_without_an_embedding_is_refused(chat_model: Path, tmp_path: Path, lbr: Program) -> None:
    (tmp_path / "tiny").mkdir()
    for path in chat_model.iterdir():
        write(tmp_path / "tiny", {path.name: path.read_bytes()})
    tokenizer = chat_tokenizer()
    rows = load_file(chat_model / "model.safetensors")["model.embed_tokens.weight"].shape[0]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|never|>"]})
    tokenizer.save_pretrained(tmp_path / "tiny")
    assert lbr("rerank", "-m", "tiny", "--family", "lb", stdin=LINE).code == 0  # the token occurs in no text
    tokenizer.add_tokens(["purple", "figs"])
    tokenizer.save_pretrained(tmp_path / "tiny")
    ended = lbr("rerank", "-m", "tiny", "--family", "lb", stdin=LINE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[0] == (
        f"lbr: tiny: the tokenizer has the token 'purple' with the id {rows + 1} and 1 others, and the model has "
        f"{rows} embeddings"
    )
