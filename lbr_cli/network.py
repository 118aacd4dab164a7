"""Proxies and certificates that the environment names, checked before a client is made, so that an error names them.

HTTP clients read `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and `SSL_CERT_DIR` when they are
made, and fail on a value that they cannot use even if it does not apply to their server.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

from lbr_cli.errors import MissingError

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
SOCKS = ("socks5", "socks5h")
SCHEMES = ("http", "https", *SOCKS)


@contextmanager
def checked_environment(url: str) -> Iterator[None]:
    """Hide variables that a client for `url` cannot use and does not need.

    Raises MissingError for one that it needs and cannot use: a SOCKS proxy without the package socksio, an invalid
    proxy URL, or certificates that do not exist.
    """
    applies = proxy_variable(url)
    hidden = []
    for name in _proxy_variables():
        problem, hint = _proxy_problem(name)
        if problem and name == applies:
            raise MissingError(f"{name}: {problem}", hint=hint)
        if problem:
            hidden.append(name)
    for name in CERTIFICATES:
        path = os.environ.get(name)
        if path and not os.path.exists(path):
            if url.startswith("https"):
                raise MissingError(f"{name}: no such file or folder: {path}", hint=f"unset {name}, or correct it")
            hidden.append(name)
    with without(hidden):
        yield


@contextmanager
def without(names: Iterable[str]) -> Iterator[None]:
    """Remove these variables from the environment in this block."""
    hidden = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(hidden)


def proxy_variable(url: str) -> str:
    """The environment variable whose proxy a request to `url` goes through; "" if it goes directly."""
    import urllib.request

    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    for scheme in (parts.scheme, "all"):
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            if os.environ.get(name):
                return name
    return ""


def socks_address(url: str) -> tuple[str, int] | None:
    """Host and port of the SOCKS proxy for `url`; None if it goes through none."""
    parts = urlsplit(os.environ.get(proxy_variable(url), ""))
    return (parts.hostname, parts.port or 1080) if parts.scheme in SOCKS and parts.hostname else None


def through_proxy(url: str) -> str:
    """What an error about `url` adds if a proxy may be the cause."""
    name = proxy_variable(url)
    return f", through the proxy in {name}" if name else ""


def _proxy_variables() -> list[str]:
    names = [name for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")]
    return [name for name in names if os.environ.get(name)]


def _proxy_problem(name: str) -> tuple[str, str]:
    """Why a client cannot use the proxy of a variable, and what to do; both empty if it can."""
    value = os.environ[name]
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        valid = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        return "invalid proxy URL", f"it looks like http://host:port; correct it, or unset {name}"
    if parts.scheme in SOCKS and find_spec("socksio") is None:
        return "a SOCKS proxy needs the package socksio", f"pip install socksio, or unset {name}"
    return "", ""
