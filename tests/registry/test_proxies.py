"""Tests of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, which mean the same as for curl and Go."""

import asyncio
import os
from contextlib import suppress

import pytest
from hypothesis import example, given
from yarl import URL

from mirror.errors import ConfigError, NotFound, TransferError
from mirror.registry import Client, RegistryOptions, Repository
from mirror.registry.transport.proxy import proxy_for
from tests.support.proxy import proxying
from tests.support.registry import EmbeddedRegistry, Fault, Redirect, serving
from tests.support.strategies import QUICK, nasty_text

pytestmark = pytest.mark.usefixtures("each_exchange")

PROXY = "http://proxy.example:3128"
PLAIN, SECURE = "http://registry.example:5000/v2/", "https://registry.example/v2/"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all proxies from the environment."""
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
def test_environment_selects_the_proxy(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, used: bool
) -> None:
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert proxy_for(URL(url)) == (URL(PROXY) if used else None)


def test_proxy_url_keeps_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://ann:secret@proxy.example:3128")
    assert proxy_for(URL(PLAIN)) == URL("http://ann:secret@proxy.example:3128")


async def ask(host: str = "registry.invalid:80") -> None:
    async with Client(RegistryOptions(plain_http=frozenset({"*"}))) as opened:
        await Repository(opened.registry(host), "a").resolve("latest")


@pytest.mark.parametrize(
    "proxy", ["://", "http://[::1", "http://u:hidden@127.0.0.1:99999", "ftp://hidden:1", "http://", "u:hidden@"]
)
def test_invalid_proxy_url_is_an_error_that_does_not_show_it(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match="HTTP_PROXY is not a valid proxy URL") as caught:
        asyncio.run(ask())
    assert "hidden" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
def test_socks_proxy_is_refused(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("http_proxy", f"{scheme}://ann:hidden@127.0.0.1:1")
    with pytest.raises(ConfigError, match=f"SOCKS proxy .{scheme}.") as caught:
        asyncio.run(ask())
    assert "hidden" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "127.0.0.1:1", "ann:hidden@127.0.0.1:1"])
def test_error_names_the_unreachable_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(TransferError, match=r"Cannot connect to the proxy 127\.0\.0\.1:1") as caught:
        asyncio.run(ask())
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("no_proxy", "host", "straight"),
    [
        ("registry.example", "registry.example", True),
        ("registry.example", "a.registry.example", True),
        ("registry.example", "aregistry.example", False),
        (".registry.example", "registry.example", False),
        (".registry.example", "a.registry.example", True),
        ("*.registry.example", "registry.example", False),
        ("*.registry.example", "a.b.registry.example", True),
        ("Registry.Example", "registry.example", True),
        ("registry.example:5000", "registry.example:5000", True),
        ("registry.example:5000", "registry.example:5001", False),
        ("registry.example:80", "registry.example", True),
        (".example:5000", "registry.example:5000", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "registry.example", False),
        ("10.1.2.3/8", "10.9.9.9", True),
        ("10.1.2.3", "10.1.2.3:5000", True),
        ("10.1.2.3:5000", "10.1.2.3:5000", True),
        ("10.1.2.3:5000", "10.1.2.3:5001", False),
        ("fd00::/8", "[fd12::1]:5000", True),
        ("fd12::1", "[fd12::1]:5000", True),
        ("fd12:0::1", "[fd12::1]", True),
        ("[fd12::1]", "[fd12::1]:5000", True),
        ("[fd12::1]:5000", "[fd12::1]:5000", True),
        ("[fd12::1]:5000", "[fd12::1]:5001", False),
        (" a.example , registry.example ", "registry.example", True),
        ("a.example,*", "registry.example", True),
        (",,:, .,*.", "registry.example", False),
        ("10.0.0.0/99, [::, http://registry.example", "registry.example", False),
    ],
)
def test_no_proxy_has_the_same_meaning_as_in_go(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, straight: bool
) -> None:
    """golang.org/x/net/http/httpproxy: `Config.NoProxy`."""
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(URL(f"http://{host}/v2/")) is None) is straight


@given(nasty_text, nasty_text)
@example("http://:3128", "")
@QUICK
def test_any_environment_is_used_or_refused(proxy: str, no_proxy: str) -> None:
    clean = [text.encode("utf-8", "replace").decode().replace("\0", "") for text in (proxy, no_proxy)]
    with (
        pytest.MonkeyPatch.context() as patch,
        suppress(ConfigError),
    ):
        patch.setenv("HTTP_PROXY", clean[0])
        patch.setenv("NO_PROXY", clean[1])
        used = proxy_for(URL(PLAIN))
        assert used is None or (used.host and used.port)


def test_upper_case_variable_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://lower.example:1")
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    assert proxy_for(URL(PLAIN)) == URL(PROXY)


def test_http_proxy_is_ignored_in_a_cgi_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2016-5388."""
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    assert proxy_for(URL(PLAIN)) is None


@pytest.mark.parametrize("host", ["10.0.0.1", "167772161", "10.1", "0x0a000001", "[fd12::1]", "169.254.169.254"])
def test_addresses_in_redirects_are_checked_behind_a_proxy_too(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Names are resolved by the proxy, but addresses are known before."""
    with serving(EmbeddedRegistry()) as registry, proxying({"registry.example:5000": registry.host}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        registry.fault(Fault(times=None, action=Redirect(f"http://{host}:5000/v2/")))
        with pytest.raises(TransferError, match=r"Not connecting|not a valid URL"):
            asyncio.run(ask("registry.example:5000"))
    assert proxy.asked == ["GET registry.example:5000"]


def test_private_registry_behind_a_proxy_may_redirect_to_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(EmbeddedRegistry()) as registry:
        hosts = {"10.0.0.1:5000": registry.host, "10.0.0.2:5000": registry.host}
        with proxying(hosts) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
            registry.fault(Fault(action=Redirect("http://10.0.0.2:5000/v2/a/manifests/latest")))
            with pytest.raises(NotFound):
                asyncio.run(ask("10.0.0.1:5000"))
    assert proxy.asked == ["GET 10.0.0.1:5000", "GET 10.0.0.2:5000"]


def test_insecure_registry_behind_an_https_proxy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "https://127.0.0.1:1")

    async def pull() -> None:
        async with Client(RegistryOptions(insecure=frozenset({"registry.example"}))) as opened:
            await Repository(opened.registry("registry.example"), "a").resolve("latest")

    with pytest.raises(ConfigError, match="would also apply to the proxy"):
        asyncio.run(pull())
