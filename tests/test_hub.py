"""The published numbers of the LB reranker, reproduced from its own weights: pytest -m hub.

Source: the README of lightblue-tech/lb-reranker, its vLLM example. Engines differ by up to 0.024 on these weights.
"""

from __future__ import annotations

import json

import pytest
from conftest import Program

APPLE = (
    "An apple is a round, edible fruit produced by an apple tree (Malus spp., among them the domestic or orchard "
    "apple; Malus domestica)."
)
PUBLISHED = {
    "What is the scientific name of apples?": 6.66570732,
    "What is the Chinese word for 'apple'?": 1.86686378,
    "What is the square root of 999?": 1.01102923,
}


@pytest.mark.hub
@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_published_values(lbr: Program, dtype: str) -> None:
    lines = [json.dumps({"query_id": query, "doc_id": "apple", "query": query, "text": APPLE}) for query in PUBLISHED]
    ended = lbr("rerank", "--model", "lb", "--dtype", dtype, "--explain", stdin="\n".join(lines).encode())
    assert ended.code == 0, ended.err
    assert {record["query_id"]: record["score"] for record in ended.records} == pytest.approx(PUBLISHED, abs=0.03)
    assert all(record["mass"] > 0.9 for record in ended.records)
