"""What a model would read of a request: its tokenizer at work, without any weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from lbr_cli.core import Request
from lbr_cli.engines import Settings
from lbr_cli.models import Model

SENDS_TOKEN_IDS = ("vllm", "openai")


class Reader(Protocol):
    """Requests -> the tokens that an engine would have its model read."""

    @property
    def max_length(self) -> int: ...

    def prompt(self, request: Request, place: int = 0) -> tuple[list[int], bool]:
        """Token ids, and whether the document was shortened. RequestError with `place` for a query without room."""
        ...

    def text(self, ids: list[int]) -> str:
        """Those tokens as text, special tokens spelt out."""
        ...


def reader(engine: str, model: Model, settings: Settings) -> Reader:
    """The reader of an engine for a model whose tokenizer is at hand.

    Raises UsageError and MissingError as the engine would for what it cannot use.
    """
    # these import transformers
    if engine in SENDS_TOKEN_IDS:
        from lbr_cli.engines.next_token import TokenIds

        return TokenIds(model, settings, engine)
    from lbr_cli.engines.local import read

    return read(model, settings)


def measured(reader: Reader, requests: Iterable[Request]) -> tuple[list[int], int]:
    """How long distinct requests are in tokens, and how many would be truncated."""
    found: dict[Request, tuple[int, bool]] = {}
    for place, request in enumerate(requests):
        if request not in found:
            ids, truncated = reader.prompt(request, place)
            found[request] = len(ids), truncated
    return [length for length, _ in found.values()], sum(truncated for _, truncated in found.values())
