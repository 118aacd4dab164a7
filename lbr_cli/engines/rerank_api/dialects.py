"""The dialects of rerank servers: the body of a request, and the scores in a response.

    tei      text-embeddings-inference
    jina     Jina, and vLLM, llama.cpp and infinity, which follow it
    cohere   Cohere, version 2 of its API
    voyage   Voyage

A response lists its results in the order of their scores, each with the index of its document in the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lbr_cli.engines import ONE_MODEL
from lbr_cli.engines.http_client import json_object
from lbr_cli.engines.response_errors import BadResponse, InvalidValue

LARGEST_SCORE = 3.4e38  # the largest magnitude of a float32, which scores are written as


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of requests and responses. Requests go to `/rerank`, on most servers below `prefix`.

    `texts`, `results` and `score` are names of fields; `results` is "" if the response is the list of results itself,
    `count` is "" if no number of results can be requested. Most servers accept `batch` documents in a request.
    `fields` are added to each request, `truncation` to a request with one refused document, so that the server
    truncates it. `raw` means that the scores have no activation.
    """

    name: str
    prefix: str = ""
    texts: str = "documents"
    results: str = "results"
    score: str = "relevance_score"
    count: str = "top_n"
    batch: int = 32
    fields: Mapping[str, Any] = field(default_factory=dict)
    truncation: Mapping[str, Any] = field(default_factory=dict)
    raw: bool = False

    def body(self, model: str, query: str, documents: Sequence[str], *, truncate: bool = False) -> dict[str, Any]:
        """Return the JSON body of a request."""
        body: dict[str, Any] = {} if self.name in ONE_MODEL else {"model": model}
        body |= {"query": query, self.texts: list(documents)}
        if self.count:
            body[self.count] = len(documents)
        return body | dict(self.fields) | (dict(self.truncation) if truncate else {})

    def scores(self, response: Any, size: int) -> list[float]:
        """Return the scores of a response in the order of the `size` documents. BadResponse for an invalid one."""
        results = json_object(response).get(self.results) if self.results else response
        if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
            raise BadResponse("no list of results")
        scores: dict[int, float] = {}
        for result in results:
            index, score = result.get("index"), result.get(self.score)
            if type(index) is not int or not 0 <= index < size:
                raise BadResponse(f"invalid index, not one of {size} documents")
            if index in scores:
                raise BadResponse(f"duplicate index {index}")
            if type(score) not in (int, float) or not abs(score) <= LARGEST_SCORE:
                raise InvalidValue("invalid score", index)
            scores[index] = float(score)
        if len(scores) < size:
            missing = next(index for index in range(size) if index not in scores)
            raise BadResponse(f"missing index {missing}")
        return [scores[index] for index in range(size)]


def tokens_read(response: Any) -> int:
    """Return how many tokens the server counted for a request, 0 if the response does not have the count."""
    usage = response.get("usage") if isinstance(response, dict) else None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    return tokens if type(tokens) is int and tokens > 0 else 0


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            name="tei",
            texts="texts",
            results="",
            score="score",
            count="",
            fields={"raw_scores": True, "truncate": False, "return_text": False},
            truncation={"truncate": True},
            raw=True,
        ),
        Dialect(name="jina", prefix="/v1", fields={"return_documents": False}),
        Dialect(name="cohere", prefix="/v2", batch=100),
        Dialect(
            name="voyage",
            prefix="/v1",
            results="data",
            count="top_k",
            batch=100,
            fields={"return_documents": False, "truncation": False},
            truncation={"truncation": True},
        ),
    )
}

# servers of the dialect jina by `owned_by` in their list of models -> fields that Jina's own API does not have
VLLM_FIELDS, VLLM_TRUNCATION = {"use_activation": False}, {"truncate_prompt_tokens": -1}
INFINITY_FIELDS = {"raw_scores": True}


def of_server(dialect: Dialect, owner: Any) -> Dialect:
    """Return a dialect with the fields that the software of a server supports beyond it."""
    if owner == "vllm":
        return replace(dialect, fields={**dialect.fields, **VLLM_FIELDS}, truncation=VLLM_TRUNCATION, raw=True)
    if owner == "infinity":
        return replace(dialect, fields={**dialect.fields, **INFINITY_FIELDS}, raw=True)
    return replace(dialect, raw=owner == "llamacpp")  # llama.cpp always returns raw scores
