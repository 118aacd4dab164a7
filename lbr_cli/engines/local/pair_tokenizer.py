"""`Pair` requests -> token ids, as the tokenizer joins a query and a document.

Only the document is truncated; special tokens written out in a text stay plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lbr_cli.core import Pair
from lbr_cli.engines.prompts import Prompt, check_plain, check_room


class PairTokenizer:
    """Turns `Pair` requests into inputs of at most `max_length` tokens."""

    def __init__(self, tokenizer: Any, max_length: int, model: str) -> None:
        self.max_length = max_length
        self._tokenizer = tokenizer
        self._model = model
        self.pad = tokenizer.pad_token_id or 0

    def inputs(self, pairs: Sequence[Pair]) -> list[Prompt]:
        """Return the inputs of pairs that pass `check_room`.

        A pair without any token, special tokens included, becomes one padding token.
        """
        encoded = self._tokenizer(
            [pair.query for pair in pairs],
            [pair.document for pair in pairs],
            truncation="only_second",
            max_length=self.max_length,
            split_special_tokens=True,
        )
        types = encoded.get("token_type_ids") or [None] * len(pairs)
        return [
            Prompt(pair, ids or [self.pad], bool(encoding.overflowing), kinds if kinds is None else kinds or [0])
            for pair, ids, kinds, encoding in zip(pairs, encoded["input_ids"], types, encoded.encodings, strict=True)
        ]

    def prompt(self, pair: Pair) -> Prompt:
        """Return the input of a pair. RequestError if not one token of the document fits."""
        check_room(self, pair)
        (prompt,) = self.inputs([pair])
        return prompt

    def length_without_document(self, pair: Pair) -> int:
        """Return how many tokens the input has if its document is empty."""
        query = self._tokenizer(pair.query, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return len(query["input_ids"]) + int(self._tokenizer.num_special_tokens_to_add(pair=True))

    def check_special_tokens(self, sample: Pair) -> None:
        """Raise MissingError for a special token in a prompt; `sample` is a pair of prompts without texts."""
        hint = "write the whole prompt to a file, for --prompt-file"
        check_plain(self._tokenizer, [sample.query, sample.document], self._model, hint)
