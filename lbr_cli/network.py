"""Check the proxies and certificates of the environment before a client reads them, so that errors name the variable.

The constructor of an HTTP client reads `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `SSL_CERT_FILE` and
`SSL_CERT_DIR`, and fails on an invalid value even if it does not apply to the server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.parse import urlsplit

from lbr_cli.errors import MissingError

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
SOCKS = ("socks5", "socks5h")
SOCKS_MODULES = {"socksio": "socksio", "PySocks": "socks"}
SCHEMES = ("http", "https", *SOCKS)


@contextmanager
def checked_environment(url: str, socks_package: str = "socksio") -> Iterator[None]:
    """Hide invalid variables that do not apply to `url`, in this block.

    Raises MissingError for one that applies: a SOCKS proxy without the package that the HTTP client needs for it, an
    invalid proxy URL, or certificates that do not exist.
    """
    applicable = proxy_variable(url)
    hidden = []
    for name in _proxy_variables("http", "https", "all"):
        problem, hint = _proxy_problem(name, socks_package)
        if problem and name == applicable:
            raise MissingError(f"{name}: {problem}", hint=hint)
        if problem:
            hidden.append(name)
    for name in CERTIFICATES:
        path = os.environ.get(name)
        if path and not os.path.exists(path):
            if url.startswith("https"):
                raise MissingError(f"{name}: no such file or folder: {path}", hint=f"unset {name}, or correct it")
            hidden.append(name)
    removed = {name: os.environ.pop(name) for name in hidden}
    try:
        yield
    finally:
        os.environ.update(removed)


def proxy_variable(url: str) -> str:
    """Return the environment variable with the proxy of requests to `url`; "" if there is none."""
    import urllib.request

    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return next(iter(_proxy_variables(parts.scheme, "all")), "")


def socks_address(url: str) -> tuple[str, int] | None:
    """Return host and port of the SOCKS proxy of requests to `url`, or None."""
    parts = urlsplit(os.environ.get(proxy_variable(url), ""))
    return (parts.hostname, parts.port or 1080) if parts.scheme in SOCKS and parts.hostname else None


def through_proxy(url: str) -> str:
    """Return the end of an error message about `url`: the variable of its proxy; "" if there is no proxy."""
    name = proxy_variable(url)
    return f", through the proxy in {name}" if name else ""


def _proxy_variables(*schemes: str) -> list[str]:
    """Return the variables that are set, in order of precedence."""
    names = [name for scheme in schemes for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")]
    return [name for name in names if os.environ.get(name)]


def _proxy_problem(name: str, socks_package: str) -> tuple[str, str]:
    """Return why a client cannot use the proxy of a variable, and a hint; both are empty if it can."""
    value = os.environ[name]
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        valid = parts.scheme in SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        return "invalid proxy URL", f"use the form http://host:port, or unset {name}"
    if parts.scheme in SOCKS and find_spec(SOCKS_MODULES[socks_package]) is None:
        return f"a SOCKS proxy needs the package {socks_package}", f"pip install {socks_package}, or unset {name}"
    return "", ""
