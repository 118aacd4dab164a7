"""Create the requests of a pair, load the local engine, and compute answers and scores with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lbr_cli.core import Answer, Document, Engine, Family, Query, Request, Score
from lbr_cli.engines import Settings, prepare_engine
from lbr_cli.models import LocalModel, fetch, resolve
from lbr_cli.scoring import Scorer
from support.progress import RecordedProgress


def ask(family: Family, query: str, text: str, title: str = "") -> tuple[Request, ...]:
    """Return the requests of a pair."""
    return family.requests(query, Document("d", text, title))


def load(model: LocalModel, settings: Settings) -> Any:
    """Load the local engine."""
    return prepare_engine("local", model, settings).load()


def answered(engine: Engine, requests: Sequence[Request]) -> list[Answer]:
    """Return the answers to requests, in their order. The engine receives the distinct ones in one window."""
    batches = engine.answer([list(dict.fromkeys(requests))])
    by_request = {request: answer for batch in batches for request, answer in batch.answers}
    return [by_request[request] for request in requests]


def local_scores(
    folder: Path,
    family: str | None,
    dtype: str,
    queries: Sequence[str],
    documents: Sequence[str],
    chosen: dict[str, Any] | None = None,
    *,
    trusted: bool = False,
) -> list[Score]:
    """Return the scores of all documents for each query, which the local engine computes query by query."""
    progress = RecordedProgress()
    model = fetch(resolve(str(folder), family, chosen=chosen or {}, trusted=trusted), progress)
    scorer = Scorer(model.family, prepare_engine("local", model, Settings("cpu", dtype)).load, progress)
    numbered = [Document(str(number), text) for number, text in enumerate(documents)]
    return [
        score
        for number, query in enumerate(queries)
        for score in scorer.score_query(Query(str(number), query), numbered)
    ]
