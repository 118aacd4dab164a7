"""Proxies and certificates of the environment: used, ignored if they do not apply, or named in an error."""

from __future__ import annotations

import os

import pytest

from lbr_cli.errors import MissingError
from lbr_cli.network import checked_environment, proxy_variable, socks_address, through_proxy

HTTP, HTTPS = "http://127.0.0.1:8000/v1", "https://hub.example/x"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("environment", "url", "name"),
    [
        ({}, HTTP, ""),
        ({"HTTPS_PROXY": "http://p:1"}, HTTP, ""),
        ({"HTTPS_PROXY": "http://p:1"}, HTTPS, "HTTPS_PROXY"),
        ({"ALL_PROXY": "http://p:1"}, HTTPS, "ALL_PROXY"),
        ({"ALL_PROXY": "http://p:1", "https_proxy": "http://p:2"}, HTTPS, "https_proxy"),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "127.0.0.1"}, HTTP, ""),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "hub.example"}, HTTPS, ""),
        ({"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, HTTPS, ""),
    ],
)
def test_the_variable_that_applies_is_used(
    environment: dict[str, str], url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert proxy_variable(url) == name
    assert through_proxy(url) == (f", through the proxy in {name}" if name else "")
    assert socks_address(url) is None


@pytest.mark.parametrize(
    ("environment", "url", "message", "hint"),
    [
        (
            {"ALL_PROXY": "socks5://127.0.0.1:9"},
            HTTP,
            "ALL_PROXY: a SOCKS proxy needs the package socksio",
            "pip install socksio, or unset ALL_PROXY",
        ),
        (
            {"HTTPS_PROXY": "gopher://p"},
            HTTPS,
            "HTTPS_PROXY: invalid proxy URL",
            "use the form http://host:port, or unset HTTPS_PROXY",
        ),
        (
            {"SSL_CERT_FILE": "/no/such.pem"},
            HTTPS,
            "SSL_CERT_FILE: no such file or folder: /no/such.pem",
            "unset SSL_CERT_FILE, or correct it",
        ),
    ],
)
def test_unsupported_settings_are_errors(
    environment: dict[str, str], url: str, message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lbr_cli.network.find_spec", lambda name: None)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(MissingError) as error, checked_environment(url):
        pass
    assert (str(error.value), error.value.hint) == (message, hint)


def test_other_variables_are_hidden_from_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lbr_cli.network.find_spec", lambda name: None)
    given = {"ALL_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": "/no/such.pem"}
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    with checked_environment(HTTP):
        assert "ALL_PROXY" not in os.environ
        assert "SSL_CERT_FILE" not in os.environ
        assert os.environ["NO_PROXY"] == "127.0.0.1"
    assert {name: os.environ[name] for name in given} == given


def test_the_address_of_a_socks_proxy_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@proxy.example")
    assert socks_address(HTTPS) == ("proxy.example", 1080)
