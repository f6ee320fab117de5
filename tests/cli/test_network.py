"""Tests of connections to registries: credentials, TLS, proxies and retries."""

import base64
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from tests.support import images
from tests.support.certificate import self_signed
from tests.support.command import Mirror, assert_whole, blob_path
from tests.support.proxy import proxying
from tests.support.registry import (
    Action,
    Basic,
    Bearer,
    Chunked,
    Cut,
    EmbeddedRegistry,
    Fault,
    Header,
    Reset,
    Status,
    Truncate,
    serving,
)

pytestmark = pytest.mark.usefixtures("each_exchange")

IMAGE = images.multi_arch()
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))
USERS = {"ann": "pass:word ü"}
BASIC = "Basic " + base64.b64encode("ann:pass:word ü".encode()).decode()


def login(mirror: Mirror, user: str, password: str, *keys: str) -> None:
    """Write credentials as `docker login` does."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {key: {"auth": auth} for key in keys}}))


# Credentials


@pytest.fixture(params=["basic", "bearer"])
def guarded(request: pytest.FixtureRequest) -> Iterator[EmbeddedRegistry]:
    auth = Basic(USERS) if request.param == "basic" else Bearer(USERS)
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        IMAGE.publish(registry, "a", "v1")
        yield registry


@pytest.mark.slow
def test_credentials_allow_pull_and_push(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    login(mirror, "ann", USERS["ann"], "other.example", guarded.host)
    mirror("pull", f"{guarded.host}/a:v1", "--all")
    mirror("push", "layout", f"{guarded.host}/copy")
    assert guarded.tags("copy/a") == {"v1": IMAGE.root}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["http://{}", "https://{}/v2/"])
def test_credentials_are_found_under_a_url(mirror: Mirror, guarded: EmbeddedRegistry, form: str) -> None:
    login(mirror, "ann", USERS["ann"], form.format(guarded.host))
    assert mirror("pull", f"{guarded.host}/a:v1", "--all").lines == [f"{guarded.host}/a:v1@{IMAGE.root}"]
    assert BASIC in {seen.headers.get("authorization") for seen in guarded.requests}


@pytest.mark.slow
def test_credentials_are_found_in_the_home_directory(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    login(mirror, "ann", USERS["ann"], guarded.host)
    result = mirror("pull", f"{guarded.host}/a:v1", "--all", env={"DOCKER_CONFIG": ""})
    assert result.lines == [f"{guarded.host}/a:v1@{IMAGE.root}"]
    assert BASIC in {seen.headers.get("authorization") for seen in guarded.requests}


def test_wrong_credentials_are_reported(mirror: Mirror, guarded: EmbeddedRegistry, tmp_path: Path) -> None:
    login(mirror, "ann", "guess", guarded.host)
    result = mirror("pull", f"{guarded.host}/a:v1", "--all", code=1)
    assert "401" in result.err
    assert "guess" not in result.err
    assert len(guarded.requests) < 10
    assert not (tmp_path / "layout").exists()


def test_missing_credentials_are_reported(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    assert f"mirror login {guarded.host}" in mirror("pull", f"{guarded.host}/a:v1", "--all", code=1).err


def test_credentials_are_not_sent_to_another_host(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    login(mirror, "ann", USERS["ann"], "127.0.0.1", "localhost:5000", "other.example")
    mirror("pull", f"{guarded.host}/a:v1", "--all", code=1)
    assert not any("Basic" in seen.headers.get("authorization", "") for seen in guarded.requests)


@pytest.mark.slow
def test_credentials_are_not_sent_without_a_challenge(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGE.publish(registry, "a", "v1")
    login(mirror, "ann", "secret", registry.host)
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert not any("authorization" in seen.headers for seen in registry.requests)


@pytest.mark.slow
def test_password_is_not_printed(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    login(mirror, "ann", USERS["ann"], guarded.host)
    guarded.fault(Fault(path=LAYER, times=2, action=Status(503)))
    result = mirror("pull", f"{guarded.host}/a:v1", "--all", "-v")
    auth = base64.b64encode(f"ann:{USERS['ann']}".encode()).decode()
    assert not any(secret in result.err + result.out for secret in (USERS["ann"], auth))


@pytest.mark.slow
def test_anonymous_token_is_fetched_once(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Bearer(anonymous_pull=True))) as registry:
        IMAGE.publish(registry, "a", "v1")
        mirror("pull", f"{registry.host}/a:v1", "--all", "-j", 8)
    assert registry.count("GET", "^/token$") == 1


@pytest.mark.slow
def test_expired_token_is_renewed(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Bearer(USERS))) as registry:
        IMAGE.publish(registry, "a", "v1")
        login(mirror, "ann", USERS["ann"], registry.host)
        registry.fault(Fault(path=LAYER, action=Status(401, (("WWW-Authenticate", challenge(registry)),))))
        mirror("pull", f"{registry.host}/a:v1", "--all")
    assert registry.count("GET", "^/token$") == 2


def challenge(registry: EmbeddedRegistry) -> str:
    return f'Bearer realm="{registry.url}/token",service="embedded",scope="repository:a:pull",error="invalid_token"'


@pytest.mark.slow
@pytest.mark.parametrize(
    "header",
    [
        'Negotiate, Bearer realm="{}/token", service="embedded"',
        'bearer Realm="{}/token",Service=embedded',
        'Basic realm="a, b", Bearer realm="{}/token",scope="repository:a:pull"',
    ],
)
def test_every_challenge_format_is_accepted(mirror: Mirror, tmp_path: Path, header: str) -> None:
    auth = Bearer(anonymous_pull=True)
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        IMAGE.publish(registry, "a", "v1")
        shape = Header("WWW-Authenticate", header.format(registry.url))
        registry.fault(Fault(path="^/v2/", action=shape))
        mirror("pull", f"{registry.host}/a:v1", "--all")
    assert [asked.scopes for asked in auth.asked] == [("repository:a:pull",)]
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_token_server_may_be_another_host(mirror: Mirror) -> None:
    tokens = Bearer(USERS)
    with serving(EmbeddedRegistry(auth=tokens)) as server, serving(EmbeddedRegistry(auth=tokens)) as registry:
        tokens.token_realm = f"{server.url}/token"
        IMAGE.publish(registry, "a", "v1")
        login(mirror, "ann", USERS["ann"], registry.host)
        mirror("pull", f"{registry.host}/a:v1", "--all")
        assert registry.count("GET", "^/token$") == 0


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"auths": {"HOST": {"auth": "!"}}}', '{"auths": {"HOST": {"auth": "YQ=="}}}']
)
def test_error_in_docker_config_names_the_file(mirror: Mirror, guarded: EmbeddedRegistry, text: str) -> None:
    login(mirror, "ann", "x")
    file = Path(mirror.env["DOCKER_CONFIG"]) / "config.json"
    file.write_text(text.replace("HOST", guarded.host))
    assert str(file) in mirror("pull", f"{guarded.host}/a:v1", "--all", code=2).err


# TLS and proxies


@pytest.fixture
def shop(registry: EmbeddedRegistry) -> EmbeddedRegistry:
    IMAGE.publish(registry, "a", "v1")
    return registry


def non_local_name(registry: EmbeddedRegistry) -> str:
    """Return an address of this machine that does not count as local."""
    return f"0.0.0.0:{registry.host.partition(':')[2]}"


@pytest.mark.slow
def test_plain_http_needs_a_flag(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert "--plain-http" in mirror("pull", f"{non_local_name(shop)}/a:v1", "--all", "--retries", 0, code=1).err
    assert shop.requests == []
    mirror("pull", f"{non_local_name(shop)}/a:v1", "--all", "--plain-http")


@pytest.mark.slow
def test_plain_http_is_a_setting_for_a_host(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(f'plain_http = ["{non_local_name(shop)}"]')
    assert "own.toml" in mirror("pull", f"{non_local_name(shop)}/a:v1", "--all", "--config", "own.toml").err


def test_plain_http_in_the_current_directory_is_ignored(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text(f'plain_http = ["{non_local_name(shop)}"]')
    assert "ignored" in mirror("pull", f"{non_local_name(shop)}/a:v1", "--all", "--retries", 0, code=1).err
    assert shop.requests == []


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[EmbeddedRegistry]:
    """Run a registry with TLS whose certificate is in `server.pem`."""
    with serving(EmbeddedRegistry(tls=self_signed(tmp_path / "server.pem", "localhost"))) as registry:
        IMAGE.publish(registry, "a", "v1")
        yield registry


@pytest.mark.slow
def test_self_signed_certificate_needs_a_flag(mirror: Mirror, secure: EmbeddedRegistry) -> None:
    assert "--insecure" in mirror("pull", f"{secure.host}/a:v1", "--all", "--retries", 0, code=1).err
    assert secure.requests == []
    mirror("pull", f"{secure.host}/a:v1", "--all", "--insecure")
    mirror("push", "layout", f"{secure.host}/copy", "--insecure")
    assert secure.tags("copy/a") == {"v1": IMAGE.root}


@pytest.mark.slow
def test_trusted_certificate_needs_no_flag(mirror: Mirror, secure: EmbeddedRegistry) -> None:
    result = mirror("pull", f"{secure.host}/a:v1", "--all", env={"SSL_CERT_FILE": "server.pem"})
    assert result.lines == [f"{secure.host}/a:v1@{IMAGE.root}"]
    assert "warning" not in result.err


@pytest.mark.slow
def test_plain_http_reads_no_cas(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    os.mkfifo(mirror.folder / "never.pem")  # opening it never ends
    command = mirror.command("pull", f"{shop.host}/a:v1", "--all")  # in a new process, which imports everything
    assert mirror.run(command, env={"SSL_CERT_FILE": "never.pem"}).code == 0
    assert_whole(mirror.folder / "layout")


def test_certificate_of_another_host_is_refused(mirror: Mirror, secure: EmbeddedRegistry) -> None:
    env = {"SSL_CERT_FILE": "server.pem"}
    result = mirror("pull", f"{non_local_name(secure)}/a:v1", "--all", "--retries", 0, env=env, code=1)
    assert "certificate" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_proxy_is_used(mirror: Mirror, shop: EmbeddedRegistry, variable: str) -> None:
    with proxying({"registry.test:5000": shop.host}) as proxy:
        env = {variable: proxy.url}
        mirror("pull", "registry.test:5000/a:v1", "--all", "--plain-http", env=env)
    assert set(proxy.asked) == {"GET registry.test:5000"}


@pytest.mark.slow
def test_proxy_is_used_for_a_push(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    mirror("pull", f"{shop.host}/a:v1", "--all")
    with (
        serving(EmbeddedRegistry(relative_locations=True)) as target,
        proxying({"registry.test:5000": target.host}) as proxy,
    ):
        mirror("push", "layout", "registry.test:5000", "--plain-http", env={"HTTP_PROXY": proxy.url})
    assert target.tags("a") == {"v1": IMAGE.root}


@pytest.mark.slow
@pytest.mark.parametrize("no_proxy", ["0.0.0.0", "*", "other.example, 0.0.0.0"])
def test_no_proxy_bypasses_the_proxy(mirror: Mirror, shop: EmbeddedRegistry, no_proxy: str) -> None:
    with proxying({}) as proxy:
        env = {"HTTP_PROXY": proxy.url, "NO_PROXY": no_proxy}
        mirror("pull", f"{non_local_name(shop)}/a:v1", "--all", "--plain-http", env=env)
    assert proxy.asked == []


@pytest.mark.slow
def test_local_registry_is_contacted_without_the_proxy(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    with proxying({}) as proxy:
        mirror("pull", f"{shop.host}/a:v1", "--all", env={"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url})
    assert proxy.asked == []


def test_error_status_of_a_proxy_is_reported(mirror: Mirror) -> None:
    with proxying({}) as proxy:
        env = {"HTTPS_PROXY": proxy.url}
        result = mirror("pull", "registry.test/a:v1", "--all", "--retries", 0, env=env, code=1)
    assert "502" in result.err


def test_refused_connection_is_reported(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    with serving(EmbeddedRegistry()) as gone:
        host = gone.host
    assert "onnection refused" in mirror("pull", f"{host}/a:v1", "--all", "--retries", 0, code=1).err


# Retries

NOW = (("Retry-After", "0"),)
PASSED = (("Retry-After", format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)),)

PASSING: dict[str, Action | tuple[Action, ...]] = {
    "408": Status(408),
    "429": Status(429, NOW),
    "429-date": Status(429, PASSED),
    "429-nonsense": Status(429, (("Retry-After", "soon"),)),
    "500": Status(500, content_type="text/html", body=b"<html>oops</html>"),
    "502": Status(502),
    "503": Status(503, NOW),
    "504": Status(504),
    "reset-at-once": Reset(None),
    "reset-in-the-middle": Reset(1000),
    "cut-at-once": Cut(None),
    "cut-before-the-body": Cut(0),
    "cut-in-the-middle": Cut(1000),
    "short": Truncate(1),
    "short-and-chunked": (Truncate(1), Chunked()),
    "short-without-length": (Truncate(1), Header("Content-Length", None)),
}


@pytest.fixture(scope="module")
def recovered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedRegistry, Path]]:
    """Pull images with one transient fault per layer, and some faults per manifest and tag."""
    mirror = Mirror(tmp_path_factory.mktemp("recovered"))
    with serving(EmbeddedRegistry()) as registry:
        for fault, action in PASSING.items():
            FAULTY[fault].publish(registry, repo_of(fault), "v1")
            registry.fault(Fault(method="GET", path=layer_of(fault), action=action))
        for fault in SIZELESS:
            registry.fault(Fault(method="GET", path=f"/{repo_of(fault)}/manifests/v1", action=PASSING[fault]))
            registry.fault(Fault(method="GET", path=f"/manifests/{child_of(fault)}", action=PASSING[fault]))
        mirror("pull", *(f"{registry.host}/{repo_of(fault)}:v1" for fault in PASSING), "--all", "-j", 16)
        yield registry, mirror.folder / "layout"


FAULTY = {
    fault: images.index([images.image("linux/amd64", images.layer(seed, 1500))])
    for seed, fault in enumerate(PASSING, 1000)
}
SIZELESS = ["429", "502", "cut-at-once", "reset-at-once", "cut-before-the-body"]  # detected without a known size


def repo_of(fault: str) -> str:
    return f"faulty/{fault}"


def child_of(fault: str) -> str:
    return next(iter(FAULTY[fault].manifests))


def layer_of(fault: str) -> str:
    return max(FAULTY[fault].blobs, key=lambda digest: len(FAULTY[fault].blobs[digest]))


@pytest.mark.slow
@pytest.mark.parametrize("fault", PASSING)
def test_blob_is_retried_after_a_transient_fault(recovered: tuple[EmbeddedRegistry, Path], fault: str) -> None:
    registry, layout = recovered
    assert registry.count("GET", layer_of(fault)) == 2
    assert blob_path(layout, layer_of(fault)).read_bytes() == FAULTY[fault].blobs[layer_of(fault)]


@pytest.mark.parametrize("fault", SIZELESS)
def test_manifest_is_retried_after_a_transient_fault(recovered: tuple[EmbeddedRegistry, Path], fault: str) -> None:
    registry, layout = recovered
    assert registry.count("GET", f"/{repo_of(fault)}/manifests/v1") == 2
    assert registry.count("GET", f"/manifests/{child_of(fault)}") == 2
    assert blob_path(layout, child_of(fault)).read_bytes() == FAULTY[fault].manifests[child_of(fault)][0]


def test_layout_is_valid_after_transient_faults(recovered: tuple[EmbeddedRegistry, Path]) -> None:
    assert_whole(recovered[1])


@pytest.mark.slow
def test_token_is_retried_after_a_transient_fault(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Bearer(anonymous_pull=True))) as registry:
        IMAGE.publish(registry, "a", "v1")
        registry.fault(Fault(path="/token", action=Status(503)))
        mirror("pull", f"{registry.host}/a:v1", "--all")
        assert [seen.status for seen in registry.requests if seen.path == "/token"] == [503, 200]


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 403, 404])
def test_permanent_error_is_not_retried(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path, status: int) -> None:
    shop.fault(Fault(path=LAYER, times=None, action=Status(status)))
    assert str(status) in mirror("pull", f"{shop.host}/a:v1", "--all", code=1).err
    assert shop.count("GET", LAYER) == 1
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
@pytest.mark.parametrize("retries", [0, 2])
def test_number_of_retries_is_respected(mirror: Mirror, shop: EmbeddedRegistry, retries: int) -> None:
    shop.fault(Fault(path=LAYER, times=None, action=Status(503, NOW)))
    mirror("pull", f"{shop.host}/a:v1", "--all", "--retries", retries, code=1)
    assert shop.count("GET", LAYER) == retries + 1


def test_missing_image_is_requested_once(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert "There is no image" in mirror("pull", f"{shop.host}/a:v2", code=2).err
    assert shop.count("GET") == 1


@pytest.mark.slow
def test_registry_at_an_ipv6_address(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(address="::1", auth=Basic(USERS))) as registry:
        IMAGE.publish(registry, "a", "v1")
        login(mirror, "ann", USERS["ann"], registry.host)
        assert registry.host.startswith("[::1]:")
        mirror("pull", f"{registry.host}/a:v1", "--all", env={"HTTP_PROXY": "http://127.0.0.1:1"})
        mirror("push", "layout", f"{registry.host}/b")
        assert registry.tags("b/a") == {"v1": IMAGE.root}


@pytest.mark.slow
def test_mirror_at_an_ipv6_address(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(address="::1")) as registry:
        IMAGE.publish(registry, "hub/library/a", "v1")
        (mirror.folder / "own.toml").write_text(f'[host."docker.io"]\nmirrors = ["{registry.host}/hub"]')
        pulled = mirror("pull", "a:v1", "--all", "--config", "own.toml")
        assert pulled.lines == [f"docker.io/library/a:v1@{IMAGE.root}"]
