"""The scores of pairs in the cache, for one model with one identity.

A key is a digest of that identity and of the requests of a pair, which hold both texts. A family is pure, so nothing
else can change the score. No text is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from lbr_cli.cache import Cache, key_of
from lbr_cli.core import Request, Score

PairRequests = tuple[Request, ...]  # of one pair


class Scores:
    """The scores of a model in `cache`. `context` is everything but the texts that decides a score."""

    def __init__(self, cache: Cache | None = None, context: bytes = b"", model: str = "") -> None:
        self.context = context
        self._cache = cache
        self._model = model

    @property
    def on(self) -> bool:
        """Whether scores are stored. They are not without a context, which would make all models one."""
        return self._cache is not None and self._cache.on and bool(self.context)

    def holds(self, pairs: Sequence[PairRequests]) -> list[bool]:
        """Return for each pair whether the cache has a row for it, damaged or not."""
        if self._cache is None or not self.on:
            return [False] * len(pairs)
        keys = [self._key(pair) for pair in pairs]
        there = self._cache.holds(keys)
        return [key in there for key in keys]

    def find(self, pairs: Sequence[PairRequests]) -> list[Score | None]:
        """Return the cached scores, None for pairs without one."""
        if self._cache is None or not self.on:
            return [None] * len(pairs)
        keys = [self._key(pair) for pair in pairs]
        there = self._cache.find(keys)
        return [Score(*orjson.loads(there[key])) if key in there else None for key in keys]

    def keep(self, scores: Mapping[PairRequests, Score]) -> None:
        """Store scores; they are in the file when this returns."""
        if self._cache is not None and self.on:
            rows = {
                self._key(pair): orjson.dumps((score.value, score.details, score.warning))
                for pair, score in scores.items()
            }
            self._cache.keep(rows, self._model)

    def _key(self, pair: PairRequests) -> bytes:
        try:
            data = orjson.dumps(pair)
        except TypeError:  # a text from the Python API may hold a lone surrogate
            data = repr(pair).encode()
        return key_of(self.context, data)
