"""Tests of origins: a registry whose name has the default port of its scheme is not another host."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from yarl import URL

from mirror.registry.transport.urls import Origin
from tests.support import images
from tests.support.certificate import Authority, server_tls
from tests.support.command import Mirror, assert_whole
from tests.support.proxy import proxying
from tests.support.registry import Basic, Bearer, EmbeddedRegistry, Fault, Redirect, serving

pytestmark = pytest.mark.usefixtures("each_exchange")

IMAGE = images.image("linux/amd64", images.layer(1, 1000))
USERS = {"ann": "secret"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://host.test:443", "https://host.test/v2/", True),
        ("https://HOST.test", "https://host.test:443/v2/", True),
        ("http://host.test:80", "http://host.test/v2/", True),
        ("https://[::1]:443", "https://[::1]/v2/", True),
        ("https://host.test:80", "https://host.test/v2/", False),
        ("http://host.test:443", "https://host.test:443/v2/", False),
        ("http://host.test", "https://host.test/v2/", False),
        ("https://host.test:443", "https://host.test:5000/v2/", False),
        ("https://host.test", "https://host.test.evil.test/", False),
    ],
)
@pytest.mark.parametrize("encoded", [False, True])
def test_origins_are_equal_with_and_without_the_default_port(one: str, other: str, same: bool, encoded: bool) -> None:
    assert (Origin.of(URL(one)) == Origin.of(URL(other, encoded=encoded))) is same


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://host.test:443/v2/", "host.test"),
        ("http://host.test:80/", "host.test"),
        ("http://host.test:443/", "host.test:443"),
        ("https://[::1]:443/", "[::1]"),
        ("https://[::1]:5000/", "[::1]:5000"),
    ],
)
def test_authority_has_no_default_port(url: str, authority: str) -> None:
    assert Origin.of(URL(url, encoded=True)).authority == authority


@pytest.fixture(params=["https", "http"])
def at_default_port(request: pytest.FixtureRequest, mirror: Mirror) -> Iterator[tuple[EmbeddedRegistry, str]]:
    """A registry that a proxy reaches at the default port, which absolute Locations do not name; and its name."""
    port = {"https": 443, "http": 80}[request.param]
    authority = Authority.at(mirror.folder / "ca.pem")
    tls = server_tls(authority.sign(mirror.folder / "server.pem", "registry.test"))
    registry = EmbeddedRegistry(tls=tls if port == 443 else None, auth=Basic(USERS))
    with serving(registry), proxying(dict.fromkeys(("registry.test", f"registry.test:{port}"), registry.host)) as proxy:
        mirror.env |= {f"{request.param.upper()}_PROXY": proxy.url, "MIRROR_CA_FILE": str(authority.file)}
        mirror.env |= {} if port == 443 else {"MIRROR_PLAIN_HTTP": "1"}
        yield registry, f"registry.test:{port}"


@pytest.mark.slow
def test_registry_at_its_default_port_gets_credentials(
    mirror: Mirror, at_default_port: tuple[EmbeddedRegistry, str]
) -> None:
    registry, name = at_default_port
    mirror("login", name, "-u", "ann", "--password-stdin", stdin="secret")
    IMAGE.publish(registry, "a", "v1")
    mirror("pull", f"{name}/a:v1")
    mirror("push", "layout", f"{name}/copy")
    assert registry.tags("copy/a") == {"v1": IMAGE.root}
    assert_whole(mirror.folder / "layout")


@pytest.mark.slow
def test_redirect_to_the_default_port_keeps_the_credentials(
    mirror: Mirror, at_default_port: tuple[EmbeddedRegistry, str]
) -> None:
    registry, name = at_default_port
    host, _, port = name.partition(":")
    IMAGE.publish(registry, "a", "v1")
    scheme = "https" if port == "443" else "http"
    target = f"{scheme}://{host}:{port}/v2/a/manifests/v1?again"
    registry.fault(Fault(method="GET", path="/manifests/v1$", times=2, action=Redirect(target)))
    mirror("pull", f"{host}/a:v1", "-u", "ann", "--password-stdin", stdin="secret")
    assert_whole(mirror.folder / "layout")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["127.0.0.43:80", "localhost:80"])
def test_registry_on_loopback_at_port_80_is_one_host(mirror: Mirror, tmp_path: Path, name: str) -> None:
    auth = Bearer(USERS)
    address = "127.0.0.1" if name.startswith("localhost") else "127.0.0.43"
    try:
        with serving(EmbeddedRegistry(address=address, port=80, auth=auth)) as registry:
            IMAGE.publish(registry, "a", "v1")
            mirror("pull", f"{name}/a:v1", "-u", "ann", "--password-stdin", stdin="secret")
    except OSError as error:
        pytest.skip(f"port 80 cannot be used here: {error}")
    assert_whole(tmp_path / "layout")
