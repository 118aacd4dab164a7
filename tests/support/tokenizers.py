"""A tiny tokenizer of chat models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORDS = (
    "the query and a piece of text, output score based on how related is to Given means least most system user "
    "assistant Context Query ripe figs turn purple Lisbon trams use gauge bread needs salt écoute naïve 日本 Москва"
)


def chat_tokenizer(text: Iterable[str] = (WORDS,), template: str = CHAT_TEMPLATE) -> Any:
    """Train a byte-level BPE tokenizer with the splits, the normalizer and the special tokens of Qwen's."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.normalizer = normalizers.NFC()
    split = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(text, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False))
    inner.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>")
    tokenizer.chat_template = template
    return tokenizer


def tokenizer_of_file(folder: Path) -> Any:
    """Return the tokenizer of a folder for references: `tokenizer.json` as the library tokenizers reads it.

    transformers contributes the special tokens, the chat template and the truncation. In a unigram model, the special
    tokens are the least likely pieces, so that they do not occur in a text, as in SentencePiece.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    named = AutoTokenizer.from_pretrained(folder)
    file = folder / "tokenizer.json"
    if not file.exists():
        return named
    tokens = {name: token for name, token in named.special_tokens_map.items() if isinstance(token, str)}
    described = json.loads(file.read_text())
    if described["model"]["type"] == "Unigram":
        special = {token["content"] for token in described["added_tokens"] if token["special"]}
        pieces = described["model"]["vocab"]
        described["model"]["vocab"] = [(piece, -1000.0 if piece in special else score) for piece, score in pieces]
    own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(described)), **tokens)
    own.chat_template, own.model_input_names = named.chat_template, named.model_input_names
    return own
