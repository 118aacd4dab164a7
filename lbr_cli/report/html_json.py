"""JSON that is safe inside an HTML `script` element."""

from __future__ import annotations

from typing import Any

import orjson

ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def html_json(value: Any) -> str:
    """Return JSON with the characters of markup and the line ends of JavaScript escaped."""
    return orjson.dumps(value).decode().translate(ESCAPES)


def html_json_size(value: Any) -> int:
    """Return the size in bytes of the result of `html_json` in UTF-8."""
    return len(html_json(value).encode())
