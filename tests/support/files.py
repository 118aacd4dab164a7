"""A small run with its queries and its corpus, which most tests of the command line rerank."""

from __future__ import annotations

from pathlib import Path

RUN = "q1 Q0 d1 1 9.5 bm25\nq1 Q0 d2 2 8.1 bm25\nq2 Q0 d2 1 7.0 bm25\n"
QUERIES = "q1\tripe fig colour\nq2\ttram gauge\n"
DOCS = (
    '{"_id":"d1","title":"Figs","text":"Ripe figs turn purple."}\n'
    '{"_id":"d2","title":"","text":"Lisbon trams use 900 mm gauge."}\n'
    '{"_id":"d3","title":"","text":"Bread needs salt."}\n'
)


def write(folder: Path, contents: dict[str, str | bytes]) -> Path:
    """Write files, by name, and return their folder."""
    for name, content in contents.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
