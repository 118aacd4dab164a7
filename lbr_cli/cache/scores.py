"""The cached scores of one model with one identity.

A key is a digest of the identity and of the requests of a pair, which hold both texts. A family is pure, so nothing
else can change the score. No text is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from lbr_cli.cache import KEY_BYTES, Cache, key_digest
from lbr_cli.core import Request, Score

__all__ = ["KEY_BYTES", "PairRequests", "ScoreCache"]

PairRequests = tuple[Request, ...]  # the requests of one pair


class ScoreCache:
    """The scores of a model in `cache`. `identity` is the digest of what determines a score, except the texts."""

    def __init__(self, cache: Cache | None = None, identity: bytes = b"", model: str = "") -> None:
        self._cache = cache if identity else None  # without an identity, all models would share their scores
        self._model = model
        self._digest = key_digest(identity)

    @property
    def enabled(self) -> bool:
        """Whether scores are stored."""
        return self._cache is not None and self._cache.on

    def key(self, pair: PairRequests) -> bytes:
        """Return the key of a pair."""
        try:
            data = orjson.dumps(pair)
        except TypeError:  # a text from the Python API may hold a lone surrogate
            data = repr(pair).encode()
        digest = self._digest.copy()
        digest.update(len(data).to_bytes(8, "little") + data)
        return digest.digest()

    def contains(self, keys: Sequence[bytes]) -> list[bool]:
        """Return for each key whether the cache has a row for it, damaged or not."""
        present = self._cache.contains(keys) if self._cache else set()
        return [key in present for key in keys]

    def get(self, keys: Sequence[bytes]) -> list[Score | None]:
        """Return the cached scores, None for keys without one."""
        rows = self._cache.get(keys) if self._cache else {}
        return [Score(*orjson.loads(rows[key])) if key in rows else None for key in keys]

    def put(self, scores: Mapping[bytes, Score]) -> None:
        """Store scores by key, as `Cache.put` does."""
        if self._cache:
            rows = {key: orjson.dumps((score.value, score.details, score.warning)) for key, score in scores.items()}
            self._cache.put(rows, self._model)
