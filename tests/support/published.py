"""Published scores: one query and four documents, computed by sentence-transformers with the published weights.

Source: huggingface/sentence-transformers at cad2119, tests/cross_encoder/test_pretrained.py and
tests/sentence_transformer/test_pretrained.py. The values were computed in bfloat16 with the versions of that commit.
Those of late interaction are in tests/multi_vector_encoder/test_pretrained.py, computed by PyLate in float32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from support.program import Program

QUERY = "Which planet is known as the Red Planet?"
DOCUMENTS = (
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
)
ABSOLUTE, RELATIVE = 0.01, 0.01  # tolerances of the source for cross-encoders and for bi-encoders
ROUNDING = 2**-8  # relative rounding error of bfloat16, in which cross-encoder values are published


@dataclass(frozen=True)
class Published:
    """The published values of the four documents.

    `key` is the field of the values in the output of `lbr rerank --explain`. The source takes the prompts of a
    bi-encoder from its files.
    """

    values: Sequence[float]
    key: str = "score"
    is_bi_encoder: bool = False
    dtype: str = "bfloat16"


def probabilities(*values: float) -> Published:
    return Published(values, "probability")


def similarities(*values: float) -> Published:
    return Published(values, is_bi_encoder=True)


def late_interaction(*values: float) -> Published:
    return Published(values, dtype="float32")


# by alias
PUBLISHED = {
    "gte-modernbert": probabilities(0.80859, 0.95312, 0.875, 0.91797),
    "bge-base": probabilities(0.87891, 0.99609, 0.99609, 0.05029),
    "bge-large": probabilities(0.69922, 1.0, 0.97266, 0.81641),
    "bge-v2-m3": probabilities(0.01855, 1.0, 0.78906, 0.98828),
    "granite-r2": probabilities(0.78906, 0.96484, 0.89062, 0.94141),
    "mxbai-v1-xsmall": probabilities(0.21484, 0.9375, 0.57031, 0.72656),
    "mxbai-v1-base": probabilities(0.05176, 0.96875, 0.71484, 0.16895),
    "mxbai-v1-large": probabilities(0.00711, 0.99219, 0.80469, 0.3418),
    "mmarco-minilm": Published((-3.28125, 10.1875, 3.4375, 7.46875)),
    "ms-marco-minilm": Published((-6.53125, 9.6875, 6.90625, 6.6875)),
    "ms-marco-minilm12": Published((-7.15625, 9.5, 5.71875, 6.84375)),
    "ms-marco-tinybert": Published((-10.875, 7.0, 5.875, 5.6875)),
    "minilm": similarities(0.46371, 0.81205, 0.72828, 0.75051),
    "bge-small-en": similarities(0.60191, 0.82845, 0.7786, 0.70781),
    "bge-m3": similarities(0.41025, 0.71249, 0.64761, 0.65188),
    "gte-base": similarities(0.8318, 0.93046, 0.88728, 0.89532),
    "e5-small": similarities(0.81157, 0.90596, 0.87089, 0.85667),
    "e5-base": similarities(0.79167, 0.87705, 0.85579, 0.86696),
    "qwen3-embed-0.6b": similarities(0.4838, 0.69335, 0.58793, 0.6647),
    "embeddinggemma": similarities(0.30141, 0.63614, 0.4938, 0.48726),
    "colbertv2": late_interaction(12.79703, 27.19449, 23.8495, 24.56564),
    "answerai-colbert-small": late_interaction(30.56916, 31.48954, 31.30291, 31.30716),
    "gte-moderncolbert": late_interaction(11.25772, 11.51133, 11.34575, 11.4518),
    "lateon": late_interaction(10.79417, 11.11042, 10.97427, 11.08107),
    "mxbai-edge-colbert-17m": late_interaction(11.56932, 11.75844, 11.70989, 11.72288),
}


def check_published(lbr: Program, model: str, published: Published, dtype: str = "") -> None:
    """Compare the scores of a model with the published ones, within the tolerance of the source."""
    line = json.dumps({"query": QUERY, "documents": DOCUMENTS}).encode()
    ended = lbr("rerank", "--model", model, "--dtype", dtype or published.dtype, "--explain", stdin=line)
    assert ended.code == 0, ended.err
    found = {record["doc_id"]: record[published.key] for record in ended.records}
    for number, value in enumerate(published.values):
        allowed = (
            RELATIVE * abs(value)
            if published.is_bi_encoder
            else ABSOLUTE + ROUNDING * abs(value) * (published.dtype != "float32")
        )
        assert found[str(number)] == pytest.approx(value, abs=allowed, rel=0), f"document {number}"
