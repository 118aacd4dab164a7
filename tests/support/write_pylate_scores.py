"""Write `pylate_scores.json`: the scores of PyLate for the folders of `late_interaction.pylate`.

PyLate pins versions that conflict with those of lbr, so this runs in an environment of its own:

    python -m venv /tmp/pylate && /tmp/pylate/bin/pip install pylate==1.6.0
    PYTHONPATH=tests /tmp/pylate/bin/python -m support.write_pylate_scores
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from support.late_interaction import DOCUMENTS, PYLATE_FOLDERS, QUERIES, pylate, without_special_tokens

SCORES = Path(__file__).with_name("pylate_scores.json")


def scores(folder: Path, has_prompts: bool) -> list[list[float]]:
    """Return the scores of all documents for each query. PyLate adds a prompt only by its name."""
    from pylate import models, rank

    model = models.ColBERT(str(folder), device="cpu")
    query, document = ("query", "document") if has_prompts else (None, None)
    queries = model.encode(without_special_tokens(QUERIES), is_query=True, prompt_name=query)
    documents = model.encode(without_special_tokens(DOCUMENTS), is_query=False, prompt_name=document)
    ids = [list(range(len(DOCUMENTS)))] * len(QUERIES)
    ranked = rank.rerank(ids, queries, [documents] * len(QUERIES))
    by_id = [{row["id"]: float(row["score"]) for row in rows} for rows in ranked]
    return [[round(rows[number], 6) for number in ids[0]] for rows in by_id]


if __name__ == "__main__":
    by_folder = {}
    for name, settings in PYLATE_FOLDERS.items():
        with tempfile.TemporaryDirectory() as folder:
            by_folder[name] = scores(pylate(Path(folder) / "model", **settings), "prompts" in settings)
    SCORES.write_text(json.dumps(by_folder, indent=1) + "\n")
