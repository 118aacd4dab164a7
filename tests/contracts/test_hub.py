"""The published numbers of the LB reranker, reproduced from its own weights: pytest -m hub.

Source: the README of lightblue-tech/lb-reranker, its vLLM example. Engines differ by up to 0.024 on these weights.
"""

from __future__ import annotations

import json

import pytest

from lbr_cli.doctor import PUBLISHED, PUBLISHED_TEXT, PUBLISHED_TOLERANCE
from support.program import Program


@pytest.mark.hub
@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_scores_equal_the_published_values(lbr: Program, dtype: str) -> None:
    pair = {"doc_id": "apple", "text": PUBLISHED_TEXT}
    lines = [json.dumps(pair | {"query_id": query, "query": query}) for query in PUBLISHED]
    ended = lbr("rerank", "--model", "lb", "--dtype", dtype, "--explain", stdin="\n".join(lines).encode())
    assert ended.code == 0, ended.err
    assert {record["query_id"]: record["score"] for record in ended.records} == pytest.approx(
        PUBLISHED, abs=PUBLISHED_TOLERANCE
    )
    assert all(record["mass"] > 0.9 for record in ended.records)
