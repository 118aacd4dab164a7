"""HTTP to an OpenAI-compatible server: the library `openai`, its retries and timeouts, and one error for each failure.

Requests go through the library's `get` and `post`: its typed methods convert each field of a body, which took a third
of the processor time of a request.

The key comes from the environment and is sent only to the server. It is removed from all messages of a server.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lbr_cli.engines import Server
from lbr_cli.errors import LbrError, MissingError, RunError, UsageError
from lbr_cli.network import checked_environment, through_proxy, without

T = TypeVar("T")
COMPLETIONS, CHAT_COMPLETIONS = "/completions", "/chat/completions"
KEY, OPENAI_KEY, OPENAI_HOST = "LBR_API_KEY", "OPENAI_API_KEY", "api.openai.com"
KEY_HINT = f"the key is read from the environment variable {KEY}"
RETRIES = 6  # of transient failures: no connection, 408, 409, 429, 5xx; 25 s in all, or as the server says
RETRIES_AT_FIRST = 3  # of the first request, so that a server that refuses connections is reported within 5 s
CONNECT_SECONDS = 5.0
FIRST_SECONDS = 15.0  # for the first answer
ANSWER_SECONDS = 300.0  # a busy server without a GPU may take minutes for long texts
BAD_RESPONSES = 5  # attempts of a request whose responses are invalid
PAUSE = 0.2  # seconds; doubled before each further attempt
LONGEST_MESSAGE = 300  # characters of a server's message


class BadResponse(Exception):
    """An invalid response: truncated, garbled, or of another form."""


class NoLogprobs(BadResponse):
    """A valid response without log-probabilities."""


class Refused(Exception):
    """The server refuses a request. `is_request_specific` means that it may accept another."""

    def __init__(self, message: str, *, is_request_specific: bool = True) -> None:
        super().__init__(message)
        self.is_request_specific = is_request_specific


class Client:
    """Sends requests from a thread of its own, many at a time."""

    def __init__(self, server: Server) -> None:
        self.base_url = checked_url(server.base_url)
        self._key = api_key(self.base_url)
        self._proxy = through_proxy(self.base_url)
        with checked_environment(self.base_url), without(_library_variables(self.base_url)):
            import openai

            self._openai = openai
            # without a key the library would send a placeholder
            self._headers = {} if self._key else {"Authorization": openai.Omit()}
            self._client = openai.AsyncOpenAI(
                base_url=self.base_url,
                api_key=self._key or "none",
                max_retries=RETRIES,
                timeout=openai.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            )
            # created in this block as well: a copy reads the environment again
            self._at_first = self._client.with_options(
                max_retries=RETRIES_AT_FIRST, timeout=openai.Timeout(FIRST_SECONDS, connect=CONNECT_SECONDS)
            )
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine in the client's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def models(self) -> list[Mapping[str, Any]] | None:
        """Return the server's list of models; None if it has none."""

        def read(response: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
            data = response.get("data")
            valid = isinstance(data, list) and all(isinstance(one, dict) for one in data)
            return data or None if valid else None

        try:
            return self.start(self._send(partial(self._at_first.get, "/models"), read)).result()
        except Refused:
            return None

    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T:
        """Return what `read` makes of the response. `read` raises BadResponse for an invalid one.

        Raises Refused if the server refuses the request, MissingError for a key, RunError if a retry may help.
        """
        return await self._send(partial(self._client.post, path, body=body), read)

    async def _send(self, send: Callable[..., Any], read: Callable[[Mapping[str, Any]], T]) -> T:
        without_logprobs = False
        for attempt in range(BAD_RESPONSES):
            if attempt:
                await asyncio.sleep(PAUSE * 2**attempt)
            try:
                return read(_object(await send(cast_to=str, options={"headers": self._headers})))
            except BadResponse as error:
                if without_logprobs and isinstance(error, NoLogprobs):
                    raise Refused(str(error), is_request_specific=False) from None
                without_logprobs |= isinstance(error, NoLogprobs)
                problem = str(error)
            except self._openai.APIStatusError as error:
                raise self._to_error(error) from None  # its cause holds the request, which contains the key
            except self._openai.OpenAIError as error:
                if isinstance(error, self._openai.APITimeoutError):
                    raise RunError(f"{self.base_url}: timeout: no response in time{self._proxy}") from None
                reason = self.redacted(str(error.__cause__ or error))
                hint = "is the server running, and is it http or https?"
                raise RunError(f"{self.base_url}: cannot be reached{self._proxy}: {reason}", hint=hint) from None
        raise RunError(f"{self.base_url}: {BAD_RESPONSES} invalid responses: {self.redacted(problem)}")

    def _to_error(self, error: Any) -> Refused | LbrError:
        status = error.status_code
        reason = error.body.get("message") if isinstance(error.body, dict) else None
        message = f"{status}: {self.redacted(str(reason or error.response.text or error.message))}"
        if status in (401, 403):
            hint = KEY_HINT if self._key else f"{KEY_HINT}, and it is not set"
            return MissingError(f"{self.base_url}: {message}", hint=hint)
        if status < 400:
            location = self.redacted(error.response.headers.get("location", "nowhere"))
            return MissingError(f"{self.base_url}: {status}: points to {location}", hint="use that as --base-url")
        if status in (408, 409, 429) or status >= 500:
            return RunError(f"{self.base_url}: {message}{self._proxy}")
        return Refused(message, is_request_specific=status in (400, 413, 422))

    def redacted(self, text: str) -> str:
        """Return a foreign message as one line, without the key."""
        if self._key:
            text = text.replace(self._key, "…")
        line = " ".join(re.sub(r"[^\x20-\x7e\xa0-\U0010fffd]", " ", text).split())
        return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]}…"


def checked_url(url: str) -> str:
    """Return a base URL without its last slash. UsageError for an invalid one, which is not shown."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and url.isascii()
    except ValueError:
        valid = False
    if not valid or any(letter <= " " for letter in url):
        raise UsageError("--base-url: invalid URL, neither http nor https", hint="example: http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise UsageError("--base-url: holds more than host, port and path", hint=KEY_HINT)
    return url.rstrip("/")


def is_openai(base_url: str) -> bool:
    """Return whether a URL is OpenAI's own, so that its key may be sent there."""
    parts = urlsplit(base_url)
    return (parts.scheme, parts.hostname) == ("https", OPENAI_HOST)


def api_key(base_url: str) -> str:
    """Return the key for a server; "" if there is none. UsageError for one that cannot be sent."""
    key = os.environ.get(KEY) or ""
    if not key and is_openai(base_url):
        key = os.environ.get(OPENAI_KEY) or ""
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError(f"{KEY}: invalid key: it contains a blank or a character that is not ASCII")
    return key


def _library_variables(base_url: str) -> list[str]:
    """The variables to hide from the library: OpenAI's keys for other servers, and its log, which contains requests."""
    prefix = "OPENAI_LOG" if is_openai(base_url) else "OPENAI_"
    return [name for name in os.environ if name.startswith(prefix)]


def _object(content: str) -> Mapping[str, Any]:
    import orjson

    try:
        body = orjson.loads(content)
    except ValueError as error:
        raise BadResponse("invalid JSON") from error
    if not isinstance(body, dict):
        raise BadResponse("not a JSON object")
    return body
