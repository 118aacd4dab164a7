"""Buffers of a model's own code that are in no weights file: their values are those of the constructor."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from lbr_cli.engines import Settings
from lbr_cli.engines.local.buffers import restore_buffers
from lbr_cli.errors import MissingError
from lbr_cli.models import resolve
from support import checkpoints
from support.engines import load, local_scores
from support.files import write

QUERIES = ("Ripe FIGS", "трамвай für Müller")
DOCUMENTS = ("x", "figs turn purple", "bread needs salt " * 4, "Lisbon trams use gauge. " * 90)
LENGTH = 256
CODE = """
import torch, transformers

class Config(transformers.PretrainedConfig):
    model_type = "tiny-rope"

class RopeModel(transformers.PreTrainedModel):
    config_class = Config
    base_model_prefix = "rope"

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(1000, 8)
        self.positions = torch.nn.Embedding(256, 8)
        self.query, self.key = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.norm = torch.nn.LayerNorm(8)
        self.register_buffer("position_ids", torch.arange(256).expand(1, -1), persistent=False)
        angles = torch.outer(torch.arange(256.0), 100 ** (-torch.arange(0, 8, 2) / 8)).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def rotated(self, states):
        first, second = states.chunk(2, -1)
        count = states.shape[1]
        return states * self.cos[:count] + torch.cat([-second, first], -1) * self.sin[:count]

    def forward(self, input_ids, attention_mask=None):
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.embed(input_ids) + self.positions(self.position_ids[:, : input_ids.shape[1]])
        products = self.rotated(self.query(hidden)) @ self.rotated(self.key(hidden)).transpose(1, 2)
        products = products.masked_fill(attention_mask[:, None] == 0, torch.finfo(products.dtype).min)
        hidden = self.norm(hidden + products.softmax(-1) @ hidden)
        return transformers.modeling_outputs.BaseModelOutput(last_hidden_state=hidden)

class RopeForSequenceClassification(transformers.PreTrainedModel):
    config_class = Config
    base_model_prefix = "rope"

    def __init__(self, config):
        super().__init__(config)
        self.rope = RopeModel(config)
        self.classifier = torch.nn.Linear(8, 1)
        self.post_init()

    def get_input_embeddings(self):
        return self.rope.embed

    def forward(self, input_ids, attention_mask=None):
        hidden = self.rope(input_ids, attention_mask).last_hidden_state
        return transformers.modeling_outputs.SequenceClassifierOutput(logits=self.classifier(hidden[:, 0]))
"""


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove modules that transformers imported: it copies and caches code by the name of the model's folder."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("transformers_modules"):
            del sys.modules[name]


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the classes of `CODE`."""
    module = types.ModuleType("code_of_rope")
    monkeypatch.setitem(sys.modules, "code_of_rope", module)
    exec(CODE, vars(module))
    return module


def saved(folder: Path, code: Any, kind: str, changed: str = CODE) -> Path:
    """Save a model with random weights, and `changed` as its code."""
    torch.manual_seed(5)
    model = getattr(code, kind)(code.Config(num_labels=1))
    for weight in model.parameters():
        weight.data.normal_(0, 0.7)
    model.save_pretrained(folder)
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>", model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {
        "AutoConfig": "code_of_rope.Config",
        "AutoModel": "code_of_rope.RopeModel",
        "AutoModelForSequenceClassification": "code_of_rope.RopeForSequenceClassification",
    }
    return write(folder, {"config.json": json.dumps(config), "code_of_rope.py": changed})


def constructed(folder: Path, code: Any, kind: str) -> Any:
    """Return the model, constructed by its own code, with the weights of the folder."""
    model = getattr(code, kind)(code.Config(num_labels=1))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def ids(*texts: str) -> torch.Tensor:
    tokenizer = checkpoints.bytes_tokenizer(framed=True)
    cut = "only_second" if texts[1:] else "longest_first"
    lists = tokenizer(*[[text] for text in texts], truncation=cut, max_length=LENGTH, split_special_tokens=True)
    return torch.tensor(lists["input_ids"])


@torch.inference_mode()
def test_logits_of_a_classifier_equal_those_of_its_own_code(tmp_path: Path, code: Any) -> None:
    folder = saved(tmp_path / "rope", code, "RopeForSequenceClassification")
    model = constructed(folder, code, "RopeForSequenceClassification")
    expected = [float(model(ids(query, text)).logits) for query in QUERIES for text in DOCUMENTS]
    found = local_scores(folder, "classifier", "float32", QUERIES, DOCUMENTS, trusted=True)
    assert [score.value for score in found] == pytest.approx(expected, rel=2e-4)
    assert max(expected) - min(expected) > 0.1


@torch.inference_mode()
def test_vectors_of_a_bi_encoder_equal_those_of_its_own_code(tmp_path: Path, code: Any) -> None:
    folder = saved(tmp_path / "rope", code, "RopeModel")
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": path}
        for kind, path in (("Transformer", ""), ("Pooling", "p"))
    ]
    write(folder, {"modules.json": json.dumps(modules), "sentence_bert_config.json": "{}"})
    (folder / "p").mkdir()
    write(folder / "p", {"config.json": json.dumps({"pooling_mode": "mean"})})
    model = constructed(folder, code, "RopeModel")
    vectors = {text: model(ids(text)).last_hidden_state.mean(1)[0] for text in QUERIES + DOCUMENTS}
    pairs = [(vectors[query], vectors[text]) for query in QUERIES for text in DOCUMENTS]
    expected = [float(torch.nn.functional.cosine_similarity(*pair, dim=0)) for pair in pairs]
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS, trusted=True)
    assert [score.value for score in found] == pytest.approx(expected, rel=2e-4)
    assert max(expected) - min(expected) > 0.05


COS = 'self.register_buffer("cos", angles.cos(), persistent=False)'
REMEDY = "register the buffer with persistent=True in this code, and save the model again"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'self.register_buffer("cos", torch.rand(256, 8), persistent=False)',
            "RopeModel: the buffer rope.cos is in no weights file (persistent=False), and two constructions of the "
            "class give different values",
        ),
        (
            'self.register_buffer("cos", torch.ones(9 if angles.is_meta else 7, 8), persistent=False)',
            "RopeModel: the buffer rope.cos is in no weights file (persistent=False), and its shape differs: "
            "[7, 8] in a new model, [9, 8] in the loaded one",
        ),
        (
            'self.register_buffer("cos", self.positions.weight.detach().cos(), persistent=False)',
            "RopeModel: the buffer rope.cos is in no weights file (persistent=False), and is computed from weights, "
            "which are not loaded at that time",
        ),
        (
            'self.register_buffer("cos" if angles.is_meta else "c", angles.cos(), persistent=False)',
            "RopeModel: the buffer rope.cos is in no weights file (persistent=False), and is not registered by the "
            "constructor",
        ),
        (
            f"{COS}\n        assert angles.is_meta, 'no room'",
            "RopeForSequenceClassification: its buffers are in no file (rope.cos, rope.position_ids, rope.sin), and "
            "its constructor fails: no room",
        ),
    ],
)
def test_buffers_without_defined_values_are_refused(line: str, message: str, tmp_path: Path, code: Any) -> None:
    folder = saved(tmp_path / "rope", code, "RopeForSequenceClassification", CODE.replace(COS, line))
    with pytest.raises(MissingError) as error:
        load(resolve(str(folder), "classifier", trusted=True), Settings("cpu", "float32"))
    assert (str(error.value), error.value.hint) == (f"{folder / 'code_of_rope.py'}: {message}", REMEDY)
    assert error.value.exit_code == 2


def test_buffers_of_transformers_own_classes_are_compared(tmp_path: Path) -> None:
    folder = checkpoints.causal(tmp_path / "tiny", "Qwen3")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    buffers = dict(loaded.named_buffers())
    restore_buffers(loaded, resolve(str(folder), "lb"))
    right = buffers["model.rotary_emb.inv_freq"].clone()
    assert loaded.model.rotary_emb.inv_freq is buffers["model.rotary_emb.inv_freq"]
    loaded.model.rotary_emb.inv_freq.fill_(7)
    restore_buffers(loaded, resolve(str(folder), "lb"))
    assert torch.equal(loaded.model.rotary_emb.inv_freq, right)


def test_parameters_are_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new model has no weights, and later models are constructed as before."""
    folder = checkpoints.causal(tmp_path / "tiny", "Qwen3")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder)
    constructed = []
    init = type(loaded).__init__
    monkeypatch.setattr(
        type(loaded), "__init__", lambda self, config: (init(self, config), constructed.append(self))[0]
    )
    restore_buffers(loaded, resolve(str(folder), "lb"))
    assert {parameter.device.type for parameter in constructed[0].parameters()} == {"meta"}
    assert torch.nn.Linear(2, 2).weight.device.type == "cpu"


def test_tables_in_bfloat16(tmp_path: Path, code: Any) -> None:
    folder = saved(tmp_path / "rope", code, "RopeForSequenceClassification")
    exact = local_scores(folder, "classifier", "float32", QUERIES, DOCUMENTS, trusted=True)
    half = local_scores(folder, "classifier", "bfloat16", QUERIES, DOCUMENTS, trusted=True)
    assert [score.value for score in half] == pytest.approx([score.value for score in exact], abs=0.05)
