"""Read a collection: a folder with `queries.jsonl`, `corpus.jsonl` and a TREC run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple


class Collection(NamedTuple):
    """The texts by id, those of documents after their titles, and the document ids of each query in the run."""

    queries: dict[str, str]
    documents: dict[str, str]
    run: dict[str, list[str]]


def read_collection(folder: Path) -> Collection:
    """Read the three files of a folder."""
    run: dict[str, list[str]] = {}
    for line in next(folder.glob("*.trec")).read_text(encoding="utf-8").splitlines():
        query_id, _, doc_id, *_ = line.split()
        run.setdefault(query_id, []).append(doc_id)
    return Collection(_texts(folder / "queries.jsonl"), _texts(folder / "corpus.jsonl"), run)


def _texts(path: Path) -> dict[str, str]:
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["_id"]: f"{line.get('title', '')} {line['text']}".strip() for line in lines}
