"""Rerank servers: a request has one query and several documents, the response a score for each document.

The server tokenizes and may truncate. If its dialect allows, a request demands raw scores, and an error for documents
that are too long; such a document is sent again alone, to be truncated, and counts as truncated. A request that the
server refuses is halved until the rejected document is alone. Only the pairs of the job are sent to `/rerank`, because
a request may cost money.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lbr_cli.core import Answer, Batch, Engine, Pair, Request
from lbr_cli.engines import UNLIMITED, ComputeSpec, Server, Settings
from lbr_cli.engines.http_client import Client, Response, json_object, listed_model, missing_model
from lbr_cli.engines.in_flight import in_flight
from lbr_cli.engines.prompts import narrowed
from lbr_cli.engines.rerank_api.dialects import DIALECTS, Dialect, of_server, tokens_read
from lbr_cli.engines.response_errors import InvalidResponses, InvalidValue, Refused
from lbr_cli.engines.server_url import checked_url
from lbr_cli.errors import ComputeError, MissingError, RequestError, RunError
from lbr_cli.models import ServedModel

RERANK = "/rerank"
NOT_FOUND = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """A server before its first request: the name and the version of its model, and its limits."""

    client: Client
    dialect: Dialect
    name: str
    version: str = ""
    documents: int = UNLIMITED
    concurrent_documents: int = UNLIMITED


def prepare(model: ServedModel, settings: Settings) -> RerankApi:
    """Find the model on the server, with requests that are free.

    Raises MissingError for a missing model or key, RunError for a server that does not answer.
    """
    if settings.server is None:
        raise ValueError("the engine rerank-api needs a server")
    server = settings.server
    dialect = DIALECTS[server.dialect]
    endpoint = {"tei": _find_tei, "jina": _find_jina}.get(dialect.name, _find)(server, dialect, model)
    size = min(server.documents_per_request or endpoint.dialect.batch, endpoint.documents)
    concurrency = max(1, min(server.concurrency, endpoint.concurrent_documents // size))
    weights = " ".join(filter(None, (endpoint.client.base_url, endpoint.name, endpoint.version)))
    manner = f"{dialect.name}, {'raw scores' if endpoint.dialect.raw else 'scores of the server'}"
    spec = ComputeSpec("server", manner, UNLIMITED, "", False, weights)
    return RerankApi(endpoint, size, concurrency, spec)


class RerankApi:
    """Answers `Pair` requests with a rerank server. There is nothing to load."""

    window = 1  # a request never has documents of two queries
    warnings: ClassVar[Sequence[str]] = ()

    def __init__(self, endpoint: _Endpoint, size: int, concurrency: int, spec: ComputeSpec) -> None:
        self.description = f"{endpoint.client.base_url}: {spec.dtype}"
        self.spec = spec
        self._client = endpoint.client
        self._dialect = endpoint.dialect
        self._name = endpoint.name
        self._size = size
        self._concurrency = concurrency

    def load(self, pairs: int = 0) -> Engine:
        """Return the engine itself."""
        return self

    def check(self, requests: Iterable[Request]) -> None:
        """Accept all requests: only the server can refuse a pair."""

    def answer(self, windows: Iterable[Sequence[Request]]) -> Iterator[Batch]:
        """Send the documents of each query in order, up to `concurrency` requests at a time; yield their answers."""
        for finished in in_flight(self._chunks(windows), self._start, self._concurrency):
            answers = [pair for chunk, (values, _) in finished for pair in zip(chunk, values, strict=True)]
            yield Batch(answers, sum(tokens for _, (_, tokens) in finished))

    def _chunks(self, windows: Iterable[Sequence[Request]]) -> Iterator[list[Pair]]:
        """Yield documents of one query at a time, at most as many as a request may have."""
        for window in windows:
            by_query: dict[str, list[Pair]] = {}
            for request in window:
                pair = narrowed(Pair, request)
                by_query.setdefault(pair.query, []).append(pair)
            for pairs in by_query.values():
                start = 0
                while start < len(pairs):
                    size = self._size  # a refused request may have reduced it
                    yield pairs[start : start + size]
                    start += size

    def _start(self, chunk: list[Pair]) -> Future[tuple[list[Answer], int]]:
        return self._client.start(partial(self._answers, chunk))

    def _answers(self, pairs: list[Pair]) -> tuple[list[Answer], int]:
        """Return the answers to pairs of one query, and the number of tokens that the server read."""
        try:
            return self._post(pairs, truncate=False)
        except Refused as error:
            if len(pairs) == 1:
                return self._post_alone(pairs, error)
        middle = (len(pairs) + 1) // 2
        parts = (pairs[:middle], pairs[middle:])
        (first, read), (second, also_read) = map(self._answers, parts)
        answers = first + second
        if not any(answer.truncated for answer in answers):
            self._size = min(self._size, middle)  # too many documents in the request, and none is too long
        return answers, read + also_read

    def _post_alone(self, pairs: list[Pair], refused: Refused) -> tuple[list[Answer], int]:
        """Return the answer to a refused pair, with a truncated document if the dialect allows, else RequestError."""
        if self._dialect.truncation:
            try:
                return self._post(pairs, truncate=True)
            except Refused as error:
                refused = error
        raise RequestError(f"the server refuses it: {refused}", pairs[0]) from None

    def _post(self, pairs: Sequence[Pair], *, truncate: bool) -> tuple[list[Answer], int]:
        """Return the answers to a request, and the number of tokens read. Refused if another request may succeed."""

        def read(response: Any) -> tuple[list[Answer], int]:
            scores = self._dialect.scores(response, len(pairs))
            return [Answer((score,), truncate) for score in scores], tokens_read(response)

        documents = [pair.document for pair in pairs]
        body = self._dialect.body(self._name, pairs[0].query, documents, truncate=truncate)
        try:
            return self._client.post(RERANK, body, read)
        except InvalidResponses as error:
            if isinstance(error.last, InvalidValue):
                raise ComputeError(str(error), pairs[error.last.index]) from None
            raise
        except Refused as error:
            if error.is_request_specific:
                raise
            if error.status in NOT_FOUND:
                raise _no_endpoint(self._client, self._dialect, error) from None
            raise RunError(f"{self._client.base_url}: {error}") from None


def _no_endpoint(client: Client, dialect: Dialect, error: Refused) -> MissingError:
    """Return the error for a server without the endpoint, or without a model of that name."""
    usual = f"ends in {dialect.prefix}" if dialect.prefix else "has no path"
    is_usual = urlsplit(client.base_url).path == dialect.prefix
    hint = "" if is_usual else f"the URL of most {dialect.name} servers {usual}"
    return MissingError(f"{client.base_url}{RERANK}: {error}", hint=hint)


def _clients(server: Server, dialect: Dialect) -> list[Client]:
    """Return clients for the URLs that a base URL may mean: the prefix of the dialect may be missing."""
    url = checked_url(server.base_url)
    urls = [url + dialect.prefix, url] if dialect.prefix and not urlsplit(url).path else [url]
    return [Client(replace(server, base_url=candidate)) for candidate in urls]


def _find(server: Server, dialect: Dialect, model: ServedModel) -> _Endpoint:
    """Return the endpoint of Cohere or Voyage: nothing is requested before the first pair."""
    return _Endpoint(_clients(server, dialect)[0], dialect, model.label)


def _find_jina(server: Server, dialect: Dialect, model: ServedModel) -> _Endpoint:
    """Return the endpoint of Jina or a similar server: the list of models shows the software of the server."""
    clients = _clients(server, dialect)
    for client in clients:
        entry = listed_model(client, model)
        if entry is not None:
            return _Endpoint(client, of_server(dialect, entry.get("owned_by")), str(entry.get("id")))
    return _Endpoint(clients[0], dialect, model.label)


def _find_tei(server: Server, dialect: Dialect, model: ServedModel) -> _Endpoint:
    """Return the endpoint of TEI: `/info` has the name of the model, its commit, and the limits of the server."""
    client = Client(server)
    info = client.get("/info", json_object)
    if info is None:
        return _Endpoint(client, dialect, model.label)
    names = [name for name in (info.get("served_model_name"), info.get("model_id")) if isinstance(name, str)]
    if model.named and names and not {model.label, model.hub_id}.intersection(names):
        raise missing_model(client, model, names)
    version = info.get("model_sha")
    return _Endpoint(
        client,
        dialect,
        names[-1] if names else model.label,
        version if isinstance(version, str) else "",
        _limit(info, "max_client_batch_size"),
        _limit(info, "max_concurrent_requests"),
    )


def _limit(info: Response, name: str) -> int:
    value = info.get(name)
    return value if type(value) is int and value > 0 else UNLIMITED
