"""Read the details that `--explain` adds to a line. Values of another form, or of another text, are ignored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from lbr_cli.core import Document
from lbr_cli.float32 import as_float, round_trip_number

DIGITS = 7  # labels of the family lb


def has_passage(extra: Mapping[str, Any]) -> bool:
    """Return whether the score of a line comes from a passage."""
    return isinstance(extra.get("passage"), dict)


def explained(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the details of a line, and those of its best passage if the score is a mean over passages."""
    return {**extra["passage"], **extra} if has_passage(extra) else dict(extra)


def passage_span(extra: Mapping[str, Any], document: Document) -> tuple[int, int] | None:
    """Return start and end, in characters, of the passage in the text of a document; None if the text differs."""
    if not has_passage(extra):
        return None
    start, text = extra["passage"].get("start"), extra["passage"].get("text")
    if type(start) is not int or start < 0 or not isinstance(text, str) or not document.text.startswith(text, start):
        return None
    return start, start + len(text)


def shown_details(extra: Mapping[str, Any], document: Document | None) -> dict[str, Any]:
    """Return the details that the page shows beside a document."""
    details: dict[str, Any] = {}
    values = explained(extra)
    digits = values.get("digits")
    if isinstance(digits, list) and len(digits) == DIGITS and all(map(is_number, digits)):
        details["digits"] = [round(float(share), 4) for share in digits]
    for name in ("mass", "probability", "reranker_score"):
        if is_number(values.get(name)):
            details[name] = round_trip_number(float(values[name]))
    if extra.get("truncated") is True:
        details["truncated"] = True
    if document and (span := passage_span(extra, document)):
        details["passage"] = list(span)
    return details


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(as_float(value))
