"""Tiny late-interaction checkpoints in three folder formats, with weights from a formula.

The weights do not depend on a version of torch, so that another environment builds the same checkpoints: the script
`tests/support/write_pylate_scores.py` computes the scores of PyLate, whose pins conflict with those of lbr.
"""

from __future__ import annotations

import itertools
import json
import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SIZE, VECTOR = 32, 16
MAX_POSITIONS = 128
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
WORDS = "the ripe figs turn purple lisbon trams use gauge bread needs salt a of uber"
QUERIES = ("ripe figs", "Lisbon TRAMS, gauge?", "", "übergröße naïve [SEP] salt", "bread needs salt " * 12)
DOCUMENTS = (
    "Ripe figs turn purple.",
    "",
    "x",
    "Lisbon trams use gauge; bread (salt) - needs!",
    "ÜBER Größe, naïve écoute 日本",
    "Bread needs salt, and figs turn purple. " * 20,
    "...!?",
    "[MASK] the [CLS] trams",
)
LENGTHS = {"query_length": 12, "document_length": 24}
# settings of folders of PyLate
PYLATE_FOLDERS: dict[str, dict[str, Any]] = {
    "usual": {},
    "attended": {"attend_to_expansion_tokens": True},
    "no expansion": {"do_query_expansion": False, "skiplist_words": []},
    "other skip list": {"skiplist_words": ["figs", ","]},
    "prompt": {"prompts": {"query": "the ", "document": "a "}},
    "unused tokens": {"prefixes": ("[unused0]", "[unused1]")},
    "no type": {"model_type": None},
}
SPECIAL_TOKEN = re.compile(r"\[([A-Z]+)\]")  # a special token in a text


def without_special_tokens(texts: Iterable[str]) -> list[str]:
    """Return texts in which `[SEP]` is `[ SEP ]`: the same pieces, also if a library reads special tokens in texts."""
    return [SPECIAL_TOKEN.sub(r"[ \1 ]", text) for text in texts]


def word_pieces(*, lower: bool = True, **options: Any) -> Any:
    """Return a WordPiece tokenizer with the special tokens of BERT: words, letters and punctuation."""
    letters = string.ascii_letters + string.digits + "ßéï日本"
    words = [*WORDS.split(), *string.punctuation, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lower)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, model_max_length=MAX_POSITIONS, do_lower_case=lower, **named, **options
    )


def fill(model: torch.nn.Module) -> None:
    """Set all weights by a formula."""
    with torch.no_grad():
        for number, (name, weight) in enumerate(model.named_parameters()):
            values = torch.sin(torch.arange(weight.numel(), dtype=torch.float64) * 1.7 + number)
            if weight.dim() == 1:
                values = values * 0.1 + ("norm" in name.lower() and name.endswith("weight"))
            else:
                values = torch.sin(values * 1e4) * 0.5
            weight.copy_(values.reshape(weight.shape).float())


def layer(rows: int = VECTOR, columns: int = SIZE) -> torch.Tensor:
    """Return the weights of a linear layer."""
    values = torch.sin(torch.sin(torch.arange(rows * columns, dtype=torch.float64) * 2.3) * 1e4)
    return values.reshape(rows, columns).float()


def bert(folder: Path, tokenizer: Any = None, kind: str = "Bert") -> Path:
    """Save an encoder and its tokenizer."""
    tokenizer = tokenizer or word_pieces()
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer),
        hidden_size=SIZE,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_POSITIONS,
        pad_token_id=0,
    )
    model = getattr(transformers, f"{kind}Model")(config)
    fill(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def multi_vector(
    folder: Path,
    *,
    transformer: dict[str, Any] | None = None,
    skipped: list[str] | None = None,
    skipped_in: list[str] | None = None,
    tokenizer: Any = None,
    kind: str = "Bert",
    layers: int = 1,
    **options: Any,
) -> Path:
    """Save a MultiVectorEncoder with sentence-transformers, and return its folder."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    first = Transformer(str(bert(folder / "base", tokenizer, kind)), **transformer or {})
    sizes = [SIZE, *[24] * (layers - 1), VECTOR] if layers else [SIZE]
    dense = [
        Dense(before, after, False, torch.nn.Identity(), layer(after, before), module_input_name="token_embeddings")
        for before, after in itertools.pairwise(sizes)
    ]
    mask = MultiVectorMask(skipped or [], skiplist_tasks=skipped_in)
    modules = [first, *dense, mask, Normalize("token_embeddings")]
    MultiVectorEncoder(modules=modules, device="cpu", **options).save_pretrained(str(folder / "model"))
    return folder / "model"


def pylate(folder: Path, *, prefixes: tuple[str, str] = ("[Q] ", "[D] "), **settings: Any) -> Path:
    """Write a folder in the form of PyLate; `settings` are values of `config_sentence_transformers.json`."""
    tokenizer = word_pieces()
    tokenizer.add_tokens([prefix for prefix in prefixes if prefix not in SPECIAL])
    bert(folder, tokenizer)
    defaults = {"query_prefix": prefixes[0], "document_prefix": prefixes[1], **LENGTHS, "similarity_fn_name": "MaxSim"}
    written = {"model_type": "ColBERT", **defaults, **settings}
    dense = {"in_features": SIZE, "out_features": VECTOR, "bias": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "1_Dense").mkdir()
    save_file({"linear.weight": layer()}, folder / "1_Dense" / "model.safetensors")
    files = {
        "modules.json": modules,
        "config_sentence_transformers.json": {key: value for key, value in written.items() if value is not None},
        "sentence_bert_config.json": {"max_seq_length": LENGTHS["document_length"] - 1, "do_lower_case": False},
        "1_Dense/config.json": dense,
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def stanford(folder: Path, **settings: Any) -> Path:
    """Write a folder in the form of Stanford's ColBERT, with `settings` in `artifact.metadata`."""
    bert(folder)
    weights = {
        f"bert.{name}": tensor for name, tensor in transformers.BertModel.from_pretrained(folder).state_dict().items()
    }
    save_file(weights | {"linear.weight": layer()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    metadata = {"query_maxlen": 12, "doc_maxlen": 24, "dim": VECTOR, "similarity": "cosine", "mask_punctuation": True}
    tokens = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "attend_to_mask_tokens": False}
    (folder / "artifact.metadata").write_text(json.dumps(metadata | tokens | settings))
    return folder
