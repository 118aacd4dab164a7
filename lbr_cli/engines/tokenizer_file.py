"""Whether a tokenizer treats a text as its `tokenizer.json` says.

transformers builds many tokenizers from the defaults of their classes and takes from the file the vocabulary, but
neither its normalizer nor its pre-tokenizer (from version 5.6; huggingface/transformers#45488,
huggingface/sentence-transformers#3911). A model whose tokenizer comes out different would get other tokens than it
was trained with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
from tokenizers import NormalizedString, PreTokenizedString, Tokenizer, models

from lbr_cli.errors import MissingError

FILE = "tokenizer.json"
PARTS = ("normalizer", "pre_tokenizer")
# what normalizers and pre-tokenizers are known to treat differently
AWKWARD = (
    "Ripe Figs turn PURPLE in August.",
    " a leading blank, two  blanks,   three, and a trailing one ",
    "tabs\tand\nline\n\nbreaks\r\nof all\rkinds",
    "Ünïcödé, naïve café, Straße, ÅNGSTRÖM, I\u0307stanbul",  # composed
    "u\u0308ber cafe\u0301 A\u030a",  # and decomposed
    "日本語のテキスト、中文文本。한국어 ภาษาไทย हिन्दी العربية עברית Русский Ελληνικά",
    "ﬁne ﬂuﬀ ① ½ Ⅷ \uff46\uff55\uff4c\uff4c\u3000\uff57\uff49\uff44\uff54\uff48 ㎏ ™",
    "emoji 🙂👩‍👩‍👧 🇱🇺 1️⃣",
    "don't we'll I'm — “quotes” … `code` #tag @name a_b-c/d\\e <s> </s> [MASK] ▁x Ġy",
    "3.14 1,000,000 1e-5 2026-11-28 +352 12345678901234567890",
    "zero\u200bwidth no\u00a0break soft\u00adhyphen bom\ufeff nul\x00 bell\x07",
    "",
    "x",
)


def different_part(tokenizer: Any, folder: Path) -> str:
    """The part of `tokenizer.json` that a tokenizer does not follow; "" if there is none, or no such file.

    Parts that are written otherwise count as the same if they treat all of a set of awkward texts alike.
    """
    path = folder / FILE
    if not path.exists():
        return ""
    written = _read(path)
    for part in PARTS:
        if part == "pre_tokenizer" and getattr(tokenizer, "fix_mistral_regex", False):
            continue  # a repair that the folder asks for
        own = _part(written.get(part) if isinstance(written, dict) else None, part, path)
        used = getattr(tokenizer.backend_tokenizer, part)
        if _as_json(own, part) != _as_json(used, part) and _results(own) != _results(used):
            return part
    return ""


def _read(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())  # a large vocabulary: faster than the standard library
    except (OSError, ValueError) as error:
        raise MissingError(f"{path}: cannot be read: {error}") from error


def _part(value: Any, part: str, path: Path) -> Any:
    """The part that a file describes, without its vocabulary, which may take seconds to read."""
    described = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}, part: value}
    try:
        return getattr(Tokenizer.from_str(json.dumps(described)), part)
    except Exception as error:  # the library raises nothing narrower
        raise MissingError(f'{path}: "{part}" cannot be read: {error}') from error


def _as_json(part: Any, name: str) -> Any:
    """A part with every option spelt out."""
    alone = Tokenizer(models.BPE())
    setattr(alone, name, part)
    return json.loads(alone.to_str())[name]


def _results(part: Any) -> list[Any]:
    """What a part makes of the awkward texts."""
    return [_applied(part, text) for text in AWKWARD]


def _applied(part: Any, text: str) -> Any:
    if part is None:
        return text
    if hasattr(part, "normalize_str"):
        normalized = NormalizedString(text)
        part.normalize(normalized)
        return normalized.normalized
    split = PreTokenizedString(text)
    part.pre_tokenize(split)
    return [piece for piece, _, _ in split.get_splits()]
