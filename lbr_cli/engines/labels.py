"""Labels of `NextToken` requests -> token ids."""

from __future__ import annotations

from typing import Any

from lbr_cli.core import NextToken
from lbr_cli.errors import MissingError


class Labels:
    """Looks up each set of labels once."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._ids: dict[tuple[tuple[str, ...], bool], list[int]] = {}

    def ids(self, request: NextToken) -> list[int]:
        """A token for each label of a request. MissingError where the tokenizer has none."""
        key = (request.labels, request.raw)
        if key not in self._ids:
            self._ids[key] = [self._id(label, first=request.raw) for label in request.labels]
        return self._ids[key]

    def _id(self, label: str, *, first: bool) -> int:
        """The token of a label: the only one of its text, else the one of that name, else, if it will do, the first."""
        ids: list[int] = self._tokenizer(label, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and self._tokenizer.decode(ids) == label:
            return ids[0]
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        if label in vocabulary:
            return vocabulary[label]
        if first and ids:
            return ids[0]
        raise MissingError(f"{self._model}: its tokenizer has no single token for the label {label!r}")
