"""The page of `lbr report`: one HTML file that loads nothing else and never interprets texts as markup.

`page_data` computes its content; `page/` holds its style and scripts.
"""

from __future__ import annotations

import re
from typing import Any

from lbr_cli.report.html_json import html_json

SCRIPTS = ("text.js", "matches.js", "summary.js", "table.js", "query.js", "main.js")


def page(data: dict[str, Any], title: str) -> bytes:
    """Return the page with the result of `page_data`, as HTML in UTF-8."""
    from importlib.resources import files

    folder = files("lbr_cli.report") / "page"
    read = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "style.css", *SCRIPTS)}
    parts = {
        "title": title.replace("&", "&amp;").replace("<", "&lt;"),
        "style": read["style.css"],
        "script": "\n".join(read[name] for name in SCRIPTS),
        "data": html_json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], read["page.html"]).encode()
