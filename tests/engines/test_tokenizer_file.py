"""The tokenizer that a folder ships is used: token ids are those of `tokenizers.Tokenizer.from_file`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from lbr_cli.engines import Settings, prepare_engine
from lbr_cli.engines.awkward_texts import AWKWARD
from lbr_cli.engines.pretrained import load_tokenizer
from lbr_cli.engines.special_tokens import keep_special_tokens_plain
from lbr_cli.engines.tokenizer_file import TokenizerFile, is_repaired
from lbr_cli.errors import MissingError
from lbr_cli.families import Classifier
from lbr_cli.models import LocalModel, fetch, resolve
from support import checkpoints
from support.files import write
from support.progress import RecordedProgress

TEXTS = (
    *AWKWARD,
    "Ripe FIGS  über\u3000Zürich\n\nﬁne",
    "  <s> [CLS] bread </s> ",
    "\uff26\uff55\uff4c\uff4c \uff57\uff49\uff44e ①",
)
LETTERS = (*checkpoints.TEXT, *(text.lower() for text in AWKWARD), *AWKWARD)
FIRST = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|endoftext|>"]


def trained(model: Any, trainer: type, pre_tokenizer: Any, **options: Any) -> dict[str, Any]:
    """Return vocabulary and merges of a model trained on a few texts."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(
        LETTERS, trainer(vocab_size=900, special_tokens=FIRST, show_progress=False, **options)
    )
    described: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    if "merges" in described:
        described["merges"] = [tuple(merge) for merge in described["merges"]]
    return described


@functools.cache
def byte_level(kind: str) -> Any:
    split = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model = trained(models.BPE(), trainers.BpeTrainer, split, initial_alphabet=alphabet)
    return getattr(transformers, kind)(vocab=model["vocab"], merges=model["merges"])


@functools.cache
def metaspace(kind: str) -> Any:
    model = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer, pre_tokenizers.Metaspace())
    return getattr(transformers, kind)(vocab=model["vocab"], merges=model["merges"])


@functools.cache
def unigram(kind: str, **options: Any) -> Any:
    split = pre_tokenizers.Metaspace()
    model = trained(models.Unigram(), trainers.UnigramTrainer, split, unk_token=options.get("unk_token", "<unk>"))
    return getattr(transformers, kind)(vocab=[tuple(piece) for piece in model["vocab"]], **options)


@functools.cache
def word_piece(kind: str) -> Any:
    split = pre_tokenizers.BertPreTokenizer()
    model = trained(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer, split)
    return getattr(transformers, kind)(vocab=model["vocab"])


KINDS: dict[str, tuple[str, Callable[[], Any]]] = {
    "BERT": ("Bert", lambda: word_piece("BertTokenizer")),
    "RoBERTa": ("Roberta", lambda: byte_level("RobertaTokenizer")),
    "XLM-R": ("XLMRoberta", lambda: unigram("XLMRobertaTokenizer")),
    "Llama": ("Llama", lambda: metaspace("LlamaTokenizer")),
    "Qwen2": ("Qwen2", lambda: byte_level("Qwen2Tokenizer")),
    "DeBERTa-v2": ("DebertaV2", lambda: unigram("DebertaV2Tokenizer", unk_token="[UNK]")),
    "T5": ("T5", lambda: unigram("T5Tokenizer")),
}


def folder_of(kind: str, path: Path) -> Path:
    """Write a folder with a configuration and the tokenizer of its kind, without weights."""
    name, make = KINDS[kind]
    getattr(transformers, f"{name}Config")().save_pretrained(path)
    make().save_pretrained(path)
    return path


def change(folder: Path, part: str) -> None:
    """Change a part of `tokenizer.json`."""
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    if part == "normalizer":
        own.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    elif part == "pre_tokenizer":
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace(prepend_scheme="never")]
        own.pre_tokenizer = pre_tokenizers.Sequence(parts)
    elif part == "post_processor":
        own.post_processor = processors.TemplateProcessing(
            single="<mask> $A <pad>", pair="<mask> $A <pad> $B:1", special_tokens=ids_of(own, "<mask>", "<pad>")
        )
    own.save(str(folder / "tokenizer.json"))


def ids_of(own: Tokenizer, *tokens: str) -> list[tuple[str, int]]:
    """Return tokens with their ids."""
    return [(token, own.token_to_id(token) or 0) for token in tokens]


def local(folder: Path) -> LocalModel:
    return LocalModel("m", "m", Classifier(), folder)


def assert_equal_to_file(tokenizer: Any, folder: Path) -> None:
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    keep_special_tokens_plain(own)
    own.encode_special_tokens = True
    for special in (False, True):
        options = {"add_special_tokens": special, "split_special_tokens": True}
        expected = [one.ids for one in own.encode_batch(list(TEXTS), add_special_tokens=special)]
        assert tokenizer(list(TEXTS), **options)["input_ids"] == expected
        pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
        expected = [one.ids for one in own.encode_batch(pairs, add_special_tokens=special)]
        assert tokenizer(list(TEXTS), list(reversed(TEXTS)), **options)["input_ids"] == expected


@pytest.mark.parametrize("part", ["nothing", "normalizer", "pre_tokenizer", "post_processor"])
@pytest.mark.parametrize("kind", KINDS)
def test_token_ids_equal_those_of_tokenizer_json(kind: str, part: str, tmp_path: Path) -> None:
    folder = folder_of(kind, tmp_path)
    change(folder, part)
    loaded = load_tokenizer(local(folder))
    assert_equal_to_file(loaded.tokenizer, folder)
    if part == "nothing":
        assert loaded.source == "transformers"
        assert loaded.reason.endswith(", equal to tokenizer.json")
    elif loaded.source == "tokenizer.json":
        assert loaded.reason.startswith("tokenizer.json; ")
        assert loaded.reason.endswith(f" differs from it ({part})")
    again = load_tokenizer(local(folder), loaded.source)
    assert again.source == loaded.source
    assert_equal_to_file(again.tokenizer, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_are_plain_text(kind: str, tmp_path: Path) -> None:
    """Also in a unigram model, whose vocabulary contains them (google/sentencepiece#777)."""
    loaded = load_tokenizer(local(folder_of(kind, tmp_path))).tokenizer
    special = {token for token in loaded.added_tokens_decoder.values() if token.special}
    assert special
    for token in special:
        for text in (token.content, f"figs{token.content} ripe", f"figs {token.content}{token.content}"):
            ids = loaded(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            assert ids
            assert not {*ids} & {*loaded.all_special_ids}, text


@pytest.mark.parametrize("source", ["", "transformers", "tokenizer.json"])
def test_dropout_of_merges_is_turned_off(source: str, tmp_path: Path) -> None:
    """A tokenizer that was saved for training gives a text other tokens each time (huggingface/tokenizers#644)."""
    folder = folder_of("Qwen2", tmp_path)
    expected = load_tokenizer(local(folder)).tokenizer(list(TEXTS))["input_ids"]
    described = json.loads((folder / "tokenizer.json").read_text())
    described["model"]["dropout"] = 0.5
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    write(folder, {"tokenizer.json": json.dumps(described), "tokenizer_config.json": json.dumps(config)})
    assert load_tokenizer(local(folder), source).tokenizer(list(TEXTS))["input_ids"] == expected


@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer", "post_processor"])
def test_parts_that_a_tokenizer_class_replaces_are_read_from_tokenizer_json(part: str, tmp_path: Path) -> None:
    folder = folder_of("XLM-R", tmp_path)
    change(folder, part)
    assert load_tokenizer(local(folder)).source == "tokenizer.json"


def test_a_memoized_choice_is_not_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of("BERT", tmp_path)

    def difference(self: TokenizerFile, tokenizer: Any) -> str:
        raise AssertionError

    monkeypatch.setattr(TokenizerFile, "difference", difference)
    assert load_tokenizer(local(folder), "transformers").source == "transformers"
    with pytest.raises(AssertionError):
        load_tokenizer(local(folder))


def test_special_tokens_are_added_as_in_tokenizer_json(tmp_path: Path) -> None:
    """As in the folders of Qwen3-Embedding, whose last token is pooled."""
    folder = folder_of("Qwen2", tmp_path)
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", pair="$A $B:1 <|endoftext|>", special_tokens=ids_of(own, "<|endoftext|>")
    )
    own.save(str(folder / "tokenizer.json"))
    path = folder / "tokenizer_config.json"
    keys = {"add_bos_token": False, "add_eos_token": False}
    write(folder, {path.name: json.dumps(json.loads(path.read_text()) | keys)})
    loaded = load_tokenizer(local(folder))
    assert loaded.tokenizer("figs")["input_ids"][-1] == own.token_to_id("<|endoftext|>")
    assert_equal_to_file(loaded.tokenizer, folder)


@pytest.mark.parametrize("is_fixed", [True, False])
def test_fixes_of_transformers_are_applied(is_fixed: bool, tmp_path: Path) -> None:
    """`fix_mistral_regex` of `tokenizer_config.json` replaces the pattern of Mistral's older files on purpose."""
    byte_level("Qwen2Tokenizer").save_pretrained(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text())
    unused = {f"unused {number}": number for number in range(len(described["model"]["vocab"]), 100_001)}
    described["model"]["vocab"] |= unused  # transformers repairs vocabularies of more than 100,000 tokens
    own = Tokenizer.from_str(json.dumps(described))
    split = pre_tokenizers.Split(Regex(r" ?\p{L}+|\s+|[^\s\p{L}]+"), "isolated")
    own.normalizer = None
    own.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    own.save(str(tmp_path / "tokenizer.json"))
    keys = {"tokenizer_class": "PreTrainedTokenizerFast", "fix_mistral_regex": is_fixed}
    config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | keys
    mistral = {"model_type": "mistral", "transformers_version": "4.57.1"}
    write(tmp_path, {"tokenizer_config.json": json.dumps(config), "config.json": json.dumps(mistral)})
    loaded = load_tokenizer(local(tmp_path))
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "HTTPServer figsRipe 2026"
    repaired = own.encode(text).ids != reference(text)["input_ids"]
    assert repaired is is_fixed
    assert loaded.tokenizer(text)["input_ids"] == reference(text)["input_ids"]
    again = load_tokenizer(local(tmp_path), loaded.source)
    assert again.tokenizer(text)["input_ids"] == reference(text)["input_ids"]
    assert (loaded.source, is_repaired(loaded.tokenizer)) == ("transformers", is_fixed)
    assert loaded.reason.endswith("equal to tokenizer.json but for fix_mistral_regex" if is_fixed else "tokenizer.json")
    if not is_fixed:
        assert_equal_to_file(loaded.tokenizer, tmp_path)


def test_scores_of_two_tokenizers_have_different_keys(tmp_path: Path) -> None:
    """Even if they were read from the same files."""
    changed = checkpoints.classifier(
        tmp_path / "tiny", "XLMRoberta", checkpoints.pieces_tokenizer(roberta=True), pad_token_id=1
    )
    change(changed, "normalizer")
    config = changed / "tokenizer_config.json"
    values = json.loads(config.read_text()) | {"tokenizer_class": "XLMRobertaTokenizer"}
    write(changed, {config.name: json.dumps(values)})
    model = fetch(resolve(str(changed)), RecordedProgress())
    chosen = prepare_engine("local", model, Settings("cpu", "float32")).spec
    other = prepare_engine("local", model, Settings("cpu", "float32", tokenizer="transformers")).spec
    assert chosen is not None
    assert other is not None
    assert (chosen.tokenizer, other.tokenizer) == ("tokenizer.json", "transformers")
    assert chosen.prompt != other.prompt


def test_an_invalid_tokenizer_file_is_refused(tmp_path: Path) -> None:
    folder = folder_of("BERT", tmp_path)
    described = json.loads((folder / "tokenizer.json").read_text())
    described["normalizer"] = {"type": "Unknown"}
    write(folder, {"tokenizer.json": json.dumps(described)})
    with pytest.raises(MissingError, match=r"its tokenizer cannot be loaded|tokenizer\.json: cannot be read"):
        load_tokenizer(local(folder))
