"""The family that is detected for each model, and the models that are refused."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MPNetConfig,
    MptConfig,
    OPTConfig,
    PhiConfig,
    Qwen3Config,
    RecurrentGemmaConfig,
    XLNetConfig,
)

from lbr_cli.core import Pair
from lbr_cli.engines import UNLIMITED, Settings
from lbr_cli.engines.local.head import LMHead
from lbr_cli.engines.pretrained import longest_input
from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import BiEncoder, Classifier, MonoT5, Qwen3
from lbr_cli.families.monot5 import SIM_NAO, YES_NO
from lbr_cli.models import ALIASES, HubModel, fetch, resolve
from lbr_cli.models.folder import family_of
from lbr_cli.models.known import KNOWN
from lbr_cli.progress import Console
from support import checkpoints
from support.engines import answered, load
from support.files import write
from support.plain_loop import engine, max_difference, plain_scores, scores
from support.program import Program
from support.tokenizers import chat_tokenizer

FAMILY_HINT = (
    "name it with --family: lb, lb-rev, qwen3, mxbai-v2, bge-gemma, zerank, ctxl, logit-score, next-token, classifier, "
    "monot5, bi-encoder, late-interaction"
)
OTHER_FAMILY_HINT = FAMILY_HINT.replace("name it with --family:", "try another --family:")
ROWS = [list(range(1, 9)), list(range(1, 6))]  # made-up prompts
LINE = json.dumps({"query_id": "1", "doc_id": "d", "query": "ripe figs", "text": "figs turn purple"}).encode()


def detected(folder: Path, **config: Any) -> object:
    """Return the family that is detected for a folder with this configuration."""
    write(folder, {"config.json": json.dumps(config)})
    return family_of(folder, "")


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}, Classifier()),
        ({"architectures": ["BertForSequenceClassification"]}, Classifier()),
        ({"architectures": ["NewForSequenceClassification"], "num_labels": 1}, Classifier()),
        ({"architectures": ["T5ForConditionalGeneration"], "model_type": "t5"}, MonoT5()),
        ({"architectures": ["MT5ForConditionalGeneration"], "model_type": "mt5"}, MonoT5(YES_NO)),
    ],
)
def test_families_are_detected_from_files(config: dict[str, Any], family: object, tmp_path: Path) -> None:
    assert detected(tmp_path, **config) == family


def test_modules_distinguish_bi_encoders_from_cross_encoders(tmp_path: Path) -> None:
    modules = [
        {"type": f"sentence_transformers.models.{name}", "path": path}
        for name, path in (("Transformer", ""), ("Pooling", "1_Pooling"))
    ]
    write(tmp_path, {"modules.json": json.dumps(modules[:1])})
    cross = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}
    assert detected(tmp_path, **cross) == Classifier()
    write(tmp_path, {"modules.json": json.dumps(modules)})
    assert detected(tmp_path, **cross) == BiEncoder()


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "Qwen2ForCausalLM"),
        ({"architectures": ["BartForConditionalGeneration"]}, "BartForConditionalGeneration"),
        ({}, "none named"),
    ],
)  # fmt: skip
def test_files_without_a_family_are_errors(config: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        detected(tmp_path, **config)
    assert str(error.value) == f"{tmp_path}: its files do not name its family (architecture: {what})"
    assert error.value.hint == FAMILY_HINT


def test_known_hub_ids_have_their_family() -> None:
    assert resolve("Qwen/Qwen3-Reranker-4B").family == Qwen3()
    assert resolve("unicamp-dl/mt5-base-mmarco-v1").family == MonoT5(YES_NO)
    assert resolve("unicamp-dl/ptt5-base-pt-msmarco-100k-v2").family == MonoT5(SIM_NAO)
    assert resolve("some/reranker").family is None
    with pytest.raises(MissingError, match="layerwise: its own code needs a transformers before 5"):
        resolve("BAAI/bge-reranker-v2-minicpm-layerwise")
    assert len({known.name for known in KNOWN}) == len({known.hub_id for known in KNOWN}) == len(ALIASES)


def test_options_set_the_fields_of_a_family() -> None:
    assert resolve("qwen3-0.6b", chosen={"instruction": "Find code"}).family == Qwen3("Find code")
    assert resolve("monot5-base", chosen={"labels": ("a", "b")}).family == MonoT5(("a", "b"))
    with pytest.raises(UsageError, match="--instruction has no effect: lb is of the family lb"):
        resolve("lb", chosen={"instruction": "Find code"})
    with pytest.raises(UsageError, match="--family next-token needs --prompt-file and --labels"):
        resolve("some/model", "next-token")
    with pytest.raises(UsageError, match="--family next-token needs --prompt-file"):
        resolve("some/model", "next-token", chosen={"labels": ("a", "b")})
    later = resolve("some/model", chosen={"instruction": "Find code"})
    assert isinstance(later, HubModel)
    assert (later.family, later.options) == (None, {"instruction": "Find code"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "yes"], "lbr: --labels yes: needs two labels and one comma, the one for relevant first"),
        (["--labels", "yes,yes"], "lbr: --labels yes,yes: needs two labels and one comma, the one for relevant first"),
        (["--labels", "a,b,c"], "lbr: --labels a,b,c: needs two labels and one comma, the one for relevant first"),
        (["--prompt-file", "nowhere.toml"], "lbr: nowhere.toml: cannot be read: No such file or directory"),
        (["--prompt-file", "latin.toml"], "lbr: latin.toml: is not UTF-8"),
        (["--prompt-file", "p.toml"], "lbr: p.toml: {query} is missing in the prompt"),
        (["--query-prompt", "q: "], "lbr: --query-prompt has no effect: lb is of the family lb"),
        (["--engine", "overlap", "--labels", "a,b"], "lbr: --labels has no effect: --engine overlap uses no model"),
        (["--model", "model.gguf"], "lbr: --model model.gguf: no such folder or GGUF file, and no alias or hub id"),
    ],
)
def test_invalid_options_are_errors(options: list[str], message: str, tmp_path: Path, lbr: Program) -> None:
    write(tmp_path, {"latin.toml": b'user = "\xe9"', "p.toml": 'user = "{document}"'})
    ended = lbr("rerank", *options, stdin=LINE)
    assert (ended.code, ended.out, ended.err.splitlines()[0]) == (2, "", message)


def test_doctor_refuses_model_options_without_a_model(lbr: Program) -> None:
    ended = lbr("doctor", "--labels", "a,b")
    assert (ended.code, ended.err) == (2, "lbr: --labels has no effect: there is no --model\n")


def test_a_prompt_file_is_used(tmp_path: Path, lbr: Program) -> None:
    folder = checkpoints.causal(tmp_path / "tiny", "Qwen2", chat_tokenizer(checkpoints.TEXT))
    write(tmp_path, {"prompt.toml": 'system = "Be brief."\nuser = "{document}\\nabout {query}?"\n'})
    options = ["--family", "next-token", "--prompt-file", "prompt.toml", "--labels", "yes,no", "--dtype", "float32"]
    ended = lbr("rerank", "-m", "tiny", *options, "--explain", stdin=LINE)
    (record,) = ended.records
    tokenizer, model = chat_tokenizer(checkpoints.TEXT), AutoModelForCausalLM.from_pretrained(folder)
    text = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nfigs turn purple\nabout ripe figs?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    with torch.inference_mode():
        logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1].log_softmax(-1)
    yes, no = (float(logits[tokenizer.convert_tokens_to_ids(label)]) for label in ("yes", "no"))
    assert record["score"] == pytest.approx(yes - no, abs=1e-4)
    assert list(record)[-3:] == ["probability", "mass", "truncated"]
    assert "lbr: warning: 1 of 1 pairs: 'yes' and 'no' have less than half of the probability" in ended.err
    wrong = lbr("rerank", "-m", "tiny", *options, "--labels", "relevant,not", stdin=LINE)
    assert (wrong.code, wrong.err.splitlines()[-1]) == (
        2,
        "lbr: tiny: its tokenizer has no single token for the label 'relevant'",
    )


CODE = """
import torch, transformers

class Config(transformers.PretrainedConfig):
    model_type = "tiny-mine"

class MineForSequenceClassification(transformers.PreTrainedModel):
    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(1000, 8)
        self.classifier = torch.nn.Linear(8, 1)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, attention_mask):
        mask = attention_mask[..., None].to(self.embed.weight.dtype)
        hidden = (torch.nn.functional.embedding(input_ids, self.embed.weight) * mask).sum(1) / mask.sum(1)
        return transformers.modeling_outputs.SequenceClassifierOutput(logits=self.classifier(hidden))
"""


@pytest.fixture
def with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a classifier that comes with code of its own, which leaves a file where it runs."""
    folder = tmp_path / "mine"
    module = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    exec(CODE, vars(module))
    torch.manual_seed(2)
    module.MineForSequenceClassification(module.Config(num_labels=1)).save_pretrained(folder)
    checkpoints.bytes_tokenizer().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "Config", "AutoModelForSequenceClassification": "MineForSequenceClassification"}
    config["auto_map"] = {auto: f"code_of_mine.{name}" for auto, name in classes.items()}
    write(folder, {"config.json": json.dumps(config), "code_of_mine.py": "open('ran', 'w').close()\n" + CODE})
    return folder


def own_score(folder: Path) -> float:
    """Return the score that the code of `with_code` computes for "ripe figs" and "figs turn purple"."""
    tensors = load_file(folder / "model.safetensors")
    ids = checkpoints.bytes_tokenizer()("ripe figs", "figs turn purple")["input_ids"]
    mean = tensors["embed.weight"][ids].mean(0)
    return float(mean @ tensors["classifier.weight"][0] + tensors["classifier.bias"])


def test_code_of_a_model_runs_if_it_is_trusted(with_code: Path, tmp_path: Path, lbr: Program) -> None:
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules")}
    ended = lbr("rerank", "-m", "mine", stdin=LINE, env=environment)
    assert (ended.code, ended.out, (tmp_path / "ran").exists()) == (2, "", False)
    assert ended.err.splitlines()[-1] == (
        "lbr: hint: the model comes with its own code: read that code, then run it with --trust-remote-code"
    )
    ended = lbr("rerank", "-m", "mine", "--trust-remote-code", "--dtype", "float32", stdin=LINE, env=environment)
    assert (ended.code, (tmp_path / "ran").exists()) == (0, True), ended.err
    assert ended.records[0]["score"] == pytest.approx(own_score(with_code), abs=1e-5)


def test_code_of_a_model_computes_in_bfloat16(with_code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    model = resolve(str(with_code), trusted=True)
    (answer,) = answered(load(model, Settings("cpu", "bfloat16")), [Pair("ripe figs", "figs turn purple")])
    assert answer.values[0] == pytest.approx(own_score(with_code), abs=0.02)


def test_a_missing_head_is_refused(tmp_path: Path, lbr: Program) -> None:
    checkpoints.causal(tmp_path / "tiny", "Qwen2")
    ended = lbr("rerank", "-m", "tiny", "--family", "classifier", stdin=LINE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "lbr: tiny: missing weights of a Qwen2ForSequenceClassification: score.weight",
        f"lbr: hint: {OTHER_FAMILY_HINT}",
    ]


def test_three_labels_are_refused(tmp_path: Path, lbr: Program) -> None:
    checkpoints.classifier(tmp_path / "tiny", "Bert", checkpoints.bytes_tokenizer(), 3)
    for family in ([], ["--family", "classifier"]):
        ended = lbr("rerank", "-m", "tiny", *family, stdin=LINE)
        assert (ended.code, ended.out) == (2, "")
        message = "lbr: tiny: a BertForSequenceClassification with 3 labels; lbr reads one or two"
        assert ended.err.splitlines()[0] == message


@pytest.mark.parametrize("quantised", [False, True])
def test_gguf_files_are_read(quantised: bool, tmp_path: Path, lbr: Program, chat_model: Path) -> None:
    path = checkpoints.gguf(chat_model, tmp_path / "tiny.gguf", quantised)
    with pytest.raises(UsageError, match=r"tiny\.gguf: a GGUF file does not name its family") as error:
        resolve(str(path))
    assert error.value.hint == FAMILY_HINT
    plain = tmp_path / "plain"  # a folder with the weights of the file
    model = AutoModelForCausalLM.from_pretrained(chat_model)
    held = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    model.load_state_dict(held.state_dict())
    model.save_pretrained(plain)
    AutoTokenizer.from_pretrained(chat_model).save_pretrained(plain)
    expected = plain_scores(plain, torch.float32)
    assert max_difference(scores(engine(path, dtype="float32")), expected) < 1e-5
    assert (max_difference(expected, plain_scores(chat_model, torch.float32)) > 1e-5) is quantised
    ended = lbr("rerank", "-m", "tiny.gguf", "--family", "lb", "--dtype", "float32", "--no-progress", stdin=LINE)
    assert (ended.code, len(ended.records)) == (0, 1)
    assert len(ended.err.splitlines()) == 2
    assert ended.err.splitlines()[-1].endswith(" with tiny (cpu, float32)")


def test_gguf_tokenizers_apply_unicode_normalization(tmp_path: Path, chat_model: Path) -> None:
    path = checkpoints.gguf(chat_model, tmp_path / "tiny.gguf")
    expected = plain_scores(chat_model, torch.float32, [("e\u0301", "e\u0301coute")])
    assert max_difference(scores(engine(path, dtype="float32"), [("e\u0301", "e\u0301coute")]), expected) < 1e-5


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, lbr: Program) -> None:
    folder = checkpoints.classifier(tmp_path / "tiny", "Bert", checkpoints.bytes_tokenizer())
    for file in folder.glob("tokenizer*"):
        file.unlink()
    ended = lbr("rerank", "-m", "tiny", stdin=LINE)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "lbr: tiny: tokenizer not found (none of tokenizer.json, vocab.txt)\n"


@pytest.mark.parametrize(
    ("family", "what"),
    [
        ("mxbai-v2", "a BertForSequenceClassification, which has no vocabulary to answer with"),
        ("monot5", "a BertForCausalLM, which is not a T5"),
    ],
)
def test_a_family_for_another_architecture_is_refused(family: str, what: str, tmp_path: Path) -> None:
    write(tmp_path, {"config.json": json.dumps({"architectures": [what.split(",")[0].removeprefix("a ")]})})
    with pytest.raises(UsageError) as error:
        fetch(resolve(str(tmp_path), family), Console(bar=False, quiet=True))
    assert str(error.value) == f"--family {family}: {tmp_path} is {what}"
    assert error.value.hint == OTHER_FAMILY_HINT


@pytest.mark.parametrize(
    "config",
    [
        GraniteConfig(**checkpoints.SIZES, logits_scaling=4.0),
        CohereConfig(**checkpoints.SIZES, logit_scale=0.25),
        RecurrentGemmaConfig(
            **checkpoints.SIZES | {"num_hidden_layers": 3}, logits_soft_cap=30.0, lru_width=32, attention_window_size=64
        ),
        BertConfig(**checkpoints.SIZES, is_decoder=True),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_that_is_not_linear_is_refused(config: Any, dtype: torch.dtype) -> None:
    config.vocab_size = 300
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with pytest.raises(MissingError, match="computes its logits in an unknown way"):
        LMHead(model, ROWS)


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**checkpoints.SIZES),
        LlamaConfig(**checkpoints.SIZES, tie_word_embeddings=True),
        GPT2Config(n_embd=32, n_layer=1, n_head=4),
        Qwen3Config(**checkpoints.SIZES),
        PhiConfig(**checkpoints.SIZES),  # the head has a bias
        OPTConfig(hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=32),
        BloomConfig(hidden_size=32, n_layer=2, n_head=4),
        MptConfig(d_model=32, n_heads=4, n_layers=2),
        GPTNeoXConfig(**checkpoints.SIZES),
        MambaConfig(hidden_size=32, num_hidden_layers=2),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_heads_equal_those_of_the_model(config: Any, dtype: torch.dtype) -> None:
    config.vocab_size = 300
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        hidden = model.base_model(ids).last_hidden_state[0].float()
        theirs = model(ids).logits[0].float().log_softmax(-1)[:, [3, 7]]
        logits, normaliser = LMHead(model, ROWS)(hidden, [3, 7])
    assert (logits - normaliser - theirs).abs().max() < (1e-4 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_classifier_that_attends_to_padding_is_refused(dtype: str, tmp_path: Path, lbr: Program) -> None:
    config = XLNetConfig(d_model=32, n_head=4, n_layer=2, d_inner=64, num_labels=1, initializer_range=0.5)
    tokenizer = checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>")
    checkpoints.saved(tmp_path / "tiny", "XLNetForSequenceClassification", config, tokenizer)
    ended = lbr("rerank", "-m", "tiny", "--dtype", dtype, stdin=LINE)
    assert (ended.code, ended.out) == (2, "")
    reads = "lbr: unsupported model: the scores of a XLNetForSequenceClassification depend on padding\n"
    # on processors with bfloat16 arithmetic, XLNet's own code fails first, because it mixes precisions
    problem = "fails on a prompt: expected scalar type Float but found BFloat16\nlbr: hint: try --dtype float32\n"
    fails = f"lbr: unsupported model: a XLNetForSequenceClassification {problem}"
    assert ended.err in ((reads, fails) if dtype == "bfloat16" else (reads,))


def test_the_maximum_length_is_that_of_positions_and_tokenizer() -> None:
    tokenizer = checkpoints.bytes_tokenizer()
    assert longest_input(tokenizer, XLNetConfig(d_model=8, n_head=1)) == UNLIMITED
    assert longest_input(tokenizer, LlamaConfig(max_position_embeddings=77)) == 77
    assert longest_input(tokenizer, MPNetConfig(max_position_embeddings=77, pad_token_id=1)) == 75
    assert longest_input(tokenizer, MPNetConfig(max_position_embeddings=77, pad_token_id=None)) == 76
    tokenizer.model_max_length = 50
    assert longest_input(tokenizer, LlamaConfig(max_position_embeddings=77)) == 50


@pytest.mark.parametrize("name", ["Bert", "Qwen2"])
def test_two_empty_texts_without_tokens_have_a_score(name: str, tmp_path: Path, lbr: Program) -> None:
    checkpoints.classifier(tmp_path / "tiny", name, checkpoints.bytes_tokenizer())
    lines = ['{"query": "", "documents": [""]}', '{"query": "", "documents": ["", "figs"]}']
    ended = lbr("rerank", "-m", "tiny", "--family", "classifier", stdin="\n".join(lines).encode())
    assert ended.code == 0, ended.err
    empty = [record["score"] for record in ended.records if not record["text"]]
    assert empty[0] == pytest.approx(empty[1], abs=1e-5)
