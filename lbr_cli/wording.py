"""How messages name pairs, counts and examples."""

from __future__ import annotations

from collections.abc import Iterable


def pair_name(query_id: str, doc_id: str) -> str:
    """Return "query q1, document d1"."""
    return f"query {query_id}, document {doc_id}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 pair" or "2 pairs"; `plural` is for nouns that take more than an s."""
    return f"1 {noun}" if count == 1 else f"{count} {plural or noun + 's'}"


def first_few(items: Iterable[str], limit: int = 5) -> str:
    """Return the first distinct items, separated by commas, and an ellipsis if there are more."""
    distinct = list(dict.fromkeys(items))
    return ", ".join(distinct[:limit]) + (", …" if len(distinct) > limit else "")
