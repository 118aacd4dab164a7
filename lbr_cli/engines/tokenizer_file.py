"""Compare a tokenizer that transformers built with the `tokenizer.json` of its folder.

transformers builds many tokenizers from the defaults of their classes: it reads the vocabulary from the file, but often
ignores the normalizer, the pre-tokenizer and the post-processor (from version 5.6; huggingface/transformers#45488,
huggingface/sentence-transformers#3911). The model would then receive other tokens than in its training.

transformers 5.24 deviates from the file on purpose in one case, and lbr accepts that repair: `fix_mistral_regex`
replaces the pre-tokenizer of Mistral's older files (`_patch_mistral_regex`). Two settings are not repairs.
`add_bos_token` and `add_eos_token` of `tokenizer_config.json` are ignored if there is a `tokenizer.json`. A
SentencePiece charsmap (`_spm_precompiled_charsmap`) is copied from the file's own normalizer; a class that drops the
other steps of that normalizer differs from the file.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import NormalizedString, PreTokenizedString, Tokenizer, models, pre_tokenizers

from lbr_cli.engines.awkward_texts import AWKWARD
from lbr_cli.errors import MissingError, first_line

FILE = "tokenizer.json"
MISTRAL_FIX = "fix_mistral_regex"
PARTS = ("normalizer", "pre_tokenizer", "post_processor")
# words with known ids, to apply a post-processor without the vocabulary of the model
WORDS = {"one": 10_000_001, "two": 10_000_002}


class TokenizerFile:
    """The `tokenizer.json` of a folder, as the library tokenizers reads it. MissingError if it cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        try:
            self._own = Tokenizer.from_file(str(self.path))
        except Exception as error:  # the library raises nothing narrower
            raise MissingError(f"{self.path}: cannot be read: {first_line(error)}") from error
        self._own.no_truncation()
        self._own.no_padding()
        without_dropout(self._own)
        self._own.encode_special_tokens = True  # as lbr reads texts: special tokens written out are ordinary text

    def difference(self, tokenizer: Any) -> str:
        """Return how a tokenizer differs from the file: a part or a text; "" if it does not, except for a repair.

        Two parts with different descriptions are equal if they give the same results for all `AWKWARD` texts. Then the
        token ids are compared: of texts and pairs, with and without special tokens.
        """
        self._repair(tokenizer)
        for part in PARTS:
            own, used = getattr(self._own, part), getattr(tokenizer.backend_tokenizer, part)
            if _as_json(own, part) != _as_json(used, part) and _results(own, part) != _results(used, part):
                return part
        return self._different_ids(tokenizer)

    def apply_parts(self, tokenizer: Any) -> None:
        """Replace the parts of a tokenizer by those of the file, except a pre-tokenizer that transformers repaired."""
        self._repair(tokenizer)
        for part in PARTS:
            setattr(tokenizer.backend_tokenizer, part, getattr(self._own, part))

    def _repair(self, tokenizer: Any) -> None:
        """Use the repaired pre-tokenizer of a tokenizer, if it has one, instead of that of the file."""
        if is_repaired(tokenizer):
            self._own.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer

    def _different_ids(self, tokenizer: Any) -> str:
        """Return the first text or pair whose tokens differ from those of the file, in words; "" if there is none."""
        has_types = "token_type_ids" in tokenizer.model_input_names
        pairs = [(text, None) for text in AWKWARD] + list(pairwise(AWKWARD))
        for text, second in pairs:
            # in lists: transformers reads an empty string as no second text
            texts = [[text]] if second is None else [[text], [second]]
            for special in (False, True):
                options = {"add_special_tokens": special, "split_special_tokens": True, "verbose": False}
                (used,) = tokenizer(*texts, **options).encodings
                own = self._own.encode(text, second, add_special_tokens=special)
                if own.ids != used.ids or (has_types and special and own.type_ids != used.type_ids):
                    return f"token ids of {text!r}" + (f" and {second!r}" if second is not None else "")
        return ""


def without_dropout(tokenizer: Tokenizer) -> None:
    """Turn off the dropout of merges, which is for training: a text would have other tokens each time."""
    model: Any = tokenizer.model
    if getattr(model, "dropout", None) is not None:
        model.dropout = None


def is_repaired(tokenizer: Any) -> bool:
    """Return whether transformers replaced the pre-tokenizer of the file on purpose: it sets an attribute then."""
    return bool(getattr(tokenizer.backend_tokenizer, MISTRAL_FIX, False))


def _as_json(part: Any, name: str) -> Any:
    """Return the JSON of a part, with the values of all its options."""
    tokenizer = Tokenizer(models.BPE())
    setattr(tokenizer, name, part)
    return json.loads(tokenizer.to_str())[name]


def _results(part: Any, name: str) -> Any:
    """Return the results of a part for all awkward texts."""
    if name == "post_processor":
        return _post_processed(part)
    return [_apply(part, text) for text in AWKWARD]


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


def _post_processed(post_processor: Any) -> list[tuple[list[int], list[int]]]:
    """Return the ids and the type ids of a text and of two pairs of texts, with special tokens."""
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="one"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = post_processor
    encodings = [tokenizer.encode("one two"), tokenizer.encode("one two", "two"), tokenizer.encode("one", "two one")]
    return [(encoding.ids, encoding.type_ids) for encoding in encodings]
