"""What a job is going to ask: looked over before its first question."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from lbr_cli.core import Embedding, NextToken, Request


@dataclass(frozen=True, slots=True)
class Announced:
    """How many requests there are, and whether documents stand before queries and are met by several of them."""

    count: int
    document_first: bool


def look_over(requests: Iterable[Request], check: Callable[[Request, int], None]) -> Announced:
    """Go through the requests; `check` hears of one of each kind that differs in more than the document, and its place.

    Whatever `check` raises is raised.
    """
    kinds: set[tuple[Hashable, Hashable]] = set()
    count = 0
    for place, request in enumerate(requests):
        count += 1
        kind = around(request)
        if kind not in kinds:
            kinds.add(kind)
            check(request, place)
    befores, afters = {before for before, _ in kinds}, {after for _, after in kinds}
    return Announced(count, len(afters) > len(befores))


def around(request: Request) -> tuple[Hashable, Hashable]:
    """What stands before the document of a request, and what after it."""
    if isinstance(request, NextToken):
        return (request.frame, request.before), request.after
    return ((), ()) if isinstance(request, Embedding) else (request.query, ())


def document(request: Request) -> str:
    """The text that a request is about."""
    return request.text if isinstance(request, Embedding) else request.document
