"""HTTP to an OpenAI-compatible server: the library `openai`, its retries and time-outs, and one word for each failure.

The key comes from the environment and goes to the server and nowhere else. It is taken out of whatever a server says.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lbr_cli.engines import Server
from lbr_cli.errors import LbrError, MissingError, RunError, UsageError
from lbr_cli.network import checked_environment, through_proxy, without

T = TypeVar("T")
KEY, OPENAI_KEY, OPENAI_HOST = "LBR_API_KEY", "OPENAI_API_KEY", "api.openai.com"
KEY_HINT = f"the key is read from the environment variable {KEY}"
RETRIES = 6  # of what may pass: no connection, 408, 409, 429, 5xx; 25 s of waiting, or as long as the server says
RETRIES_AT_FIRST = 3  # of the first question: a server that refuses connections is told in 5 s
CONNECT_SECONDS = 5.0
FIRST_SECONDS = 15.0  # for the first answer
ANSWER_SECONDS = 300.0  # a busy server without a GPU may take minutes for long texts
MALFORMED = 5  # answers to one request that may be no answer
PAUSE = 0.2  # seconds; twice as long before the first time such a request is sent again, and so on
SHOWN = 300  # characters of what a server says


class Malformed(Exception):
    """An answer that is none: cut short, garbled, or about something else."""


class Silent(Malformed):
    """An answer as it should be, but that it tells no log-probabilities."""


class Refused(Exception):
    """The server will not have this request. `about_it` says that another request may be taken."""

    def __init__(self, message: str, *, about_it: bool = True) -> None:
        super().__init__(message)
        self.about_it = about_it


class Client:
    """Sends requests from a thread of its own, so that many are on their way at once."""

    def __init__(self, server: Server) -> None:
        self.base_url = checked_url(server.base_url)
        self._key = api_key(self.base_url)
        self._proxy = through_proxy(self.base_url)
        with checked_environment(self.base_url), without(_library_variables(self.base_url)):
            import openai

            self._openai = openai
            # without a key the library would make one up
            self._headers = {} if self._key else {"Authorization": openai.Omit()}
            self._client = openai.AsyncOpenAI(
                base_url=self.base_url,
                api_key=self._key or "none",
                max_retries=RETRIES,
                timeout=openai.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
                http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
            )
            # made here as well: a copy reads the environment again
            self._at_first = self._client.with_options(
                max_retries=RETRIES_AT_FIRST, timeout=openai.Timeout(FIRST_SECONDS, connect=CONNECT_SECONDS)
            )
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def models(self) -> list[Mapping[str, Any]] | None:
        """What the server says it has; None where it has no list."""
        models = self._at_first.models.with_raw_response

        def read(told: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
            data = told.get("data")
            listed = isinstance(data, list) and all(isinstance(one, dict) for one in data)
            return data if listed and data else None

        try:
            return self.start(self._asked(models.list, {}, read)).result()
        except Refused:
            return None

    async def complete(self, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T:
        """What `read` makes of an answer to `/completions`. It raises Malformed for one that is none."""
        return await self._asked(self._client.completions.with_raw_response.create, body, read)

    async def chat(self, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T:
        """The same of `/chat/completions`."""
        return await self._asked(self._client.chat.completions.with_raw_response.create, body, read)

    async def _asked(self, send: Any, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> T:
        """Raises Refused for what the server will not have, MissingError for a key, RunError for what may pass."""
        silent = False
        for attempt in range(MALFORMED):
            if attempt:
                await asyncio.sleep(PAUSE * 2**attempt)
            try:
                response = await send(**body, extra_headers=self._headers)
                return read(_object(response.content))
            except Silent as error:
                if silent:
                    raise Refused(str(error), about_it=False) from None
                silent = True
                problem = str(error)
            except Malformed as error:
                problem = str(error)
            except self._openai.APIStatusError as error:
                raise self._told(error) from None  # whose cause holds the request, and that the key
            except self._openai.OpenAIError as error:
                if isinstance(error, self._openai.APITimeoutError):
                    raise RunError(f"{self.base_url}: timeout: no answer in time{self._proxy}") from None
                reason = self.shown(str(error.__cause__ or error))
                hint = "is the server running, and is it http or https?"
                raise RunError(f"{self.base_url}: cannot be reached{self._proxy}: {reason}", hint=hint) from None
        raise RunError(f"{self.base_url}: answered {MALFORMED} times with what is no answer: {self.shown(problem)}")

    def _told(self, error: Any) -> Refused | LbrError:
        status = error.status_code
        said = error.body.get("message") if isinstance(error.body, dict) else None
        message = f"{status}: {self.shown(str(said or error.response.text or error.message))}"
        if status in (401, 403):
            hint = KEY_HINT if self._key else f"{KEY_HINT}, and it is not set"
            return MissingError(f"{self.base_url}: {message}", hint=hint)
        if status < 400:
            place = self.shown(error.response.headers.get("location", "nowhere"))
            return MissingError(f"{self.base_url}: {status}: points to {place}", hint="name that as --base-url")
        if status in (408, 409, 429) or status >= 500:
            return RunError(f"{self.base_url}: {message}{self._proxy}")
        return Refused(message, about_it=status in (400, 413, 422))

    def shown(self, text: str) -> str:
        """A line of what somebody else said, without the key."""
        if self._key:
            text = text.replace(self._key, "…")
        line = " ".join(re.sub(r"[^\x20-\x7e\xa0-\U0010fffd]", " ", text).split())
        return line if len(line) <= SHOWN else f"{line[:SHOWN]}…"


def checked_url(url: str) -> str:
    """A base URL without its last slash. UsageError for one that cannot be used; what it holds is not shown."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and url.isascii()
    except ValueError:
        fits = False
    if not fits or any(letter <= " " for letter in url):
        raise UsageError("--base-url: is no http or https URL", hint="it looks like http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise UsageError("--base-url: holds more than host, port and path", hint=KEY_HINT)
    return url.rstrip("/")


def is_openai(base_url: str) -> bool:
    """Whether what is meant for OpenAI may go there."""
    parts = urlsplit(base_url)
    return (parts.scheme, parts.hostname) == ("https", OPENAI_HOST)


def api_key(base_url: str) -> str:
    """The key for a server; "" if there is none. UsageError for one that cannot be sent."""
    key = os.environ.get(KEY) or ""
    if not key and is_openai(base_url):
        key = os.environ.get(OPENAI_KEY) or ""
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError(f"{KEY}: holds a blank or what is no ASCII, so it is no key")
    return key


def _library_variables(base_url: str) -> list[str]:
    """The variables that the library would read itself: keys and headers for another server, and its log level.

    The log may hold requests, so it stays off for every server.
    """
    its_own = is_openai(base_url)
    return [name for name in os.environ if name == "OPENAI_LOG" or (name.startswith("OPENAI_") and not its_own)]


def _object(content: bytes) -> Mapping[str, Any]:
    import orjson

    try:
        told = orjson.loads(content)
    except ValueError as error:
        raise Malformed("it is no JSON") from error
    if not isinstance(told, dict):
        raise Malformed("it is no JSON object")
    return told
