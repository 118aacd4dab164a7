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
        self._early: set[bytes] = set()

    @property
    def on(self) -> bool:
        """Whether anything is kept."""
        return self._cache is not None and self._cache.on

    def holds(self, pairs: Sequence[Asked]) -> list[bool]:
        """Which of `pairs` need most likely not be computed."""
        if self._cache is None or not self.on:
            return [False] * len(pairs)
        keys = [self._key(pair) for pair in pairs]
        there = self._cache.holds(keys)
        return [key in there for key in keys]

    def find(self, pairs: Sequence[Asked]) -> tuple[list[Score | None], int]:
        """The scores of those that are known, and how many of them were not computed early in this run."""
        if self._cache is None or not self.on:
            return [None] * len(pairs), 0
        keys = [self._key(pair) for pair in pairs]
        there = self._cache.find(keys)
        early = sum(key in self._early and key in there for key in keys)
        self._early.difference_update(keys)
        scores = [Score(*orjson.loads(there[key])) if key in there else None for key in keys]
        return scores, sum(score is not None for score in scores) - early

    def keep(self, scores: Mapping[Asked, Score], early: Mapping[Asked, Score]) -> None:
        """Have them in the cache when this returns. `early` are those that the job has not come to yet."""
        if self._cache is None or not self.on:
            return
        rows = {}
        for pairs in (scores, early):
            for pair, score in pairs.items():
                rows[self._key(pair)] = orjson.dumps((score.value, score.detail, score.doubt))
        self._cache.keep(rows, self._model)
        self._early.update(self._key(pair) for pair in early)

    def _key(self, pair: Asked) -> bytes:
        try:
            asked = orjson.dumps(pair)
        except TypeError:  # a query on the command line may hold bytes that are no UTF-8
            asked = repr(pair).encode()
        return key_of(self.context, asked)
