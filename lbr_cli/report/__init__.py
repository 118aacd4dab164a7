"""The page of `lbr report`: one file that opens anywhere, asks for nothing, and shows texts as text.

`story` says what it tells; `page/` holds what it looks like (style.css) and how it behaves (the scripts). Here they are
put together.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import orjson

SCRIPTS = ("text.js", "summary.js", "table.js", "query.js", "main.js")
# what would end the element that holds the data, or a line of a script
ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def page(story: dict[str, Any], title: str) -> bytes:
    """The page that tells a story, as HTML in UTF-8."""
    folder = files("lbr_cli.report") / "page"
    read = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "style.css", *SCRIPTS)}
    parts = {
        "title": _escaped(title),
        "style": read["style.css"],
        "script": "\n".join(read[name] for name in SCRIPTS),
        "data": orjson.dumps(story).decode().translate(ESCAPES),
    }
    html = read["page.html"]
    for name, text in parts.items():
        before, after = html.split("{{" + name + "}}")
        html = before + text + after
    return html.encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
