"""The page of `lbr report`: one file that opens anywhere, asks for nothing, and shows texts as text.

`story` says what it tells; `page/` holds what it looks like (style.css) and how it behaves (the scripts). Here they are
put together.
"""

from __future__ import annotations

import re
from typing import Any

from lbr_cli.report.data import as_data

SCRIPTS = ("text.js", "summary.js", "table.js", "query.js", "main.js")


def page(story: dict[str, Any], title: str) -> bytes:
    """The page that tells a story, as HTML in UTF-8."""
    from importlib.resources import files

    folder = files("lbr_cli.report") / "page"
    read = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "style.css", *SCRIPTS)}
    parts = {
        "title": _escaped(title),
        "style": read["style.css"],
        "script": "\n".join(read[name] for name in SCRIPTS),
        "data": as_data(story),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], read["page.html"]).encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
