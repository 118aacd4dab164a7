"""`Pair` requests -> token ids, as the tokenizer joins a query and a document.

Only the document is shortened; special tokens spelt out in a text stay plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lbr_cli.core import Pair, Request
from lbr_cli.engines.prompts import NoRoom, Prompt


class Pairs:
    """Turns `Pair` requests into inputs of at most `max_length` tokens."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.max_length = max_length
        self._tokenizer = tokenizer

    def encoded(self, pairs: Sequence[Pair]) -> Any:
        """What the tokenizer makes of them: ids, token types where it has them, and what did not fit."""
        return self._tokenizer(
            [pair.query for pair in pairs],
            [pair.document for pair in pairs],
            truncation="only_second",
            max_length=self.max_length,
            split_special_tokens=True,
        )

    def prompt(self, pair: Pair) -> Prompt:
        """The ids of a pair. Raises NoRoom where not one token of the document fits."""
        used = self.length_without_document(pair)
        if used >= self.max_length:
            raise NoRoom(used)
        encoded = self.encoded([pair])
        # a tokenizer that adds nothing makes nothing of two empty texts: they are read as one token of padding
        ids = encoded["input_ids"][0] or [self._tokenizer.pad_token_id or 0]
        return Prompt(ids, bool(encoded.encodings[0].overflowing))

    def length_without_document(self, pair: Pair) -> int:
        query = self._tokenizer(pair.query, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return len(query["input_ids"]) + int(self._tokenizer.num_special_tokens_to_add(pair=True))


def as_pair(request: Request) -> Pair:
    """The request of a family that asks about pairs."""
    if not isinstance(request, Pair):
        raise TypeError(f"a Pair request was expected, not {type(request).__name__}")
    return request
