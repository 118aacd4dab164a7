"""A rerank server for tests, in the four dialects: text-embeddings-inference, Jina, Cohere and Voyage.

A score depends only on the two texts, by `score_of`. `Behaviour` defines the limits of the server. `failure` returns
what goes wrong with a request to `/rerank`, given its number; "" for nothing.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Failure = Callable[[int], str]
PREFIXES = {"tei": "", "jina": "/v1", "cohere": "/v2", "voyage": "/v1"}
TEI_INFO = {"model_id": "some/model", "model_sha": "abc", "served_model_name": "tiny", "max_client_batch_size": 32}


@dataclass(frozen=True)
class Behaviour:
    """The dialect, the limits and the endpoints of a server.

    `longest` is the maximum length of a document in characters, `too_long` the status and the message of a request with
    a longer one. `most` is the maximum number of documents of a request, `too_many` the status of a request with more.
    `info` is the response to /info, `models` the response to /models; None is 404. `root` serves without the prefix of
    the dialect.
    """

    dialect: str
    longest: int = 10**6
    too_long: tuple[int, str] = (400, "a document has more than {longest} tokens")
    most: int = 10**6
    too_many: int = 422
    info: Mapping[str, Any] | None = None
    models: tuple[Mapping[str, Any], ...] | None = None
    root: bool = False


@dataclass
class Reranking:
    """A server that is running, and the requests that it has received."""

    url: str
    root: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0

    @property
    def sizes(self) -> list[int]:
        """The number of documents of each request to /rerank."""
        return [len(body.get("texts") or body.get("documents") or ()) for body in self.bodies]


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def score_of(query: str, document: str) -> float:
    """Return the score of a pair: a logit with few decimals."""
    digest = hashlib.sha256(f"{query}\0{document}".encode()).digest()
    return (int.from_bytes(digest[:3], "big") - 2**23) / 2**20


@contextmanager
def reranking(
    behaviour: Behaviour, failure: Failure = lambda number: "", key: str = "", wait: Callable[[], None] = lambda: None
) -> Iterator[Reranking]:
    """Serve on a free local port. `wait` is called before a response to /rerank."""
    lock = threading.Lock()
    prefix = "" if behaviour.root else PREFIXES[behaviour.dialect]
    at_once = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None: ...

        def do_GET(self) -> None:
            known = {"/info": behaviour.info, f"{prefix}/models": behaviour.models and {"data": behaviour.models}}
            state.paths.append(self.path)
            found = known.get(self.path)
            self.send(200 if found else 404, found or {"detail": "Not Found"})

        def do_POST(self) -> None:
            nonlocal at_once
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(state.bodies)
                at_once += 1
                state.most_at_once = max(state.most_at_once, at_once)
                state.bodies.append(body)
                state.paths.append(self.path)
                state.headers.append({name.lower(): value for name, value in self.headers.items()})
            try:
                wait()
                wrong = failure(number)
                if key and self.headers.get("Authorization") != f"Bearer {key}":
                    raise Refusal(401, f"invalid key {self.headers.get('Authorization')}")
                if wrong.isdecimal():
                    raise Refusal(int(wrong), f"failure {key}")
                if wrong == "cut":
                    self.close_connection = True
                    return
                if self.path != f"{prefix}/rerank":
                    raise Refusal(404, f"no such path: {self.path}")
                self.send(200, corrupted(response(behaviour, body), wrong), wrong)
            except Refusal as error:
                self.send(error.status, refusal(behaviour.dialect, str(error)))
            finally:
                with lock:
                    at_once -= 1

        def send(self, status: int, value: Any, wrong: str = "") -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if status == 429:
                self.send_header("Retry-After", "0.01")
            self.end_headers()
            if wrong == "page":
                content = b"<html>Bad Gateway".ljust(len(content))[: len(content)]
            if wrong == "malformed":
                content = content[: len(content) // 2].ljust(len(content))
            if wrong == "short":
                content, self.close_connection = content[: len(content) // 2], True
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    root = f"http://127.0.0.1:{server.server_port}"
    state = Reranking(root + prefix, root)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


def response(behaviour: Behaviour, body: Mapping[str, Any]) -> Any:
    """Return the response of a server to a valid request. Raises Refusal for one that exceeds its limits."""
    tei = behaviour.dialect == "tei"
    documents = body["texts"] if tei else body["documents"]
    if len(documents) > behaviour.most:
        raise Refusal(behaviour.too_many, f"batch size {len(documents)} > maximum allowed batch size {behaviour.most}")
    truncates = body.get("truncate") or body.get("truncation") or body.get("truncate_prompt_tokens") == -1
    if not truncates and any(len(document) > behaviour.longest for document in documents):
        status, message = behaviour.too_long
        raise Refusal(422 if tei else status, message.format(longest=behaviour.longest))
    raw = tei or body.get("use_activation") is False or body.get("raw_scores")
    scores = [score_of(body["query"], document[: behaviour.longest]) for document in documents]
    shown = scores if raw else [round(0.5 + score / 16, 9) for score in scores]
    name = "score" if tei else "relevance_score"
    results = [{"index": index, name: score} for index, score in enumerate(shown)]
    results.sort(key=lambda result: -result[name])
    if tei:
        return results
    return {"data" if behaviour.dialect == "voyage" else "results": results, "usage": {"total_tokens": len(documents)}}


def refusal(dialect: str, message: str) -> Mapping[str, Any]:
    """Return the body of an error as the servers of a dialect write it."""
    return {
        "tei": {"error": message, "error_type": "Validation"},
        "jina": {"error": {"message": message}},
        "cohere": {"message": message},
        "voyage": {"detail": message},
    }[dialect]


def corrupted(answer: Any, wrong: str) -> Any:
    """Return the response with the fault `wrong`, still as JSON."""
    results = answer if isinstance(answer, list) else answer.get("results") or answer.get("data")
    score = next(name for name in results[0] if name != "index")
    last = results[-1]
    if wrong == "missing":
        del results[-1]
    elif wrong == "duplicate":
        results[-1] = dict(results[0]) if len(results) > 1 else {**last, "index": 1}
    elif wrong == "range":
        last["index"] = len(results)
    elif wrong == "negative":
        last["index"] = -1
    elif wrong == "extra":
        results.append({"index": len(results), score: 1.0})
    elif wrong in BAD_SCORES:
        last[score] = BAD_SCORES[wrong]
    elif wrong == "object":
        return {"answer": answer}
    elif wrong == "error":
        return {"error": {"message": "overloaded"}}
    return answer


BAD_SCORES: Mapping[str, Any] = {
    **{"nan": float("nan"), "infinite": float("inf"), "large": 1e39, "null": None, "text": "0.5", "true": True},
    "list": [0.5],
}
INVALID = ("missing", "duplicate", "range", "negative", "extra", "object", "error", *BAD_SCORES)
FAILURES = ("429", "500", "503", "408", "cut", "page", "malformed", "short", *INVALID)
