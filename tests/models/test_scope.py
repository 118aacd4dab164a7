"""Models that lbr refuses: those that its transformers cannot load, and those that are out of scope."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from lbr_cli.errors import MissingError
from lbr_cli.models import resolve
from lbr_cli.models.known import NOT_LOADABLE
from lbr_cli.models.scope import OUT_OF_SCOPE
from support.files import write
from support.paths import ROOT
from support.program import Program

LISTWISE = "its score of a document depends on the other documents (listwise), and lbr scores each pair alone"
GENERATES = "it generates a reasoning text before its answer, and lbr reads a score from one forward pass"
IMAGES = "it is a model of images and text, and lbr reads text only"
HINT = "docs/models.md lists the models that are out of scope"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("jinaai/jina-reranker-v3", LISTWISE),
        ("ByteDance/ListConRanker", LISTWISE),
        ("castorini/rank_zephyr_7b_v1_full", LISTWISE),
        ("jhu-clsp/rank1-7b", GENERATES),
        ("Qwen/Qwen3-VL-Reranker-2B", IMAGES),
        ("jinaai/jina-reranker-m0", IMAGES),
    ],
)
@pytest.mark.parametrize("options", [[], ["--family", "next-token", "--trust-remote-code"]])
def test_hub_ids_out_of_scope_are_refused(name: str, reason: str, options: list[str], lbr: Program) -> None:
    line = json.dumps({"query": "a", "documents": ["b"]}).encode()
    ended = lbr("rerank", "--model", name, *options, stdin=line)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"lbr: --model {name}: not supported: {reason}\nlbr: hint: {HINT}\n"


@pytest.mark.parametrize("family", [None, "qwen3", "classifier"])
@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("JinaForRanking", LISTWISE),
        ("JinaVLForRanking", IMAGES),
        ("Qwen3VLForConditionalGeneration", IMAGES),
    ],
)
def test_folders_out_of_scope_are_refused(architecture: str, reason: str, family: str | None, tmp_path: Path) -> None:
    write(tmp_path, {"config.json": json.dumps({"architectures": [architecture]})})
    with pytest.raises(MissingError) as error:
        resolve(str(tmp_path), family)
    problem = f"is {architecture}, which is not supported: {reason}"
    assert str(error.value) == f'{tmp_path}/config.json: "architectures" {problem}'
    assert error.value.hint == HINT


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("BAAI/bge-reranker-v2-minicpm-layerwise", "it imports transformers.modeling_attn_mask_utils"),
        (
            "jinaai/jina-reranker-v2-base-multilingual",
            "it imports create_position_ids_from_input_ids from modeling_xlm_roberta",
        ),
        (
            "Alibaba-NLP/gte-multilingual-reranker-base",
            "its rotary tables are buffers that no file holds, which transformers 5 leaves uninitialised",
        ),
        (
            "jinaai/jina-colbert-v2",
            "its classes lack all_tied_weights_keys, which transformers 5 reads when it loads weights",
        ),
    ],
)
def test_models_whose_code_needs_an_older_transformers_are_refused(name: str, reason: str) -> None:
    with pytest.raises(MissingError) as error:
        resolve(name, trusted=True)
    assert str(error.value) == f"--model {name}: its own code needs a transformers before 5 ({reason})"


def test_the_function_that_jina_v2_imports_is_not_in_transformers() -> None:
    module = import_module("transformers.models.xlm_roberta.modeling_xlm_roberta")
    assert not hasattr(module, "create_position_ids_from_input_ids")


def test_transformers_needs_an_attribute_that_jina_colbert_v2_does_not_set(tmp_path: Path) -> None:
    class WithoutPostInit(transformers.BertPreTrainedModel):
        def __init__(self, config: transformers.BertConfig) -> None:
            super().__init__(config)
            self.linear = torch.nn.Linear(2, 2)

    config = transformers.BertConfig(vocab_size=8, hidden_size=2, num_hidden_layers=1, num_attention_heads=1)
    config.save_pretrained(tmp_path)
    save_file(WithoutPostInit(config).state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(AttributeError, match="all_tied_weights_keys"):
        WithoutPostInit.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["jina-v2", "gte-multilingual"])
def test_former_aliases_are_refused(name: str) -> None:
    with pytest.raises(MissingError, match="no alias or hub id"):
        resolve(name)


def test_the_documentation_names_every_refused_model() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert [name for name in (*OUT_OF_SCOPE, *NOT_LOADABLE) if name not in text] == []
