"""HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as curl and Go understand them."""

import asyncio
import os

import pytest
from yarl import URL

from mirror.errors import TransferError
from mirror.registry import Client, Options, Repository
from mirror.registry.proxy import proxy_for

PROXY = "http://proxy.example:3128"
PLAIN, SECURE = "http://registry.example:5000/v2/", "https://registry.example/v2/"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy but those that a test sets."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "REQUEST_METHOD":
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "url", "used"),
    [
        ({}, PLAIN, False),
        ({"HTTP_PROXY": PROXY}, PLAIN, True),
        ({"http_proxy": PROXY}, PLAIN, True),
        ({"HTTP_PROXY": PROXY}, SECURE, False),
        ({"HTTPS_PROXY": PROXY}, SECURE, True),
        ({"https_proxy": PROXY}, SECURE, True),
        ({"HTTPS_PROXY": PROXY}, PLAIN, False),
        ({"HTTP_PROXY": ""}, PLAIN, False),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "registry.example"}, PLAIN, False),
        ({"HTTP_PROXY": PROXY, "no_proxy": "registry.example"}, PLAIN, False),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "example"}, PLAIN, False),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": ".example"}, PLAIN, False),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "other.example, registry.example"}, PLAIN, False),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, PLAIN, False),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "ample"}, PLAIN, True),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "other.example"}, PLAIN, True),
        ({"HTTP_PROXY": PROXY}, "http://127.0.0.1:5000/v2/", False),
        ({"HTTP_PROXY": PROXY}, "http://localhost:5000/v2/", False),
        ({"HTTP_PROXY": PROXY}, "http://a.localhost:5000/v2/", False),
        ({"HTTP_PROXY": PROXY}, "http://[::1]:5000/v2/", False),
        ({"HTTP_PROXY": PROXY}, "http://10.0.0.1:5000/v2/", True),
        ({"ALL_PROXY": PROXY}, PLAIN, False),
    ],
)
def test_the_environment_says_which_proxy_is_used(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, used: bool
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert proxy_for(URL(url)) == (URL(PROXY) if used else None)


def test_credentials_of_a_proxy_stay_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://ann:secret@proxy.example:3128")
    assert proxy_for(URL(PLAIN)) == URL("http://ann:secret@proxy.example:3128")


async def ask() -> None:
    async with Client(Options(plain_http=frozenset({"*"}))) as opened:
        await Repository(opened.registry("registry.invalid:80"), "a").resolve("latest")


@pytest.mark.parametrize(
    "proxy", ["127.0.0.1:1", "proxy", "://", "http://[::1", "http://127.0.0.1:99999", "socks5://127.0.0.1:1"]
)
def test_a_proxy_that_is_none_is_a_clean_error(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(TransferError, match=r"registry\.invalid"):
        asyncio.run(ask())


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(TransferError, match=r"cannot connect to 127\.0\.0\.1:1"):
        asyncio.run(ask())
