"""Tests of redirects: their targets, and the credentials that are sent there."""

import asyncio
import base64
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from multidict import CIMultiDict
from yarl import URL

from mirror.content import stream
from mirror.errors import MirrorError, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository, http
from mirror.registry.transport.addresses import is_loopback
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.urls import location_of
from tests.support.registry import Basic, EmbeddedRegistry, Fault, Redirect, serving

pytestmark = pytest.mark.usefixtures("each_exchange")

DATA = b"content"
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
PATH = f"/v2/a/blobs/{NODE.digest}"
FROM = "https://registry.example/v2/a/blobs/uploads/1?state=x"


def answer(text: str, url: str = FROM) -> Response:
    given = SimpleNamespace(url=URL(url, encoded=True), headers=CIMultiDict({"Location": text}))
    return cast(Response, given)


# Locations


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/v2/x", "https://registry.example/v2/x"),
        ("2", "https://registry.example/v2/a/blobs/uploads/2"),
        ("?digest=y", "https://registry.example/v2/a/blobs/uploads/1?digest=y"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("https://cdn.example:8443/x", "https://cdn.example:8443/x"),
        ("https://cdn.example/a%2Fb%2fc?sig=%2B%2b+/=&x=a%20b", "https://cdn.example/a%2Fb%2fc?sig=%2B%2b+/=&x=a%20b"),
        ("https://cdn.example/x?a=1;b=2&c='(\")|", "https://cdn.example/x?a=1;b=2&c='(\")|"),
        ("https://[::1]:5000/x", "https://[::1]:5000/x"),
    ],
)
def test_location_is_resolved_without_changing_its_encoding(text: str, url: str) -> None:
    assert str(location_of(answer(text))) == url


@pytest.mark.parametrize(
    "text",
    [
        "file:///etc/passwd",
        "ftp://cdn.example/x",
        "data:text/plain,x",
        "javascript:alert(1)",
        "gopher://cdn.example",
        "http://cdn.example/x",
        "https://[::1/x",
        "https://cdn.example:99999/x",
        "https://cdn.example:port/x",
        "https://℀.example/x",
    ],
)
def test_invalid_or_insecure_location_is_refused(text: str) -> None:
    with pytest.raises(TransferError, match="redirected"):
        location_of(answer(text))


def test_missing_or_empty_location_is_refused() -> None:
    empty, bare = answer(""), answer("")
    del bare.headers["Location"]  # type: ignore[attr-defined]
    for response in (empty, bare):
        with pytest.raises(TransferError, match="there is no Location header"):
            location_of(response)


def test_plain_http_may_redirect_to_plain_http() -> None:
    assert str(location_of(answer("http://127.0.0.1:2/x", "http://127.0.0.1:1/"))) == "http://127.0.0.1:2/x"


def test_query_of_the_url_is_not_in_the_error() -> None:
    with pytest.raises(TransferError) as caught:
        location_of(answer("ftp://x", "https://registry.example/v2/?X-Signature=secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("", False),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("127.0.0.1.example", False),
        ("127.1", False),
        ("2130706433", False),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("registry.example", False),
    ],
)
def test_only_common_names_of_loopback_are_recognized(host: str, here: bool) -> None:
    assert is_loopback(host) is here


# Redirects over real connections


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty directory for docker's configuration."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


@pytest.fixture
def registry(home: Path) -> Iterator[EmbeddedRegistry]:
    """A registry that requires credentials, which the client has."""
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as running:
        text = base64.b64encode(b"ann:secret").decode()
        (home / "config.json").write_text(json.dumps({"auths": {running.host: {"auth": text}}}))
        running.put_blob("a", DATA)
        yield running


async def fetch(host: str) -> bytes:
    async with Client(RegistryOptions()) as client:
        repository = Repository(client.registry(host), "a")
        async with repository.open_blob(NODE) as body:
            return await stream.read(body, NODE)


def redirect(registry: EmbeddedRegistry, target: str, times: int | None = None) -> None:
    """Redirect requests for blobs."""
    registry.fault(Fault(method="GET", path="/blobs/", times=times, action=Redirect(target)))


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:99999/x",
        "http://localhost:0/x",
        f"http://{'a' * 64}.localhost/x",
        "http://a..localhost/x",
        "http://.localhost/x",
        "http://xn--.localhost/x",
        "http://ñ.localhost:1/x",
        "http://[::1/x",
        "http://[::1]:1/x",
        "http://[::1%25lo]:1/x",
        "http://localhost:/x",
        "http://localhost:1:2/x",
        "http://localhost:1\\@localhost/x",
        "http:///x",
        "http:x",
        "http://",
        "//",
        "?",
        "#",
        "\x80",
        "file:///etc/passwd",
        "http://u:p@localhost:1/x",
    ],
)
def test_any_redirect_target_is_followed_or_refused(registry: EmbeddedRegistry, target: str) -> None:
    redirect(registry, target, times=1)
    try:
        assert asyncio.run(fetch(registry.host)) == DATA
    except MirrorError as error:
        assert len(str(error)) < 2_000  # noqa: PT017 either is right


def test_credentials_in_a_redirect_url_are_ignored(registry: EmbeddedRegistry) -> None:
    redirect(registry, f"http://eve:evil@{registry.host}{PATH}?again", times=1)
    assert asyncio.run(fetch(registry.host)) == DATA
    sent = {seen.headers.get("authorization") for seen in registry.requests}
    assert sent == {None, "Basic " + base64.b64encode(b"ann:secret").decode()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{'a' * 64}.localhost", f"{'a' * 64}.localhost:5000", f"{'a' * 64}.invalid"])
def test_invalid_registry_name_is_an_error(home: Path, name: str) -> None:
    assert not (home / "config.json").exists()
    with pytest.raises(MirrorError):
        asyncio.run(fetch(name))


def test_credentials_are_not_sent_to_another_port(registry: EmbeddedRegistry) -> None:
    with serving(EmbeddedRegistry()) as other:
        other.put_blob("a", DATA)
        redirect(registry, f"{other.url}{PATH}")
        assert asyncio.run(fetch(registry.host)) == DATA
        assert [seen.headers.get("authorization") for seen in other.requests] == [None]


def test_redirect_back_to_the_registry_sends_its_credentials_again(registry: EmbeddedRegistry) -> None:
    with serving(EmbeddedRegistry()) as other:
        other.fault(Fault(action=Redirect(f"{registry.url}{PATH}")))
        redirect(registry, f"{other.url}{PATH}", times=1)
        assert asyncio.run(fetch(registry.host)) == DATA
        assert [seen.headers.get("authorization") for seen in other.requests] == [None]


def test_ten_redirects_are_followed_and_no_more(registry: EmbeddedRegistry) -> None:
    redirect(registry, PATH)
    with pytest.raises(TransferError, match="more than 10 redirects"):
        asyncio.run(fetch(registry.host))
    assert registry.count("GET", "/blobs/") == 10


@pytest.mark.slow
def test_endless_102_responses_time_out(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """CVE-2026-22815: an endless series of 102 Processing."""

    async def run() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                await reader.readuntil(b"\r\n\r\n")
                while True:
                    writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
                    await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1") as server:
            host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            options = RegistryOptions(plain_http=frozenset({host}), timeout=0.2)
            async with Client(options) as opened:
                await Repository(opened.registry(host), "a").resolve("v1")

    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 0.1)
    with pytest.raises(TransferError, match="stopped answering"):
        asyncio.run(run())
