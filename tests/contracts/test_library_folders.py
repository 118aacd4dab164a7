"""Cross-encoder folders that sentence-transformers writes: scores against its own `predict`, without an activation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling

from lbr_cli.errors import MissingError, UsageError
from lbr_cli.families import Template
from support import checkpoints
from support.engines import local_scores
from support.tokenizers import CHAT_TEMPLATE

LIMIT = 300
QUERIES = ("ripe figs", "трамвай Naïve", "  日本 Bread ")
DOCUMENTS = (
    "x",
    "Lisbon trams use gauge.",
    "Ripe FIGS turn purple. " * 5,
    "Москва, naïve écoute Über",
    "  blanks  ",
    "bread needs salt and figs turn purple " * 90,  # over the limit
)
QUERY = "{{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}"
DOCUMENT = QUERY.replace("query", "document")
SYSTEM = (
    "{% if messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
    "<|im_start|>user\n"
)
END = "<|im_end|>\n<|im_start|>assistant\n"
PAIR = f"{SYSTEM}<Query>: {QUERY}\n<Document>: {DOCUMENT}{END}"
TRIMMED = PAIR.replace("| first }}", "| first | trim }}")
SPLIT = f"<|im_start|>system\n{QUERY}<|im_end|>\n<|im_start|>user\n{DOCUMENT}{END}"
DOCUMENT_FIRST = f"<|im_start|>user\n<Document>: {DOCUMENT}\n<Query>: {QUERY} ??{END}"
PARTS = PAIR.replace("| first }}", "| map('first') | map(attribute='text') | first }}").replace(
    "messages[0].content }}", "messages[0].content[0].text }}"
)
PROMPT: dict[str, Any] = {"prompts": {"web": "Judge the pair. "}, "default_prompt_name": "web"}
IDENTITY = torch.nn.Identity()


def tokenizer(template: str | None = None, *, framed: bool = False) -> Any:
    made = checkpoints.bytes_tokenizer(framed=framed, pad_token="<|endoftext|>", model_max_length=LIMIT)
    made.chat_template = template
    return made


def written(folder: Path, *modules: Any, **options: Any) -> Path:
    CrossEncoder(modules=list(modules), device="cpu", **options).save_pretrained(str(folder / "written"))
    return folder / "written"


def logit_score(
    folder: Path, template: str, *tokens: int, kind: str = "Qwen3", transformer: Any = None, **more: Any
) -> Path:
    checkpoints.causal(folder / "base", kind, tokenizer(template))
    first = Transformer(str(folder / "base"), transformer_task="text-generation", **transformer or {})
    return written(folder, first, LogitScore(*tokens), **more)


def pooled(folder: Path, kind: str, mode: str, *modules: Any, framed: bool = True) -> Path:
    config = getattr(transformers, f"{kind}Config")(**checkpoints.SIZES)
    checkpoints.saved(folder / "base", f"{kind}Model", config, tokenizer(framed=framed))
    torch.manual_seed(3)
    for module in modules:
        for weight in module.parameters():
            weight.data.normal_(0, 0.5)
    return written(folder, Transformer(str(folder / "base")), Pooling(32, pooling_mode=mode), *modules)


def plain(folder: Path, kind: str, template: str | None, **more: Any) -> Path:
    own = tokenizer(template, framed=kind == "Bert")
    return checkpoints.classifier(folder / "base", kind, own, pad_token_id=own.pad_token_id, **more)


def classifier(folder: Path, kind: str, template: str | None, **more: Any) -> Path:
    base = plain(folder, kind, template)
    return written(folder, Transformer(str(base), transformer_task="sequence-classification"), **more)


def scores(size: int, **more: Any) -> Dense:
    return Dense(size, 1, module_output_name="scores", **more)


def in_subfolder(folder: Path) -> Path:
    """Move the first module out of the root, where older versions did not write it."""
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


GENERATION = {"processing_kwargs": {"chat_template": {"add_generation_prompt": True}}}
FOLDERS: dict[str, Callable[[Path], Path]] = {
    "ettin": lambda folder: pooled(
        *(folder, "Bert", "cls", Dense(32, 32, bias=False, activation_function=torch.nn.GELU()), LayerNorm(32)),
        scores(32, activation_function=IDENTITY),
    ),
    "pooled, tanh": lambda folder: pooled(folder, "MPNet", "mean", scores(32)),
    "pooled, residual": lambda folder: pooled(
        *(folder, "Bert", "max", Dense(32, 32, use_residual=True), Dense(32, 16, use_residual=True)),
        scores(16, activation_function=IDENTITY),
    ),
    "pooled, in a subfolder": lambda folder: in_subfolder(pooled(folder, "Bert", "mean", scores(32))),
    "classifier in a subfolder": lambda folder: in_subfolder(classifier(folder, "Bert", None)),
    "pooled, causal": lambda folder: pooled(folder, "Qwen3", "lasttoken", scores(32), framed=False),
    "two tokens": lambda folder: logit_score(folder, PAIR, 70, 71, **PROMPT),
    "one token": lambda folder: logit_score(folder, PAIR, 70, kind="Llama"),
    "token 0": lambda folder: logit_score(folder, PAIR, 0),
    "trimmed texts": lambda folder: logit_score(folder, TRIMMED, 70, 71),
    "texts in two messages": lambda folder: logit_score(folder, SPLIT, 70, 71),
    "document first": lambda folder: logit_score(folder, DOCUMENT_FIRST, 70, 71),
    "contents in parts": lambda folder: logit_score(folder, PARTS, 70, 71, **PROMPT),
    "variables": lambda folder: logit_score(folder, CHAT_TEMPLATE, 70, 71, transformer=GENERATION),
    "encoder, prompt": lambda folder: classifier(folder, "Bert", None, **PROMPT),
    "encoder, chat template": lambda folder: classifier(folder, "Bert", PAIR, **PROMPT),
    "causal, bare pair": lambda folder: classifier(folder, "Qwen3", None),
    "causal, prompt": lambda folder: classifier(folder, "Qwen2", None, **PROMPT),
    "causal, chat template": lambda folder: classifier(folder, "Qwen3", PAIR, **PROMPT),
    "no modules, chat template": lambda folder: plain(folder, "Qwen3", PAIR),
    "no modules, any role": lambda folder: plain(folder, "Llama", CHAT_TEMPLATE),
    "no modules, encoder": lambda folder: plain(folder, "Bert", PAIR),
}


def of_library(folder: Path, documents: tuple[str, ...] = DOCUMENTS) -> list[float]:
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    pairs = [(query, document) for query in QUERIES for document in documents]
    return [float(score) for score in model.predict(pairs, activation_fn=IDENTITY, batch_size=1)]


QUICK = {"ettin", "two tokens", "token 0", "texts in two messages", "encoder, prompt", "causal, chat template"}


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in FOLDERS])
def test_scores_equal_sentence_transformers(name: str, tmp_path: Path) -> None:
    """The library truncates from the right, also a query that comes last; then only short documents are compared."""
    folder = FOLDERS[name](tmp_path)
    documents = DOCUMENTS[:-1] if name == "document first" else DOCUMENTS
    expected = of_library(folder, documents)
    found = local_scores(folder, None, "float32", QUERIES, documents)
    assert [score.value for score in found] == pytest.approx(expected, rel=2e-4, abs=1e-5)
    assert [score.details.get("truncated", False) for score in found] == [len(text) > 1000 for text in documents] * 3
    assert max(expected) - min(expected) > 0.05


def test_a_prompt_of_the_user_replaces_that_of_the_folder(tmp_path: Path) -> None:
    folder = logit_score(tmp_path, PAIR, 70, 71, **PROMPT)
    own = local_scores(folder, None, "float32", QUERIES, DOCUMENTS[:2])
    other = local_scores(folder, None, "float32", QUERIES, DOCUMENTS[:2], {"instruction": "Other. "})
    same = local_scores(folder, None, "float32", QUERIES, DOCUMENTS[:2], {"instruction": "Judge the pair. "})
    assert [score.value for score in own] == [score.value for score in same]
    assert [score.value for score in own] != [score.value for score in other]


@pytest.mark.parametrize(
    "text",
    [
        "query: {query} document: {document} relevant?",
        "<|im_start|>user\n<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n",
    ],
)
def test_a_prompt_file_is_the_whole_prompt_of_a_classifier(text: str, tmp_path: Path) -> None:
    folder = plain(tmp_path, "Qwen3", None)
    prompt = Template.parse(f"text = {json.dumps(text)}", "p.toml")
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS[:4], {"prompt": prompt})
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    own = transformers.AutoTokenizer.from_pretrained(folder)
    for number, score in enumerate(found):
        query, document = QUERIES[number // 4], DOCUMENTS[number % 4]
        ids = own(text.format(query=query, document=document), return_tensors="pt").input_ids
        with torch.inference_mode():
            assert score.value == pytest.approx(float(model(input_ids=ids).logits[0, 0]), rel=2e-4)


@pytest.mark.parametrize(
    ("chosen", "hint"),
    [
        (
            {"prompt": Template.parse('text = "{query}<|im_end|>{document}"', "p.toml")},
            "a prompt file may have special",
        ),
        ({"query_prompt": "<|im_end|>"}, "write the whole prompt to a file, for --prompt-file"),
        ({"document_prompt": "text: <|im_end|>"}, "write the whole prompt to a file, for --prompt-file"),
    ],
)
def test_special_tokens_between_the_texts_are_refused(chosen: dict[str, Any], hint: str, tmp_path: Path) -> None:
    folder = plain(tmp_path, "Qwen3", None)
    problem = r"its prompt has the special token '<\|im_end\|>' where lbr reads plain text"
    with pytest.raises(MissingError, match=problem) as error:
        local_scores(folder, None, "float32", QUERIES, DOCUMENTS[:1], chosen)
    assert error.value.hint.startswith(hint)


@pytest.mark.parametrize("key", ["query_prompt", "document_prompt"])
def test_a_prompt_file_leaves_no_room_for_other_prompts(key: str, tmp_path: Path) -> None:
    folder = plain(tmp_path, "Qwen3", None)
    chosen = {"prompt": Template.parse('text = "{query} {document}"', "p.toml"), key: "x: "}
    with pytest.raises(UsageError, match="has no effect: --prompt-file holds the whole prompt"):
        local_scores(folder, None, "float32", QUERIES, DOCUMENTS[:1], chosen)


def test_prompts_of_the_user_precede_the_texts_of_a_pair(tmp_path: Path) -> None:
    folder = plain(tmp_path, "Qwen3", None)
    chosen = {"query_prompt": "query: ", "document_prompt": "document: "}
    found = local_scores(folder, None, "float32", ["figs"], DOCUMENTS[:4], chosen)
    bare = local_scores(folder, "classifier", "float32", ["query: figs"], [f"document: {one}" for one in DOCUMENTS[:4]])
    assert [score.value for score in found] == [score.value for score in bare]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (PAIR.replace(DOCUMENT, ""), "its chat template contains the message of the role 'document' 0 times"),
        (PAIR.replace(QUERY, QUERY * 2), "its chat template contains the message of the role 'query' 2 times"),
        (PAIR.replace("| first }}", "| first | upper }}"), "its chat template or tokenizer changes the texts"),
        ("{{ raise_exception('no') }}", "its chat template fails on messages of the roles query and document"),
    ],
)
def test_a_chat_template_that_does_not_carry_a_pair_is_refused(template: str, problem: str, tmp_path: Path) -> None:
    folder = plain(tmp_path, "Qwen3", template)
    with pytest.raises(MissingError, match=problem) as error:
        local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
    assert error.value.hint == (
        "give its prompt with --prompt-file; if it was trained on bare pairs, use --family classifier"
    )
    assert local_scores(folder, "classifier", "float32", QUERIES, DOCUMENTS)


def test_modules_without_score_output_are_refused(tmp_path: Path) -> None:
    folder = pooled(tmp_path, "Bert", "mean", Dense(32, 32), scores(32))
    path = folder / "3_Dense" / "config.json"
    path.write_text(path.read_text().replace('"scores"', '"logits"'))
    with pytest.raises(MissingError, match="\"module_output_name\" is 'logits'; lbr supports only 'scores'"):
        local_scores(folder, None, "float32", QUERIES, DOCUMENTS)


def test_score_tokens_outside_the_vocabulary_are_refused(tmp_path: Path) -> None:
    folder = logit_score(tmp_path, PAIR, 70, 71)
    path = folder / "1_LogitScore" / "config.json"
    path.write_text(path.read_text().replace("71", "99999"))
    with pytest.raises(MissingError, match=r"the labels \(70, 99999\) are not all tokens of a vocabulary of"):
        local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
