"""HTTP to a server of models: retries, timeouts, proxies, and one error for each failure.

The key of the server is removed from all of its messages.
"""

from __future__ import annotations

import os
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import orjson
import truststore
import urllib3

from lbr_cli import __version__
from lbr_cli.engines import Server
from lbr_cli.engines.response_errors import BadResponse, IncompleteResponse, InvalidResponses, Refused
from lbr_cli.engines.server_url import KEY_HINT, api_key, checked_url
from lbr_cli.errors import LbrError, MissingError, RunError
from lbr_cli.models import ServedModel
from lbr_cli.network import checked_environment, proxy_variable, through_proxy

T = TypeVar("T")
Response = Mapping[str, Any]  # a JSON object
TIMEOUTS = (urllib3.exceptions.ConnectTimeoutError, urllib3.exceptions.ReadTimeoutError)
TRANSIENT = (408, 409, 429)  # and 5xx
NOT_IMPLEMENTED = 501  # a 5xx that does not pass
# in the message of a 500 that does not pass: the text is too long for the server (llama.cpp)
TOO_LONG = re.compile(r"too (?:large|long) to process|context (?:size|length)", re.IGNORECASE)
RETRIES = 6  # after transient failures: about 24 s in all, or as the server says
RETRIES_AT_FIRST = 3  # of the first request, so that a server that refuses connections is reported within 5 s
BAD_RESPONSES = 5  # attempts of a request whose responses are invalid
PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds; doubled before each further attempt
LONGEST_RETRY_AFTER = 60.0  # seconds; a server that asks for more is not waited for so long
CONNECT_SECONDS = 5.0
FIRST_SECONDS = 15.0  # for the first answer
ANSWER_SECONDS = 300.0  # a busy server without a GPU may take minutes for long texts
CALLS_PER_REQUEST = 1.5  # calls at a time, for each request that may be at the server
LONGEST_MESSAGE = 300  # characters of a server's message


class _Transient(Exception):
    """A failure after which the same request may succeed; `retry_after` seconds, if the server says so."""

    def __init__(self, error: RunError, retry_after: float | None = None) -> None:
        super().__init__()
        self.error = error
        self.retry_after = retry_after


class Client:
    """Sends requests, each in the thread that calls it, at most `concurrency` of them at a time.

    `start` runs a call in one of `calls_at_a_time` threads. There are more of them than requests at a time, so that a
    request is ready to be sent as soon as a response has arrived, while that response is parsed.
    """

    def __init__(self, server: Server) -> None:
        self.base_url = checked_url(server.base_url)
        self._key = api_key(self.base_url)
        self._proxy = through_proxy(self.base_url)
        self._headers = {"Content-Type": "application/json", "User-Agent": f"lbr/{__version__}"}
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        with checked_environment(self.base_url, socks_package="PySocks"):
            self._root, self._urlopen = _connections(self.base_url, server.concurrency)
        self.calls_at_a_time = int(CALLS_PER_REQUEST * server.concurrency)
        self._slots: SimpleQueue[None] = SimpleQueue()  # a semaphore in C; that of `threading` is in Python
        for _ in range(server.concurrency):
            self._slots.put(None)
        self._idle = self.calls_at_a_time  # threads that have not been started yet
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def start(self, call: Callable[[], T]) -> Future[T]:
        """Run a function in another thread."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)

        self._calls.put(run)
        if self._idle:
            self._idle -= 1
            # threads of an executor would be waited for at exit, so that Ctrl-C would wait for the server
            threading.Thread(target=self._run_calls, daemon=True).start()
        return future

    def _run_calls(self) -> None:
        while True:
            self._calls.get()()

    def models(self) -> list[Response] | None:
        """Return the server's list of models; None if it has none."""

        def read(response: Any) -> list[Response] | None:
            data = json_object(response).get("data")
            valid = isinstance(data, list) and all(isinstance(one, dict) for one in data)
            return data or None if valid else None

        return self.get("/models", read)

    def get(self, path: str, read: Callable[[Any], T]) -> T | None:
        """Return what `read` makes of the JSON value at a path; None if the server has nothing there."""
        try:
            return self._send("GET", path, None, read, FIRST_SECONDS, RETRIES_AT_FIRST)
        except Refused:
            return None

    def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T:
        """Return what `read` makes of the JSON value of the response. `read` raises BadResponse for an invalid one.

        Raises Refused if the server refuses the request, MissingError for a key, RunError if a retry may help.
        """

        def checked(value: Any) -> T:
            if isinstance(value, dict) and (message := _error_message(value)):  # of some gateways, with status 200
                raise BadResponse(f"an error: {message}")
            return read(value)

        return self._send("POST", path, orjson.dumps(body), checked, ANSWER_SECONDS, RETRIES)

    def _send(
        self, method: str, path: str, body: bytes | None, read: Callable[[Any], T], seconds: float, retries: int
    ) -> T:
        failures = bad_responses = 0
        was_incomplete = False
        while True:
            retry_after = None
            try:
                return read(_json_value(self._attempt(method, path, body, seconds)))
            except BadResponse as error:
                if was_incomplete and isinstance(error, IncompleteResponse):
                    raise Refused(str(error), is_request_specific=False) from None
                was_incomplete |= isinstance(error, IncompleteResponse)
                bad_responses += 1
                if bad_responses == BAD_RESPONSES:
                    problem = f"{BAD_RESPONSES} invalid responses: {self.redacted(str(error))}"
                    raise InvalidResponses(f"{self.base_url}: {problem}", error) from None
            except _Transient as failure:
                failures += 1
                if failures > retries:
                    raise failure.error from None  # its cause may hold the request, which contains the key
                retry_after = failure.retry_after
            pause = min(PAUSE * 2 ** (failures + bad_responses - 1), LONGEST_PAUSE) * random.uniform(0.8, 1)
            time.sleep(pause if retry_after is None else retry_after)

    def _attempt(self, method: str, path: str, body: bytes | None, seconds: float) -> bytes:
        """Return the body of the response to one request."""
        timeout = urllib3.Timeout(connect=CONNECT_SECONDS, read=seconds)
        self._slots.get()
        try:
            response = self._urlopen(
                method,
                self._root + path,
                body=body,
                headers=self._headers,
                timeout=timeout,
                retries=False,
                redirect=False,
            )
        except urllib3.exceptions.HTTPError as error:
            if type(error) in TIMEOUTS:
                raise _Transient(RunError(f"{self.base_url}: timeout: no response in time{self._proxy}")) from None
            reason = self.redacted(str(error.__cause__ or error.args[-1]))
            hint = "is the server running, and is it http or https?"
            message = f"{self.base_url}: cannot be reached{self._proxy}: {reason}"
            raise _Transient(RunError(message, hint=hint)) from None
        finally:
            self._slots.put(None)
        if response.status >= 300:
            raise self._to_error(response)
        return response.data

    def _to_error(self, response: urllib3.BaseHTTPResponse) -> Refused | LbrError | _Transient:
        status = response.status
        message = f"{status}: {self.redacted(_reason(response))}"
        if status in (401, 403):
            hint = KEY_HINT if self._key else f"{KEY_HINT}, and it is not set"
            return MissingError(f"{self.base_url}: {message}", hint=hint)
        if status < 400:
            location = self.redacted(response.headers.get("location", "nowhere"))
            return MissingError(f"{self.base_url}: {status}: points to {location}", hint="use that as --base-url")
        is_too_long = status == 500 and TOO_LONG.search(message) is not None
        if status in TRANSIENT or (status >= 500 and status != NOT_IMPLEMENTED and not is_too_long):
            return _Transient(RunError(f"{self.base_url}: {message}{self._proxy}"), _retry_after(response))
        return Refused(message, is_request_specific=is_too_long or status in (400, 413, 422), status=status)

    def redacted(self, text: str) -> str:
        """Return a foreign message as one line, without the key."""
        if self._key:
            text = text.replace(self._key, "…")
        line = " ".join(re.sub(r"[^\x20-\x7e\xa0-\U0010fffd]", " ", text).split())
        return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]}…"


def listed_model(client: Client, model: ServedModel) -> Response | None:
    """Return the entry of a model in the server's list; None if it has no list. MissingError if the list lacks it."""
    listed = client.models()
    if listed is None:
        return None
    by_name = {str(one.get("id")): one for one in listed}
    for name in (model.label, model.hub_id):
        if name in by_name:
            return by_name[name]
    raise missing_model(client, model, list(by_name))


def missing_model(client: Client, model: ServedModel, names: Sequence[str]) -> MissingError:
    """Return the error for a model that is not among the names of the models on a server."""
    shown = ", ".join(client.redacted(name) for name in names[:10]) + (", …" if len(names) > 10 else "")
    return MissingError(f"{client.base_url}: has no model {model.label}", hint=f"--model is one of: {shown}")


def json_object(value: Any) -> Response:
    """Return a JSON value that has to be an object. Raises BadResponse for another one."""
    if not isinstance(value, dict):
        raise BadResponse("not a JSON object")
    return value


def _connections(base_url: str, size: int) -> tuple[str, Callable[..., urllib3.BaseHTTPResponse]]:
    """What precedes the path of a request to a server, and a function that sends the request.

    Connections go through the proxy of the environment and use the certificates of the system.
    """
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    options: dict[str, Any] = {"maxsize": size, "ssl_context": context}
    proxy = os.environ.get(proxy_variable(base_url), "")
    if not proxy:  # a pool for one host does not parse the URL of each request
        pool = urllib3.PoolManager(**options).connection_from_url(base_url)
        return urlsplit(base_url).path, pool.urlopen
    if proxy.startswith("socks"):
        from urllib3.contrib.socks import SOCKSProxyManager

        return base_url, SOCKSProxyManager(proxy, **options).urlopen
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    parts = urlsplit(proxy)
    credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else None
    headers = urllib3.make_headers(proxy_basic_auth=credentials)
    return base_url, urllib3.ProxyManager(proxy, proxy_headers=headers, **options).urlopen


def _retry_after(response: urllib3.BaseHTTPResponse) -> float | None:
    """The seconds after which the server asks for the next attempt; None if it names none, or too many."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= LONGEST_RETRY_AFTER else None


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    """The server's message: that of its JSON error, or the text of the response."""
    try:
        body = json_object(_json_value(response.data))
    except BadResponse:
        body = {}
    message = _error_message(body) or body.get("message") or body.get("detail")
    return str(message or response.data.decode(errors="replace") or response.reason)


def _json_value(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise BadResponse("invalid JSON") from error


def _error_message(body: Mapping[str, Any]) -> Any:
    """Return the message of the JSON error in a response; a false value if there is none."""
    error = body.get("error")
    return (error.get("message") or error) if isinstance(error, dict) else error
