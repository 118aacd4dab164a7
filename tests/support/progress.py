"""A `Progress` for tests."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext


class RecordedProgress:
    """A `Progress` that records what is reported."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.pairs = self.cached = self.queries = self.tokens = 0
        self.total: tuple[int, int, int] | None = None

    def status(self, what: str) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def start(self, queries: int, pairs: int, cached: int) -> None:
        self.total = (queries, pairs, cached)

    def advance(self, *, queries: int = 0, pairs: int = 0, cached: int = 0, tokens: int = 0) -> None:
        self.queries += queries
        self.pairs += pairs
        self.cached += cached
        self.tokens += tokens

    def paused(self) -> AbstractContextManager[None]:
        return nullcontext()
