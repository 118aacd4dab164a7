"""The URL of a server, and the key for it, which comes from the environment and is sent only to that server."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from lbr_cli.errors import UsageError

KEY = "LBR_API_KEY"
KEY_HINT = f"the key is read from the environment variable {KEY}"
# host of a hosted service -> the environment variable of its own client, which is used for no other host
HOSTED_KEYS = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.jina.ai": "JINA_API_KEY",
    "api.cohere.com": "CO_API_KEY",
    "api.voyageai.com": "VOYAGE_API_KEY",
}


def checked_url(url: str) -> str:
    """Return a base URL without its last slash. UsageError for an invalid URL, which the message does not contain."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and url.isascii()
    except ValueError:
        valid = False
    if not valid or any(letter <= " " for letter in url):
        problem = "not http or https, an invalid host or port, or a character that is not ASCII"
        raise UsageError(f"--base-url: invalid URL: {problem}", hint="example: http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise UsageError("--base-url: invalid URL: more than host, port and path", hint=KEY_HINT)
    return url.rstrip("/")


def api_key(base_url: str) -> str:
    """Return the key for a server; "" if there is none. UsageError for a key that cannot be sent."""
    parts = urlsplit(base_url)
    hosted = HOSTED_KEYS.get(parts.hostname or "") if parts.scheme == "https" else None
    name = KEY if os.environ.get(KEY) or not hosted else hosted
    key = os.environ.get(name) or ""
    if not all("!" <= letter <= "~" for letter in key):
        raise UsageError(f"{name}: invalid key: it contains a blank or a character that is not ASCII")
    return key
