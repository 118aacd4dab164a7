"""Labels of `NextToken` requests -> token ids."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lbr_cli.core import NextToken
from lbr_cli.errors import MissingError


class LabelIds:
    """Looks up the token ids of labels, once for each set of labels."""

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._ids = lru_cache(None)(self._look_up)

    def __call__(self, request: NextToken) -> list[int]:
        """Return a token id for each label of a request. MissingError for a label without a token."""
        return self._ids(request.labels, request.logits)

    def _look_up(self, labels: tuple[str | int, ...], first: bool) -> list[int]:
        return [label if isinstance(label, int) else self._id(label, first=first) for label in labels]

    def _id(self, label: str, *, first: bool) -> int:
        """Return the only token of a label, else the token of that name, else (if `first`) its first token."""
        ids: list[int] = self._tokenizer(label, add_special_tokens=False)["input_ids"]
        if len(ids) == 1 and self._tokenizer.decode(ids) == label:
            return ids[0]
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        if label in vocabulary:
            return vocabulary[label]
        if first and ids:
            return ids[0]
        raise MissingError(f"{self._model}: its tokenizer has no single token for the label {label!r}")
