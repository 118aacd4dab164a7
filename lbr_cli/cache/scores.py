"""Pairs -> their scores, of one model in one setting.

A key digests that setting and what the family asks about a pair, which holds both texts: as a family is pure, nothing
else can change the score. No text is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from lbr_cli.cache import Cache, key_of
from lbr_cli.core import Request, Score

Asked = tuple[Request, ...]  # about a pair


class Scores:
    """What `cache` knows of a model. `context` is everything but the texts that decides a score."""

    def __init__(self, cache: Cache | None = None, context: bytes = b"", model: str = "") -> None:
        self.context = context
        self._cache = cache
        self._model = model

    @property
    def on(self) -> bool:
        """Whether anything is kept: not without a context, in which all models would be one."""
        return self._cache is not None and self._cache.on and bool(self.context)

    def holds(self, pairs: Sequence[Asked]) -> list[bool]:
        """Which of `pairs` need most likely not be computed."""
        if self._cache is None or not self.on:
            return [False] * len(pairs)
        keys = [self._key(pair) for pair in pairs]
        there = self._cache.holds(keys)
        return [key in there for key in keys]

    def find(self, pairs: Sequence[Asked]) -> list[Score | None]:
        """The scores of those that are known."""
        if self._cache is None or not self.on:
            return [None] * len(pairs)
        keys = [self._key(pair) for pair in pairs]
        there = self._cache.find(keys)
        return [Score(*orjson.loads(there[key])) if key in there else None for key in keys]

    def keep(self, scores: Mapping[Asked, Score]) -> None:
        """Have them in the cache when this returns."""
        if self._cache is not None and self.on:
            rows = {
                self._key(pair): orjson.dumps((score.value, score.detail, score.doubt))
                for pair, score in scores.items()
            }
            self._cache.keep(rows, self._model)

    def _key(self, pair: Asked) -> bytes:
        try:
            asked = orjson.dumps(pair)
        except TypeError:  # a text that comes from no file may hold half a letter (a lone surrogate)
            asked = repr(pair).encode()
        return key_of(self.context, asked)
