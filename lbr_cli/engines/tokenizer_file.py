"""Check whether a tokenizer follows its `tokenizer.json`.

transformers builds many tokenizers from the defaults of their classes: of the file it reads the vocabulary, but neither
the normalizer nor the pre-tokenizer (from version 5.6; huggingface/transformers#45488,
huggingface/sentence-transformers#3911). The model would then receive other tokens than in its training.
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
# characters that normalizers and pre-tokenizers treat differently
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
    """Return the part of `tokenizer.json` that a tokenizer does not follow; "" if there is none, or no such file.

    Two parts with different descriptions are equal if they give the same results for all `AWKWARD` texts.
    """
    path = folder / FILE
    if not path.exists():
        return ""
    try:
        described = orjson.loads(path.read_bytes())  # a large vocabulary: faster than the standard library
    except (OSError, ValueError) as error:
        raise MissingError(f"{path}: cannot be read: {error}") from error
    for part in PARTS:
        if part == "pre_tokenizer" and getattr(tokenizer, "fix_mistral_regex", False):
            continue  # a correction that the folder requests
        own = _part(described.get(part) if isinstance(described, dict) else None, part, path)
        used = getattr(tokenizer.backend_tokenizer, part)
        if _as_json(own, part) != _as_json(used, part) and any(_apply(own, t) != _apply(used, t) for t in AWKWARD):
            return part
    return ""


def _part(value: Any, part: str, path: Path) -> Any:
    """Build a part of a tokenizer without its vocabulary, which may take seconds to read."""
    described = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}, part: value}
    try:
        return getattr(Tokenizer.from_str(json.dumps(described)), part)
    except Exception as error:  # the library raises nothing narrower
        raise MissingError(f'{path}: "{part}" cannot be read: {error}') from error


def _as_json(part: Any, name: str) -> Any:
    """A part with the values of all its options."""
    alone = Tokenizer(models.BPE())
    setattr(alone, name, part)
    return json.loads(alone.to_str())[name]


def _apply(part: Any, text: str) -> Any:
    if part is None:
        return text
    if hasattr(part, "normalize_str"):
        normalized = NormalizedString(text)
        part.normalize(normalized)
        return normalized.normalized
    split = PreTokenizedString(text)
    part.pre_tokenize(split)
    return [piece for piece, _, _ in split.get_splits()]
