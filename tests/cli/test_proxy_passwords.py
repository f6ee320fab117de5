"""Tests of passwords for proxies: any bytes are sent as they are, and never shown."""

import base64
from urllib.parse import quote

import pytest

from tests.support import images
from tests.support.certificate import Authority, server_tls
from tests.support.command import Mirror, assert_whole
from tests.support.proxy import proxying
from tests.support.registry import EmbeddedRegistry, serving

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_exchange")]

IMAGE = images.image("linux/amd64", images.layer(1, 1000))
PASSWORDS = ["пароль", "密码", "naïve", "p:a s", "50€%20#/?@&+", "\U0001f600", ""]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_password_in_any_script_is_sent_as_utf_8(mirror: Mirror, scheme: str, password: str) -> None:
    authority = Authority.at(mirror.folder / "ca.pem")
    tls = server_tls(authority.sign(mirror.folder / "server.pem", "registry.test")) if scheme == "https" else None
    with serving(EmbeddedRegistry(tls=tls)) as registry, proxying({"registry.test:5000": registry.host}) as proxy:
        IMAGE.publish(registry, "a", "v1")
        address = proxy.url.removeprefix("http://")
        flags = ("--ca-file", authority.file) if tls else ("--plain-http",)
        env = {f"{scheme.upper()}_PROXY": f"http://ann:{quote(password, safe='')}@{address}"}
        mirror("pull", "registry.test:5000/a:v1", *flags, env=env)
        assert_whole(mirror.folder / "layout")
        expected = "Basic " + base64.b64encode(f"ann:{password}".encode()).decode()
        assert set(proxy.credentials) == {expected}


def test_password_that_is_not_quoted_is_sent_too(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    with proxying({"registry.test:5000": registry.host}) as proxy:
        IMAGE.publish(registry, "a", "v1")
        env = {"HTTP_PROXY": f"http://ann:пароль€@{proxy.url.removeprefix('http://')}"}
        mirror("pull", "registry.test:5000/a:v1", "--plain-http", env=env)
        assert set(proxy.credentials) == {"Basic " + base64.b64encode("ann:пароль€".encode()).decode()}


def test_bytes_outside_utf_8_are_sent_as_they_are(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    with proxying({"registry.test:5000": registry.host}) as proxy:
        IMAGE.publish(registry, "a", "v1")
        env = {"HTTP_PROXY": f"http://ann:%FF%e4@{proxy.url.removeprefix('http://')}"}
        mirror("pull", "registry.test:5000/a:v1", "--plain-http", env=env)
        assert set(proxy.credentials) == {"Basic " + base64.b64encode(b"ann:\xff\xe4").decode()}


@pytest.mark.parametrize("password", ["1/xyzzy", "1?xyzzy", "1#xyzzy", "xyzzy/1", "1#xyzzy:2@a"])
def test_password_that_ends_the_host_is_not_shown(mirror: Mirror, password: str) -> None:
    env = {"HTTP_PROXY": f"http://127.0.0.1:{password}@127.0.0.1:9"}
    failed = mirror("pull", "registry.test:5000/a:v1", "--plain-http", "-v", env=env, code=2)
    assert failed.err.startswith("error: HTTP_PROXY is not a valid proxy URL.")
    assert "xyzzy" not in failed.err
    assert "127.0.0.1" not in failed.err


def test_rejected_password_is_not_shown(mirror: Mirror) -> None:
    env = {"HTTP_PROXY": "http://ann:пароль@127.0.0.1:9"}
    failed = mirror("pull", "registry.test:5000/a:v1", "--plain-http", "-v", env=env, code=1)
    assert not set("пароль") & set(failed.err)
