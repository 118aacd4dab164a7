"""LoRA adapters against peft's own models, which are not merged."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from lbr_cli.core import Answer, Document, Query
from lbr_cli.engines import Settings, prepare_engine
from lbr_cli.engines.local.loading import load_model
from lbr_cli.engines.token_prompts import TokenPrompts
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import Lb, Template
from lbr_cli.models import HubModel, LocalModel, fetch, find_local, resolve
from lbr_cli.models.digests import file_digests
from lbr_cli.scoring import Scorer
from support import checkpoints
from support.engines import load, local_scores
from support.files import write
from support.plain_loop import max_difference
from support.program import Program
from support.progress import RecordedProgress
from support.tokenizers import chat_tokenizer

# warnings of peft and transformers about each other
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("FutureWarning", "UserWarning")]
QUERIES = ("Ripe FIGS", "трамвай für Müller")
DOCUMENTS = ("x", "", "Figs turn purple.", "Москва, naïve écoute 🙂", "bread needs salt and figs turn purple " * 90)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
PROMPT = Template.parse('system = "Judge."\nuser = "{query} or {document}?"', "prompt.toml")
LENGTH = 400
CHOSEN: dict[str, dict[str, Any]] = {"next-token": {"prompt": PROMPT, "labels": ("1", "2")}}


def adapt(folder: Path, base: Path, model: Any, **config: Any) -> Path:
    """Save an adapter with random weights for a model that was loaded from the folder `base`."""
    torch.manual_seed(11)
    options = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, **config}
    adapted = get_peft_model(model, LoraConfig(**options))
    for name, weight in adapted.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            weight.data.normal_(0, 0.2)
        elif "magnitude" in name:
            weight.data.mul_(torch.rand_like(weight) + 0.5)
        elif "modules_to_save" in name:
            weight.data.normal_(0, 0.5)
    adapted.save_pretrained(folder)
    return set_base(folder, str(base))


def set_base(folder: Path, base: str, **more: Any) -> Path:
    """Change values of `adapter_config.json`."""
    config = json.loads((folder / "adapter_config.json").read_text())
    text = json.dumps(config | {"base_model_name_or_path": base} | more)
    return write(folder, {"adapter_config.json": text})


def causal(folder: Path, name: str = "Qwen2", base: dict[str, Any] | None = None, **config: Any) -> Path:
    """Save a causal model in `folder`/base and an adapter of it in `folder`/adapter."""
    path = checkpoints.causal(folder / "base", name, chat_tokenizer(checkpoints.TEXT), **base or {})
    model = transformers.AutoModelForCausalLM.from_pretrained(path)
    return adapt(folder / "adapter", path, model, **{"task_type": "CAUSAL_LM", **config})


def unmerged(folder: Path, kind: Any, base: Path, **options: Any) -> Any:
    """Return peft's own model."""
    return PeftModel.from_pretrained(kind.from_pretrained(base, **options), folder).eval()


@torch.inference_mode()
def next_token_scores(folder: Path, name: str, base: Path) -> list[float]:
    """Return scores from the logits of peft's model, one prompt at a time."""
    model = unmerged(folder, transformers.AutoModelForCausalLM, base)
    of_base = resolve(str(base), name, chosen=CHOSEN.get(name, {}))
    prompts = TokenPrompts(of_base, Settings("cpu", "float32", LENGTH), "reference")
    found = []
    for query in QUERIES:
        for text in DOCUMENTS:
            (request,) = of_base.family.requests(query, Document("d", text))
            values = model(torch.tensor([prompts.prompt(request).ids])).logits[0, -1].double().log_softmax(-1)
            answer = Answer([float(values[label]) for label in prompts.label_ids(request)])
            found.append(of_base.family.score([answer]).value)
    return found


def check_next_token(folder: Path, name: str) -> None:
    base = folder.parent / "base"
    expected = next_token_scores(folder, name, base)
    settings = Settings("cpu", "float32", LENGTH)
    model = resolve(str(folder), name, chosen=CHOSEN.get(name, {}))
    scorer = Scorer(model.family, prepare_engine("local", model, settings).load, RecordedProgress())
    documents = [Document(str(number), text) for number, text in enumerate(DOCUMENTS)]
    found = [score for query in QUERIES for score in scorer.score_query(Query(query, query), documents)]
    assert [score.value for score in found] == pytest.approx(expected, rel=2e-4, abs=1e-5)
    of_base = local_scores(base, name, "float32", QUERIES, DOCUMENTS, CHOSEN.get(name, {}))
    assert max_difference([score.value for score in of_base], expected) > 0.01
    assert [bool(score.details["truncated"]) for score in found] == [len(text) > 1000 for text in DOCUMENTS] * 2


@pytest.mark.parametrize(("name", "dora"), [("lb", False), ("qwen3", True), ("next-token", False)])
def test_next_token_scores_equal_those_of_peft(name: str, dora: bool, tmp_path: Path) -> None:
    check_next_token(causal(tmp_path, use_dora=dora), name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("Qwen3", {"use_dora": True}),
        ("Qwen2", {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}),
        ("Llama", {"target_modules": "all-linear", "bias": "all", "modules_to_save": ["lm_head"]}),
        ("Qwen2", {"target_modules": ["lm_head", "q_proj"], "base": {"tie_word_embeddings": True}}),
        ("Gemma", {"target_modules": ["q_proj", "embed_tokens"], "layers_to_transform": [1]}),
        ("Qwen2", {"trainable_token_indices": [5, 6, 70]}),
    ],
    ids=["dora", "patterns", "bias and head", "tied head", "embeddings", "tokens"],
)
def test_supported_adapter_settings_equal_peft(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    check_next_token(causal(tmp_path, name, **config), "lb")


def pair_scores(model: Any, tokenizer: Any) -> list[float]:
    """Return the logits of pairs, one at a time."""
    found = []
    for query in QUERIES:
        for text in DOCUMENTS:
            encoded = tokenizer(
                *([query], [text]), truncation="only_second", max_length=LENGTH, split_special_tokens=True
            )
            with torch.inference_mode():
                found.append(float(model(torch.tensor(encoded["input_ids"])).logits[0, 0]))
    return found


@pytest.mark.parametrize("name", ["Bert", "Llama"])
def test_classifier_heads_of_adapters_are_used(name: str, tmp_path: Path) -> None:
    """The base model has no head; the rows of the saved head are the labels."""
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>", model_max_length=LENGTH)
    kind = transformers.AutoModelForSequenceClassification
    options = {"num_labels": 1, "pad_token_id": None}
    if name == "Bert":
        config = transformers.BertConfig(**checkpoints.SIZES)
        base, targets = (
            checkpoints.saved(tmp_path / "base", "BertModel", config, tokenizer),
            ["query", "value", "dense"],
        )
    else:
        base, targets = checkpoints.causal(tmp_path / "base", name, tokenizer), LINEAR
    torch.manual_seed(3)
    model = kind.from_pretrained(base, **options)
    modules = ["classifier", "pooler"] if name == "Bert" else ["score"]
    targets_only = {"target_modules": targets, "exclude_modules": ".*pooler.*"}
    folder = adapt(tmp_path / "adapter", base, model, task_type="SEQ_CLS", modules_to_save=modules, **targets_only)
    expected = pair_scores(unmerged(folder, kind, base, **options), tokenizer)
    family = "classifier" if name == "Llama" else None  # a causal classifier without a prompt needs it
    found = local_scores(folder, family, "float32", QUERIES, DOCUMENTS)
    assert [score.value for score in found] == pytest.approx(expected, rel=2e-4, abs=1e-5)
    assert max(expected) - min(expected) > 0.1


def test_the_adapter_of_a_base_model_with_a_head(tmp_path: Path) -> None:
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>", model_max_length=LENGTH)
    base = checkpoints.classifier(tmp_path / "base", "Bert", tokenizer)
    kind = transformers.AutoModelForSequenceClassification
    folder = adapt(tmp_path / "adapter", base, kind.from_pretrained(base), target_modules=["query", "value"])
    expected = pair_scores(unmerged(folder, kind, base), tokenizer)
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
    assert [score.value for score in found] == pytest.approx(expected, rel=2e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["Bert", "Qwen3"])
def test_vectors_equal_those_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    """The adapter is in the folder of the Transformer module, without the files of a model.

    transformers 5.24 loads such a folder with peft 0.22 and later only, so peft attaches the adapter here.
    """
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>")
    config = getattr(transformers, f"{name}Config")(**checkpoints.SIZES)
    base = checkpoints.saved(tmp_path / "base", f"{name}Model", config, tokenizer)
    transformer = Transformer(str(base), max_seq_length=LENGTH)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    model = SentenceTransformer(modules=[transformer, pooling], device="cpu", prompts={"query": "Query: "})
    folder = tmp_path / "adapter"
    model.save(str(folder))
    for written in ("config.json", "model.safetensors"):
        (folder / written).unlink()
    targets = ["query", "value"] if name == "Bert" else LINEAR
    plain = transformers.AutoModel.from_pretrained(base)
    adapt(folder, base, plain, target_modules=targets, task_type="FEATURE_EXTRACTION")
    vars(transformer)["_modules"]["model"] = unmerged(folder, transformers.AutoModel, base)
    vectors = [model.encode_query(list(QUERIES)), model.encode_document(list(DOCUMENTS))]
    expected = [float(score) for row in model.similarity(*vectors) for score in row]
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
    assert [score.value for score in found] == pytest.approx(expected, rel=2e-4, abs=1e-5)


def test_weights_in_half_precision_equal_the_merge_of_peft(tmp_path: Path) -> None:
    folder = causal(tmp_path)
    model = resolve(str(folder), "lb")
    assert isinstance(model, LocalModel)
    kind = transformers.AutoModelForCausalLM
    loaded = load_model(kind, model, torch.device("cpu"), torch.bfloat16)
    base = kind.from_pretrained(tmp_path / "base", dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(base, folder).merge_and_unload()
    weights = dict(loaded.named_parameters())
    for name, weight in merged.named_parameters():
        assert weights[name].dtype == torch.bfloat16
        assert torch.equal(weights[name], weight)
    assert {type(module) for module in loaded.modules()} == {type(module) for module in base.modules()}
    assert load(model, Settings("cpu", "bfloat16")).attention.startswith("packed")


@pytest.mark.slow
def test_an_encoder_decoder_scores_like_its_merged_folder(tmp_path: Path) -> None:
    base = checkpoints.t5(tmp_path / "base")
    kind = transformers.AutoModelForSeq2SeqLM
    targets = {"target_modules": ["q", "v", "wo"], "task_type": "SEQ_2_SEQ_LM"}
    folder = adapt(tmp_path / "adapter", base, kind.from_pretrained(base), **targets)
    unmerged(folder, kind, base).merge_and_unload().save_pretrained(tmp_path / "merged")
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "merged")
    found, expected, of_base = (
        [score.value for score in local_scores(one, None, "float32", QUERIES, DOCUMENTS)]
        for one in (folder, tmp_path / "merged", base)
    )
    assert found == pytest.approx(expected, rel=2e-4)
    assert max_difference(found, of_base) > 0.01


@pytest.mark.slow
def test_adapter_weights_in_a_torch_file(tmp_path: Path) -> None:
    folder = causal(tmp_path)
    expected = local_scores(folder, "lb", "float32", QUERIES, DOCUMENTS)
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    assert local_scores(folder, "lb", "float32", QUERIES, DOCUMENTS) == expected


def test_the_path_of_a_base_model_is_relative_and_part_of_the_cache_key(tmp_path: Path) -> None:
    folder = set_base(causal(tmp_path), "../base")
    model = resolve(str(folder), "lb")
    assert isinstance(model, LocalModel)
    before = file_digests(model)
    assert {"adapter_model.safetensors", "adapter_config.json", "base/model.safetensors"} <= set(before)
    assert (model.name, model.label) == ("adapter", str(folder))
    weights = tmp_path / "base" / "config.json"
    weights.write_text(weights.read_text() + " ")
    assert {name for name, digest in file_digests(model).items() if before[name] != digest} == {"base/config.json"}


@pytest.mark.parametrize("base", ["lightblue/lb-reranker-0.5B-v1.0", "lb"])
def test_an_adapter_of_a_hub_model_is_resolved_without_a_download(base: str, tmp_path: Path) -> None:
    folder = set_base(causal(tmp_path), base, revision="v1")
    model = resolve(str(folder))
    assert isinstance(model, HubModel)
    assert (model.hub_id, model.revision, model.family) == ("lightblue/lb-reranker-0.5B-v1.0", "v1", Lb())
    assert (model.name, model.label, model.max_length) == ("adapter", str(folder), 8192)


def test_an_adapter_and_its_base_model_are_two_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapter and base model are two repositories in the cache of the hub."""
    folder = set_base(causal(tmp_path), "acme/base")
    for repository, source in (("acme--tuned", folder), ("acme--base", tmp_path / "base")):
        cached = tmp_path / "hub" / f"models--{repository}"
        shutil.copytree(source, cached / "snapshots" / "abc")
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for found in (find_local(resolve("acme/tuned", "lb")), fetch(resolve("acme/tuned", "lb"), RecordedProgress())):
        assert found is not None
        assert found.base is not None
        assert (found.label, found.commit, found.base.label, found.base.commit) == (
            "acme/tuned",
            "abc",
            "acme/base",
            "abc",
        )
        assert found.folder.parts[-3:] == ("models--acme--tuned", "snapshots", "abc")


@pytest.mark.slow
def test_manifest_and_doctor_name_the_base_model(tmp_path: Path, lbr: Program) -> None:
    set_base(causal(tmp_path), "../base")
    line = json.dumps({"query": "figs", "documents": ["ripe", "green"]}).encode()
    ended = lbr("rerank", "-m", "adapter", "--family", "lb", "--manifest", "m.json", "-o", "out.jsonl", stdin=line)
    assert ended.code == 0, ended.err
    model = json.loads((tmp_path / "m.json").read_text())["model"]
    assert model["base"] == {"name": str(tmp_path / "base"), "revision": None, "folder": str(tmp_path / "base")}
    assert set(model["weights"]) == {"adapter_model.safetensors", "base/model.safetensors"}
    ended = lbr("doctor", "-m", "adapter", "--family", "lb")
    assert (ended.code, "base model" in ended.out, "self-test" in ended.out) == (0, True, True), ended.err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"peft_type": "PROMPT_TUNING"},
            '"peft_type" is PROMPT_TUNING, which this version of lbr does not support: it merges adapters of the type '
            "LORA",
        ),
        ({"task_type": "TOKEN_CLS"}, '"task_type" is TOKEN_CLS, not a task of rerankers (CAUSAL_LM, SEQ_2_SEQ_LM, '),
        (
            {"init_lora_weights": "pissa"},
            "\"init_lora_weights\" is 'pissa': the weights of the base model were changed",
        ),
        (
            {"layer_replication": [[0, 2]]},
            '"layer_replication" is [[0, 2]], which this version of lbr does not support',
        ),
        ({"alora_invocation_tokens": [5]}, '"alora_invocation_tokens" is [5], which this version of lbr does not '),
        ({"base_model_name_or_path": None}, '"base_model_name_or_path" is missing'),
        (
            {"base_model_name_or_path": "/nowhere/base"},
            '"base_model_name_or_path" /nowhere/base: no such folder or GGUF file, and no alias or hub id',
        ),
        ({"base_model_name_or_path": "."}, '"base_model_name_or_path" is ., which is itself an adapter'),
        ({"target_modules": ["q_proj"]}, "the adapter has unknown weights of a Qwen2ForCausalLM: "),
        ({"target_modules": [*LINEAR, "gate_proj"]}, "the adapter lacks weights of a Qwen2ForCausalLM: "),
        ({"r": 5}, "the adapter cannot be merged into a Qwen2ForCausalLM: "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_adapters_that_are_not_merged_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = causal(tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    write(folder, {"adapter_config.json": json.dumps(config | changed)})
    with pytest.raises(MissingError) as error:
        local_scores(folder, "lb", "float32", QUERIES, DOCUMENTS)
    expected = f"{folder / 'adapter_config.json'}: {message}"
    assert str(error.value)[: len(expected)] == expected
    assert error.value.exit_code == 2


def test_folders_with_more_than_one_adapter_are_refused(tmp_path: Path) -> None:
    folder = causal(tmp_path)
    config = folder / "adapter_config.json"
    refused = {
        "other/adapter_config.json": f"{folder / 'other' / 'adapter_config.json'}: several adapters in {folder}, which",
        "model.safetensors": f"{config}: an adapter of {tmp_path / 'base'} beside the weights model.safetensors",
    }
    for name, message in refused.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        with pytest.raises(MissingError) as error:
            resolve(str(folder), "lb")
        assert str(error.value)[: len(message)] == message
        (folder / name).unlink()
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(MissingError, match="without its weights"):
        resolve(str(folder), "lb")


def test_quantized_base_models_are_refused(tmp_path: Path) -> None:
    folder = causal(tmp_path)
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(MissingError) as error:
        resolve(str(folder), "lb")
    assert str(error.value) == (
        f'{config}: "quantization_config" is set: an adapter is not merged into quantized weights'
    )
    assert "unquantized" in error.value.hint


def test_a_family_for_another_task_is_refused(tmp_path: Path) -> None:
    folder = causal(tmp_path, task_type="SEQ_CLS")
    with pytest.raises(UsageError) as error:
        resolve(str(folder), "lb")
    assert str(error.value) == f'--family lb: {folder / "adapter_config.json"}: "task_type" is SEQ_CLS'


def test_without_peft_an_adapter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = causal(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr("lbr_cli.engines.local.adapter.find_spec", lambda name: None if name == "peft" else found(name))
    with pytest.raises(MissingError) as error:
        load(resolve(str(folder), "lb"), Settings("cpu", "float32"))
    assert str(error.value) == f"{folder / 'adapter_config.json'}: peft is not installed"
    assert (error.value.hint, error.value.exit_code) == ("pip install 'lbr-cli[peft]'", 2)
