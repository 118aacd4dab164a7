"""Sentence-transformers folders against sentence-transformers itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer

from lbr_cli.core import Embedding
from lbr_cli.engines import Settings
from lbr_cli.errors import MissingError
from lbr_cli.families import BiEncoder
from lbr_cli.models import fetch, resolve
from lbr_cli.progress import Console
from support import checkpoints
from support.engines import load, local_scores
from support.files import write
from support.plain_loop import max_difference
from support.program import Program

QUERIES = ("ripe figs", "трамвай", "日本 bread </p>")
DOCUMENTS = (
    "x",
    "",
    "Lisbon trams use gauge.",
    "Ripe figs turn purple. " * 9,
    "Москва, naïve écoute 🙂",
    "bread needs salt and figs turn purple " * 90,
)


def pooling(mode: str | list[str], **more: Any) -> dict[str, Any]:
    return {"kind": "Pooling", "embedding_dimension": 32, "pooling_mode": mode, **more}


DENSE = {"kind": "Dense", "in_features": 32, "out_features": 8, "bias": True}
TANH = DENSE | {"activation_function": "torch.nn.modules.activation.Tanh"}
LINEAR = DENSE | {"activation_function": "torch.nn.modules.linear.Identity"}
NORMALIZE = {"kind": "Normalize"}
E5 = {"prompts": {"query": "query: ", "document": "passage: "}, "similarity_fn_name": "cosine"}
OLD = {"kind": "Pooling", "word_embedding_dimension": 32, "pooling_mode_cls_token": True}
FOLDERS: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {
    "e5": ("Bert", [pooling("mean"), NORMALIZE], E5),
    "bge": ("Bert", [OLD, NORMALIZE], {"prompts": {"query": "Represent this: "}, "similarity_fn_name": None}),
    "dense": ("Bert", [pooling("mean"), TANH, NORMALIZE], {}),
    "dot": ("Bert", [pooling("max"), LINEAR], {"similarity_fn_name": "dot"}),
    "euclidean": ("XLMRoberta", [pooling("mean_sqrt_len_tokens")], {"similarity_fn_name": "euclidean"}),
    "manhattan": ("MPNet", [pooling(["cls", "mean"])], {"similarity_fn_name": "manhattan"}),
    "causal": (
        "Qwen3",
        [pooling("lasttoken", include_prompt=True), NORMALIZE],
        {"prompts": {"query": "Instruct: find\nQuery:", "document": ""}, "default_prompt_name": None},
    ),
    "bge-m3": ("XLMRoberta", [pooling("cls"), NORMALIZE], {}),
    "embeddinggemma": (
        "Gemma3Text",
        [pooling("mean"), LINEAR | {"out_features": 64}, LINEAR | {"in_features": 64, "out_features": 32}, NORMALIZE],
        {"prompts": {"query": "task: search result | query: ", "document": "title: none | text: "}},
    ),
    "instructor": ("Bert", [pooling(["weightedmean", "mean"], include_prompt=False)], E5),
    "special tokens in prompts": (
        "Bert",
        [pooling(["mean", "max"], include_prompt=False)],
        {"prompts": {"query": "<|im_start|>query<|im_end|> ", "document": "<|im_start|>"}},
    ),
    "passages": ("Bert", [pooling("mean")], {"prompts": {"query": "query: ", "passage": "passage: "}}),
    "sentence-t5": ("T5Encoder", [pooling("mean"), LINEAR, NORMALIZE], {}),
    "truncated": ("Bert", [pooling("mean"), NORMALIZE], {"truncate_dim": 8, "similarity_fn_name": "dot"}),
    "truncated cosine": ("Bert", [pooling("mean"), TANH, NORMALIZE], E5 | {"truncate_dim": 3}),
    "truncated beyond the end": ("Bert", [pooling("mean")], {"truncate_dim": 99, "similarity_fn_name": "euclidean"}),
    "other prompts": ("Bert", [pooling("mean")], {"prompts": {"all": "text: "}, "default_prompt_name": "all"}),
}


def tokenizer(name: str) -> Any:
    if name == "T5Encoder":
        return checkpoints.pieces_tokenizer()
    if name == "XLMRoberta":
        return checkpoints.pieces_tokenizer(roberta=True)
    return checkpoints.bytes_tokenizer(framed=True, pad_token="<|endoftext|>")


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, modules, config = FOLDERS[request.param]
    path = tmp_path_factory.mktemp("bi-encoder") / "tiny"
    return checkpoints.bi_encoder(path, name, tokenizer(name), *(dict(module) for module in modules), **config)


def transformer(folder: Path, name: str = "bert", **config: Any) -> Path:
    """Replace the configuration of the Transformer module."""
    (folder / "sentence_bert_config.json").unlink()
    return write(folder, {f"sentence_{name}_config.json": json.dumps(config)})


def theirs(folder: Path, queries: tuple[str, ...], documents: tuple[str, ...]) -> list[float]:
    model = SentenceTransformer(str(folder), device="cpu")
    found = model.similarity(
        model.encode_query(list(queries), batch_size=1), model.encode_document(list(documents), batch_size=1)
    )
    return [float(score) for row in found for score in row]


def test_scores_equal_sentence_transformers(folder: Path) -> None:
    expected = theirs(folder, QUERIES, DOCUMENTS)
    found = local_scores(folder, None, "float32", QUERIES, DOCUMENTS)
    assert max_difference([score.value for score in found], expected) < 1e-6 * max(100.0, *map(abs, expected))
    assert max(expected) - min(expected) > 0.05
    assert [score.details["truncated"] for score in found] == [len(document) > 1000 for document in DOCUMENTS] * 3


MIXED = ("x", "Ripe FIGS über Zürich", "Ripe figs turn purple. " * 9, "ÅNGSTRÖM, bread needs Salt " * 90)


def assert_equal_to_theirs(folder: Path) -> None:
    expected = theirs(folder, QUERIES, MIXED)
    found = [score.value for score in local_scores(folder, None, "float32", QUERIES, MIXED)]
    assert found == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("name", ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"])
def test_older_names_of_the_transformer_configuration_are_read(name: str, tmp_path: Path) -> None:
    folder = checkpoints.bi_encoder(tmp_path / "tiny", "Bert", tokenizer("Bert"), pooling("mean"))
    whole = [score.value for score in local_scores(folder, None, "float32", QUERIES, MIXED)]
    transformer(folder, name, max_seq_length=12, do_lower_case=True)
    assert_equal_to_theirs(folder)
    cut = [score.value for score in local_scores(folder, None, "float32", QUERIES, MIXED)]
    assert cut != pytest.approx(whole, rel=2e-4)


def test_an_older_name_is_read_if_the_transformer_configuration_is_empty(tmp_path: Path) -> None:
    folder = checkpoints.bi_encoder(tmp_path / "tiny", "Bert", tokenizer("Bert"), pooling("mean"))
    transformer(folder, "xlnet", max_seq_length=12)
    write(folder, {"sentence_bert_config.json": "{}"})
    assert_equal_to_theirs(folder)


@pytest.mark.parametrize(
    "lengths",
    [{"query_length": 5}, {"document_length": 9}, {"query_length": 5, "document_length": 9, "max_seq_length": 12}],
)
def test_queries_and_documents_have_their_own_lengths(lengths: dict[str, int], tmp_path: Path) -> None:
    folder = checkpoints.bi_encoder(tmp_path / "tiny", "Bert", tokenizer("Bert"), pooling("mean"))
    transformer(folder, **lengths)
    assert_equal_to_theirs(folder)


def test_weights_in_the_older_form_and_in_subfolders_are_read(tmp_path: Path) -> None:
    folder = checkpoints.bi_encoder(tmp_path / "tiny", "Bert", tokenizer("Bert"), pooling("mean"), dict(TANH))
    checkpoints.in_older_form(folder)
    assert_equal_to_theirs(folder)


def test_one_thread_calls_the_tokenizer(folder: Path, tokenizer_threads: set[int]) -> None:
    model = resolve(str(folder))
    loaded = load(model, Settings(dtype="float32"))
    tokenizer_threads.clear()
    windows = [[Embedding(text, prompt="query: ")] for text in QUERIES]
    assert len(list(loaded.answer(windows))) == len(QUERIES)
    assert len(tokenizer_threads) == 1


def family(folder: Path, **chosen: str) -> object:
    with Console(bar=False, quiet=True) as console:
        return fetch(resolve(str(folder), chosen=chosen), console).family


def test_prompts_of_options_replace_those_of_the_folder(tmp_path: Path) -> None:
    config = {"prompts": {"query": "q: ", "document": "p: ", "passage": "x: "}, "similarity_fn_name": "dot"}
    folder = checkpoints.bi_encoder(tmp_path / "tiny", "Bert", tokenizer("Bert"), pooling("cls"), **config)
    assert family(folder) == BiEncoder("q: ", "p: ", "dot")
    assert family(folder, query_prompt="", document_prompt="text: ") == BiEncoder("", "text: ", "dot")


def test_an_empty_text_without_tokens_has_a_score(tmp_path: Path, lbr: Program) -> None:
    bare = checkpoints.bytes_tokenizer(pad_token="<|endoftext|>")
    folder = checkpoints.bi_encoder(tmp_path / "tiny", "Bert", bare, pooling("mean"))
    line = json.dumps({"query": "fig", "documents": ["", "fig", "ripe"]})
    ended = lbr("rerank", "-m", str(folder), stdin=line.encode())
    assert ended.code == 0
    assert {record["text"] for record in ended.records} == {"", "fig", "ripe"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: write(folder, {"modules.json": "[]"}),
            "its modules are ; lbr supports Transformer, Pooling, then",
        ),
        (
            lambda folder: write(
                folder, {"modules.json": (folder / "modules.json").read_text().replace("Dense", "CNN")}
            ),
            "its modules are Transformer, Pooling, CNN; lbr supports Transformer, Pooling, then Dense, LayerNorm, "
            "Normalize",
        ),
        (
            lambda folder: write(folder / "1_Module", {"config.json": '{"pooling_mode": "median"}'}),
            "pooling mode: median",
        ),
        (lambda folder: write(folder / "1_Module", {"config.json": "{"}), "config.json: invalid JSON"),
        (
            lambda folder: write(folder / "2_Module", {"config.json": '{"activation_function": "os.system"}'}),
            "a Dense module with the unsupported activation os.system",
        ),
        (
            lambda folder: (folder / "modules.json").unlink(),
            "modules.json is missing, so its pooling is unknown",
        ),
        (
            lambda folder: write(
                folder, {"sentence_bert_config.json": '{"modality_config": {"text": {}, "message": {}}}'}
            ),
            'sentence_bert_config.json: "modality_config" has "message": texts become chat messages, which',
        ),
        (
            lambda folder: write(folder / "2_Module", {"config.json": '{"module_input_name": "token_embeddings"}'}),
            "\"module_input_name\" is 'token_embeddings'; lbr supports only 'sentence_embedding'",
        ),
        (
            lambda folder: write(folder / "2_Module", {"config.json": '{"module_output_name": "scores"}'}),
            "2_Module/config.json: \"module_output_name\" is 'scores'; lbr supports only 'sentence_embedding'",
        ),
        (
            lambda folder: write(folder, {"config_sentence_transformers.json": '{"truncate_dim": 0}'}),
            'config_sentence_transformers.json: "truncate_dim" has to be at least 1, this is 0',
        ),
        (
            lambda folder: write(
                folder, {"config_sentence_transformers.json": json.dumps({"prompts": {"query": "<|im_start|>" * 300}})}
            ),
            "leaves no room for a text",
        ),
        (
            lambda folder: transformer(folder, max_seq_length=8, query_length=9),
            'sentence_bert_config.json: "query_length" is 9, more than "max_seq_length" (8), which this version',
        ),
        (
            lambda folder: transformer(folder, query_expansion={"strategy": "fixed", "length": 32}),
            'sentence_bert_config.json: "query_expansion" is {"strategy": "fixed", "length": 32}, which this version',
        ),
        (
            lambda folder: transformer(folder, processing_kwargs={"text": {"padding": "max_length"}}),
            'sentence_bert_config.json: "processing_kwargs" is {"text": {"padding": "max_length"}}, which this version',
        ),
        (
            lambda folder: transformer(folder, model_args={"torch_dtype": "float32", "subfolder": "x"}),
            'sentence_bert_config.json: "model_args" has subfolder, which this version',
        ),
        (lambda folder: (folder / "2_Module" / "pytorch_model.bin").unlink(), "its weights cannot be read"),
        (
            lambda folder: write(folder, {"config_sentence_transformers.json": '{"similarity_fn_name": "maxsim"}'}),
            "\"similarity_fn_name\" is 'maxsim', none of cosine, dot, euclidean, manhattan",
        ),
    ],
)
def test_unsupported_folders_are_refused(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    folder = checkpoints.bi_encoder(tmp_path / "tiny", "Bert", tokenizer("Bert"), pooling("mean"), dict(TANH))
    spoil(folder)
    with pytest.raises(MissingError) as error:
        local_scores(folder, "bi-encoder", "float32", QUERIES, DOCUMENTS)
    assert message in str(error.value)
