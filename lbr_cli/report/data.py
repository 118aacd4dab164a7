"""Values as JSON that can stand inside a page: nothing in it ends the element that holds it, or a line of it."""

from __future__ import annotations

from typing import Any

import orjson

ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def as_data(value: Any) -> str:
    """JSON, in which the letters of markup and of line ends are escaped."""
    return orjson.dumps(value).decode().translate(ESCAPES)


def weight(value: Any) -> int:
    """How many bytes that takes in UTF-8."""
    return len(as_data(value).encode())
