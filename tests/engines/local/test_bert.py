"""The architecture BERT without transformers' model code, against transformers' own classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel

from lbr_cli.core import Embedding, Pair
from lbr_cli.engines import Settings
from lbr_cli.engines.local.bert import Bert
from lbr_cli.engines.local.bert_loading import CLASSIFIER, ENCODER, load_bert
from lbr_cli.models import resolve
from support.engines import answered, load
from support.plain_loop import max_difference

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 9, 2, 7, 1], [4, 8, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
TYPES = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]])
KINDS = {ENCODER: BertModel, CLASSIFIER: BertForSequenceClassification}


def config(**more: Any) -> BertConfig:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    return BertConfig(**{"vocab_size": 40, "max_position_embeddings": 16, "initializer_range": 0.5, **sizes, **more})


def saved(folder: Path, kind: Callable[[BertConfig], Any] = BertModel, **more: Any) -> Any:
    """Save a model of random weights; return it."""
    torch.manual_seed(1)
    model = kind(config(**more)).eval()
    model.save_pretrained(folder)
    return model


def loaded(folder: Path, kind: str = ENCODER, dtype: torch.dtype = torch.float32) -> Any:
    return load_bert(kind, resolve(str(folder), "bi-encoder"), CPU, dtype)


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM, BertForSequenceClassification])
@pytest.mark.parametrize("mask", [MASK, torch.ones_like(MASK), None], ids=["padded", "whole", "no mask"])
@torch.inference_mode()
def test_hidden_states_equal_transformers(kind: Any, mask: torch.Tensor | None, tmp_path: Path) -> None:
    saved(tmp_path, kind)
    expected = BertModel.from_pretrained(tmp_path)(IDS, attention_mask=mask, token_type_ids=TYPES).last_hidden_state
    found = loaded(tmp_path)(IDS, mask, TYPES).last_hidden_state
    seen = (MASK if mask is not None else torch.ones_like(MASK)).bool()
    assert (found - expected)[seen].abs().max() < 1e-5


@pytest.mark.parametrize("labels", [1, 2])
@torch.inference_mode()
def test_logits_equal_transformers(labels: int, tmp_path: Path) -> None:
    own = saved(tmp_path, BertForSequenceClassification, num_labels=labels)
    expected = own(IDS, attention_mask=MASK, token_type_ids=TYPES).logits
    assert (loaded(tmp_path, CLASSIFIER)(IDS, MASK, TYPES).logits - expected).abs().max() < 1e-5


@torch.inference_mode()
def test_masked_tokens_have_the_hidden_states_of_transformers(tmp_path: Path) -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])
    own = saved(tmp_path)
    expected = own(IDS, attention_mask=mask, token_type_ids=TYPES).last_hidden_state
    found = loaded(tmp_path)(IDS, mask, TYPES, kept=MASK).last_hidden_state
    assert (found - expected)[MASK.bool()].abs().max() < 1e-5


@torch.inference_mode()
def test_padding_is_not_computed_and_the_last_layer_of_a_classifier_computes_first_tokens(tmp_path: Path) -> None:
    saved(tmp_path, BertForSequenceClassification, num_labels=1)
    model = loaded(tmp_path, CLASSIFIER)
    computed: list[int] = []
    for layer in model.bert.encoder.layer:
        layer.output.register_forward_hook(lambda _, inputs, output: computed.append(len(output)))
    model(IDS, MASK, TYPES)
    assert computed == [int(MASK.sum())] * 2 + [len(IDS)]


def test_weights_have_the_requested_precision(tmp_path: Path) -> None:
    saved(tmp_path)
    assert {parameter.dtype for parameter in loaded(tmp_path, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


@pytest.mark.parametrize(
    "more",
    [
        {"hidden_act": "relu"},
        {"hidden_act": "gelu_new"},
        {"is_decoder": True},
        {"position_embedding_type": "relative_key"},
        {"chunk_size_feed_forward": 2},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"auto_map": {"AutoModel": "code.Model"}},
        {"model_type": "roberta"},
        {"hidden_size": 64},
        {"vocab_size": 41},
        {"num_hidden_layers": 4},
        {"num_attention_heads": 5},
        {"a_key_of_the_future": 1},
    ],
    ids=lambda more: next(iter(more)),
)
def test_other_configurations_use_transformers(more: dict[str, Any], tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    model = resolve(str(tmp_path), "bi-encoder")
    assert load_bert(ENCODER, model, CPU, torch.float32) is None


def test_other_classes_use_transformers(tmp_path: Path) -> None:
    saved(tmp_path, BertForSequenceClassification)
    assert loaded(tmp_path, "AutoModelForCausalLM") is None


@pytest.mark.parametrize("change", ["missing", "shape", "both", "names of old versions", "no file"])
def test_other_weights_use_transformers(change: str, tmp_path: Path) -> None:
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = "encoder.layer.1.output.LayerNorm.weight"
    if change == "missing":
        del tensors[name]
    elif change == "shape":
        tensors[name] = tensors[name][:-1].clone()
    elif change == "both":
        tensors |= {f"bert.{key}": tensor.clone() for key, tensor in tensors.items()}
    elif change == "names of old versions":
        tensors = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for key, tensor in tensors.items()}
    save_file(tensors, path)
    if change == "no file":
        path.unlink()
    assert loaded(tmp_path) is None


def test_a_classifier_without_a_head_uses_transformers(tmp_path: Path) -> None:
    saved(tmp_path, BertModel)
    assert loaded(tmp_path, CLASSIFIER) is None


def test_values_are_copied_from_the_file(tmp_path: Path) -> None:
    own = saved(tmp_path)
    model = loaded(tmp_path)
    path = tmp_path / "model.safetensors"
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert torch.equal(model.get_input_embeddings().weight, own.get_input_embeddings().weight)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_vectors_equal_the_reference(dtype: str, minilm: Path) -> None:
    """`plain` is transformers' own code."""
    texts = [Embedding(text, "") for text in ("a", "Ripe figs turn purple. " * 8, "[CLS] salt [SEP]", "")]
    model = resolve(str(minilm), "bi-encoder")
    fast, plain = (load(model, Settings(dtype=dtype, plain=plain)) for plain in (False, True))
    assert type(fast.model) is Bert
    assert type(plain.model) is BertModel
    for one, other in zip(answered(fast, texts), answered(plain, texts), strict=True):
        assert max_difference(one.values, other.values) < (1e-5 if dtype == "float32" else 0.02)


def test_scores_of_a_cross_encoder_equal_the_reference(minilm: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    saved(tmp_path, BertForSequenceClassification, vocab_size=len(tokenizer), num_labels=1)
    model_config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(model_config | {"vocab_size": len(tokenizer)}))
    tokenizer.save_pretrained(tmp_path)
    pairs = [Pair("ripe figs", text) for text in ("", "x", "figs turn purple")]
    fast, plain = (load(resolve(str(tmp_path)), Settings(dtype="float32", plain=plain)) for plain in (False, True))
    assert fast.attention == "text by text, without padding"
    assert plain.attention == "padded batches of similar lengths, masked"
    for one, other in zip(answered(fast, pairs), answered(plain, pairs), strict=True):
        assert max_difference(one.values, other.values) < 1e-5
