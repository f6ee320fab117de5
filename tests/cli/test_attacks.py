"""Tests of known attacks by a registry, a token server, the target of a redirect, a mirror or a proxy.

Each test runs the command. Tests of credential leaks assert which headers the attacker received.
"""

import base64
import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import images
from tests.support.certificate import self_signed
from tests.support.command import Mirror, Result, assert_whole, blob_path, entries, tree
from tests.support.namespace import isolated
from tests.support.proxy import proxying
from tests.support.registry import (
    Action,
    Basic,
    Bearer,
    EmbeddedRegistry,
    Fault,
    Flip,
    Header,
    Redirect,
    Status,
    serving,
)
from tests.support.registry.auth import Auth
from tests.support.registry.messages import Answer, Call

pytestmark = pytest.mark.usefixtures("each_exchange")

IMAGE = images.multi_arch(["linux/amd64", "linux/arm64"])
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))
USERS = {"ann": "secret"}
BASIC = "Basic " + base64.b64encode(b"ann:secret").decode()
SECRETS = ("authorization", "cookie", "proxy-authorization")


def login(mirror: Mirror, *hosts: str) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    auths = {host: {"auth": BASIC.removeprefix("Basic ")} for host in hosts}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))


def pull(mirror: Mirror, registry: EmbeddedRegistry | str, *flags: object, code: int = 1, retries: int = 0) -> Result:
    """Pull the image; assert that the layout is valid and has the image, or none after a failure."""
    host = registry if isinstance(registry, str) else registry.host
    result = mirror("pull", f"{host}/a:v1", "--all", "--retries", retries, *flags, code=code)
    layout = mirror.folder / "layout"
    if not code or layout.exists():
        assert_whole(layout)
        roots = [entry["digest"] for entry in entries(layout)]
        assert roots == [] if code else IMAGE.root in roots
    return result


def secrets_of(registry: EmbeddedRegistry) -> list[str]:
    return [seen.headers[name] for seen in registry.requests for name in SECRETS if name in seen.headers]


@contextmanager
def serving_image(**settings: object) -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(**settings)) as registry:  # type: ignore[arg-type]
        IMAGE.publish(registry, "a", "v1")
        yield registry


@pytest.fixture(params=["basic", "bearer"])
def guarded(request: pytest.FixtureRequest, mirror: Mirror) -> Iterator[EmbeddedRegistry]:
    """A registry that requires credentials, which the user has."""
    auth: Auth = Basic(USERS) if request.param == "basic" else Bearer(USERS)
    with serving_image(auth=auth) as registry:
        login(mirror, registry.host)
        yield registry


@pytest.fixture
def thief() -> Iterator[EmbeddedRegistry]:
    """A registry on another port that has the image and requests credentials."""
    with serving_image() as registry:
        asks = Status(401, (("WWW-Authenticate", 'Basic realm="give"'),))
        registry.fault(Fault(times=None, action=asks))
        yield registry


def redirect_blob(registry: EmbeddedRegistry, target: str, path: str = LAYER, code: int = 307) -> None:
    registry.fault(Fault(path=path, times=None, action=Redirect(target, code)))


# Credential leaks


@pytest.mark.slow
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_to_another_host_gets_no_credentials(
    mirror: Mirror, guarded: EmbeddedRegistry, thief: EmbeddedRegistry, code: int
) -> None:
    """GHSA-vh4v-2xq2-g5cg, aiohttp GHSA-966j-vmvw-g2g9"""
    redirect_blob(guarded, f"{thief.url}/v2/a/blobs/{LAYER}", code=code)
    pull(mirror, guarded)
    assert thief.requests
    assert secrets_of(thief) == []


@pytest.mark.slow
def test_redirect_to_another_name_of_the_host_gets_no_credentials(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    """GHSA-vh4v-2xq2-g5cg"""
    redirect_blob(guarded, f"http://localhost:{guarded.host.partition(':')[2]}/v2/a/blobs/{LAYER}")
    pull(mirror, guarded)
    strange = [seen for seen in guarded.requests if seen.headers["host"].startswith("localhost")]
    assert strange
    assert not any(name in seen.headers for seen in strange for name in SECRETS)


@pytest.mark.slow
def test_redirect_back_to_the_registry_leaks_no_credentials(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    """GHSA-vh4v-2xq2-g5cg"""
    with serving(EmbeddedRegistry()) as other:
        other.fault(Fault(times=None, action=Redirect(f"{guarded.url}/v2/a/blobs/{LAYER}?again")))
        guarded.fault(Fault(path=f"/blobs/{LAYER}$", times=None, action=Redirect(f"{other.url}/x")))
        pull(mirror, guarded)
        assert other.requests
        assert secrets_of(other) == []


def test_redirect_of_the_token_server_gets_no_credentials(mirror: Mirror, thief: EmbeddedRegistry) -> None:
    """CVE-2026-48978"""
    with serving_image(auth=Bearer(USERS)) as registry:
        login(mirror, registry.host)
        redirect_blob(registry, f"{thief.url}/token", path="^/token")
        pull(mirror, registry)
        assert [seen.path for seen in thief.requests] == ["/token"]
        assert secrets_of(thief) == []


def test_redirect_within_the_token_server_is_followed(mirror: Mirror) -> None:
    """CVE-2026-48978: a harmless case"""
    with serving_image(auth=Bearer(USERS)) as registry:
        login(mirror, registry.host)
        registry.fault(
            Fault(path="^/token$", action=Redirect("/token?again=1&service=embedded&scope=repository:a:pull"))
        )
        pull(mirror, registry, code=0)
        asked = [seen for seen in registry.requests if seen.path == "/token"]
        assert ["again" in seen.query for seen in asked] == [False, True]
        assert [seen.headers["authorization"] for seen in asked] == [BASIC, BASIC]


def test_realm_on_another_host_gets_no_credentials_of_that_host(mirror: Mirror, thief: EmbeddedRegistry) -> None:
    """CVE-2019-10214: stored credentials of the realm's host are for that registry only"""
    with serving_image(auth=Bearer({}, token_realm=f"{thief.url}/token")) as registry:
        login(mirror, "registry.example", thief.host)
        pull(mirror, registry)
    assert thief.requests
    assert secrets_of(thief) == []


@pytest.mark.slow
def test_upload_location_on_another_host_gets_no_credentials(mirror: Mirror, thief: EmbeddedRegistry) -> None:
    """CVE-2026-50151"""
    with serving_image() as source:
        mirror("pull", f"{source.host}/a:v1", "--all")
    with serving(EmbeddedRegistry(auth=Basic(USERS))) as registry:
        login(mirror, registry.host)
        elsewhere = Header("Location", f"{thief.url}/v2/a/blobs/uploads/1?state=x")
        registry.fault(Fault(method="POST", times=None, action=elsewhere))
        mirror("push", "layout", registry.host, "--retries", 0, code=1)
        assert registry.tags("a") == {}
    assert {seen.method for seen in thief.requests} >= {"PUT"}
    assert secrets_of(thief) == []


@pytest.mark.slow
def test_mirror_gets_no_credentials_of_the_origin(
    mirror: Mirror, guarded: EmbeddedRegistry, thief: EmbeddedRegistry
) -> None:
    """CVE-2020-15157"""
    write_mirrors(mirror, guarded, thief.host)
    pull(mirror, guarded, "--config", "own.toml", code=0)
    assert thief.requests
    assert secrets_of(thief) == []


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_proxy_credentials_are_sent_only_to_the_proxy(mirror: Mirror, tmp_path: Path, secure: bool) -> None:
    """CVE-2018-18074: the registry does not receive them, and they are not printed"""
    tls = self_signed(tmp_path / "server.pem") if secure else None
    with serving_image(tls=tls) as registry, proxying({"registry.test:5000": registry.host}) as proxy:
        env = {f"HTTP{'S' if secure else ''}_PROXY": proxy.url.replace("//", "//ann:hidden@")}
        flag = "--insecure" if secure else "--plain-http"
        mirror("pull", "registry.test:5000/a:v1", "--all", flag, env=env)
        failed = mirror("pull", "other.test/a:v1", flag, "-v", "--retries", 0, env=env, code=1)
        assert secrets_of(registry) == []
    assert "hidden" not in failed.err
    assert set(proxy.credentials) == {"Basic " + base64.b64encode(b"ann:hidden").decode()}


# Requests to internal addresses


def errors_of_targets(mirror: Mirror, registry: EmbeddedRegistry, way: str, targets: Sequence[str]) -> list[str]:
    """Let the registry direct the client to each target in a given way, and return the errors."""
    if way == "upload":
        return [error_of_upload_target(mirror, registry, target) for target in targets]
    for number, target in enumerate(targets):
        IMAGE.publish(registry, f"a{number}", "v1")
        asks = Status(401, (("WWW-Authenticate", f'Bearer realm="{target}",service="x"'),))
        fault = {
            "redirect": Fault(path=f"/a{number}/blobs/{LAYER}", times=None, action=Redirect(target)),
            "realm": Fault(path=f"^/v2/a{number}/", times=None, action=asks),
            "token redirect": Fault(path=f"^/token.*repository:a{number}:", times=None, action=Redirect(target)),
        }[way]
        registry.fault(fault)
    names = [f"{registry.host}/a{number}:v1" for number in range(len(targets))]
    flags = ["--all", "--keep-going", "--json", "--plain-http", "--retries", 0]
    result = mirror("pull", *names, *flags, code=1)
    assert not (mirror.folder / "layout/index.json").exists() or entries(mirror.folder / "layout") == []
    return [image["error"] for image in result.json["images"]]


def error_of_upload_target(mirror: Mirror, registry: EmbeddedRegistry, target: str) -> str:
    if not (mirror.folder / "pushed").exists():
        mirror("pull", f"{registry.host}/a:v1", "--all", "--plain-http", "-o", "pushed")
    registry.clear_faults()
    registry.fault(Fault(method="POST", times=None, action=Status(202, (("Location", target),))))
    return mirror("push", "pushed", f"{registry.host}/b", "--plain-http", "--retries", 0, code=1).err


METADATA = [
    "169.254.169.254",
    "[fd00:ec2::254]",
    "100.100.100.200",
    "0.0.0.0:{}",
    "[::]:{}",
    "[fe80::1]",
    "[::ffff:a9fe:a9fe]",
]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["redirect", "realm", "token redirect", "upload"])
def test_metadata_and_unspecified_addresses_are_never_contacted(mirror: Mirror, way: str) -> None:
    """CVE-2026-33540, CVE-2026-50151: not even for a registry on this machine"""
    with serving_image(auth=Bearer(USERS, anonymous_pull=True)) as registry:
        login(mirror, registry.host)
        port = registry.host.partition(":")[2]
        hosts = METADATA[:4] if way == "upload" else METADATA
        targets = [f"http://{host.format(port)}/latest/meta-data/" for host in hosts]
        for error in errors_of_targets(mirror, registry, way, targets):
            assert "Not connecting" in error


WAYS = ["redirect", "realm", "token redirect"]
# The loopback address: IPv4, local names, a DNS name, numeric forms, and IPv6-mapped.
PLACES = [
    "127.0.0.1",
    "localhost",
    "localhost.",
    "rebind.test",
    "2130706433",
    "127.1",
    "0x7f000001",
    "[::ffff:127.0.0.1]",
]
NAMES = {"rebind.test": "127.0.0.1", "registry.test": "1.2.3.4", "lan.test": "10.0.0.1", "store.test": "1.2.3.5"}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@isolated("10.0.0.1/32", names=NAMES)
def test_registry_on_our_network_cannot_reach_this_machine(mirror: Mirror, tmp_path: Path, way: str) -> None:
    """CVE-2026-48978, CVE-2026-33540"""
    assert_out_of_reach(mirror, "10.0.0.1", "127.0.0.1", PLACES, way)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@isolated("1.2.3.4/32", "10.0.0.1/32", names=NAMES)
def test_registry_on_the_internet_cannot_reach_our_network(mirror: Mirror, tmp_path: Path, way: str) -> None:
    """CVE-2026-48978, CVE-2026-33540"""
    assert_out_of_reach(mirror, "1.2.3.4", "10.0.0.1", ["10.0.0.1", "lan.test", "167772161", "10.1"], way)


@pytest.mark.slow
@isolated("1.2.3.4/32", "10.0.0.1/32", names=NAMES)
def test_upload_location_cannot_reach_our_network(mirror: Mirror, tmp_path: Path) -> None:
    """CVE-2026-50151"""
    assert_out_of_reach(mirror, "1.2.3.4", "10.0.0.1", ["10.0.0.1", "lan.test"], "upload")


def assert_out_of_reach(mirror: Mirror, own: str, address: str, hosts: Sequence[str], way: str) -> None:
    """Assert that a registry at `own` cannot make the client connect to `address` under any of its names."""
    auth = Bearer(USERS, anonymous_pull=True)
    with serving_image(address=own, auth=auth) as registry, serving(EmbeddedRegistry(address=address)) as victim:
        login(mirror, registry.host)
        port = victim.host.partition(":")[2]
        errors = errors_of_targets(mirror, registry, way, [f"http://{host}:{port}/admin" for host in hosts])
        assert victim.requests == []
        assert all("Not connecting" in error or "not a valid URL" in error for error in errors), "\n".join(errors)


@pytest.mark.slow
@isolated("1.2.3.4/32", names=NAMES)
def test_registry_name_may_resolve_to_any_address(mirror: Mirror, tmp_path: Path) -> None:
    """Not an attack: the user chose the name"""
    with serving_image() as registry:
        name = f"rebind.test:{registry.host.partition(':')[2]}"
        pull(mirror, name, "--plain-http", code=0)
        assert {seen.headers["host"] for seen in registry.requests} == {name}


# Over-blocking: legitimate setups


@pytest.mark.slow
def test_on_premises_registry_with_its_token_server_on_another_port(mirror: Mirror) -> None:
    """Over-blocking: no flag is needed"""
    tokens = Bearer(USERS)
    with serving(EmbeddedRegistry(auth=tokens)) as server, serving_image(auth=tokens) as registry:
        tokens.token_realm = f"{server.url}/token"
        login(mirror, registry.host)
        pull(mirror, registry, code=0)
        assert server.count("GET", "^/token$") > 0


@pytest.mark.slow
@isolated("10.0.0.1/32", "10.9.0.1/32", "192.168.7.1/32", names=NAMES)
def test_on_premises_registry_with_token_server_and_storage_on_other_hosts(mirror: Mirror, tmp_path: Path) -> None:
    """Over-blocking: only the flag for HTTP is needed"""
    tokens = Bearer(USERS)
    with (
        serving(EmbeddedRegistry(auth=tokens, address="10.9.0.1")) as server,
        serving_image(address="192.168.7.1") as storage,
        serving_image(auth=tokens, address="10.0.0.1") as registry,
    ):
        tokens.token_realm = f"{server.url}/token"
        login(mirror, registry.host)
        redirect_blob(registry, f"{storage.url}/v2/a/blobs/{LAYER}")
        pull(mirror, registry, "--plain-http", code=0)
        assert secrets_of(storage) == []


@pytest.mark.slow
@isolated("1.2.3.4/32", "1.2.3.5/32", "10.0.0.1/32", names=NAMES)
def test_public_registry_with_token_server_and_storage_on_other_public_hosts(mirror: Mirror, tmp_path: Path) -> None:
    """Over-blocking: the setup of Docker Hub"""
    tokens = Bearer(USERS)
    with (
        serving(EmbeddedRegistry(auth=tokens, address="1.2.3.5")) as server,
        serving_image(address="1.2.3.5") as storage,
        serving_image(auth=tokens, address="1.2.3.4") as registry,
    ):
        tokens.token_realm = f"{server.url}/token".replace("1.2.3.5", "store.test")
        redirect_blob(registry, f"{storage.url}/v2/a/blobs/{LAYER}")
        login(mirror, f"registry.test:{registry.host.partition(':')[2]}")
        pull(mirror, f"registry.test:{registry.host.partition(':')[2]}", "--plain-http", code=0)
        assert server.count("GET", "^/token$") > 0
        assert storage.count("GET", LAYER) == 1
        assert secrets_of(storage) == []


@pytest.mark.slow
@isolated("1.2.3.4/32", "10.0.0.1/32", names=NAMES)
def test_trusted_networks_allow_private_storage_of_a_public_registry(mirror: Mirror, tmp_path: Path) -> None:
    """Over-blocking: the advice in the error works"""
    with serving_image(address="10.0.0.1") as storage, serving_image(address="1.2.3.4") as registry:
        redirect_blob(registry, f"{storage.url}/v2/a/blobs/{LAYER}")
        hint = pull(mirror, registry, "--plain-http").err
        assert f'[host."{registry.host}"] trusted_networks = ["10.0.0.1"]' in hint
        settings = f'[host."{registry.host}"]\ntrusted_networks = ["10.0.0.0/8"]'
        (tmp_path / "own.toml").write_text(settings)
        pull(mirror, registry, "--plain-http", "--config", "own.toml", code=0)


@pytest.mark.slow
def test_host_settings_in_the_current_directory_are_ignored(mirror: Mirror, tmp_path: Path) -> None:
    """CVE-2025-66034: a mirror.toml in the current directory may be untrusted"""
    with serving_image() as registry, serving_image() as thief:
        (tmp_path / "mirror.toml").write_text(f'[host."{registry.host}"]\nmirrors = ["{thief.host}"]')
        assert "host is ignored" in pull(mirror, registry, code=0).err
        assert thief.requests == []


@pytest.mark.slow
def test_settings_in_the_current_directory_cannot_leave_signatures_behind(mirror: Mirror, tmp_path: Path) -> None:
    """An attacker who replaces an image wants its signature to stay behind"""
    with serving_image() as registry:
        signed = images.artifact("application/vnd.dev.cosign", images.Blob.of(b"signed", "a/b"))
        signed.publish(registry, "a", images.cosign_tag(IMAGE))
        (tmp_path / "mirror.toml").write_text("referrers = false")
        assert "referrers is ignored" in pull(mirror, registry, code=0).err
        assert blob_path(tmp_path / "layout", signed.root).read_bytes() == signed.data


@pytest.mark.parametrize("text", [f"{'a.' * 50_000}a = 1", "#" * 300_000], ids=["dots", "size"])
def test_settings_that_take_long_to_parse_are_refused(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Otherwise a file of 100 kB takes half a minute"""
    monkeypatch.setattr("tomllib.loads", lambda _: pytest.fail("parsed"))
    (tmp_path / "mirror.toml").write_text(text)
    with serving_image() as registry:
        assert "so it is not read" in pull(mirror, registry, code=2).err
        assert registry.requests == []


# Redirects


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:70/", "data:,x", "unix:/x"]
)
@pytest.mark.parametrize("way", ["redirect", "realm", "upload"])
def test_url_with_another_scheme_is_refused(mirror: Mirror, target: str, way: str) -> None:
    """CVE-2018-1000007 and similar: http and https only"""
    with serving_image() as registry:
        assert "is not an http(s) URL" in errors_of_targets(mirror, registry, way, [target])[0]


def test_redirect_from_https_to_http_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    with serving_image() as plain, serving_image(tls=self_signed(tmp_path / "server.pem")) as registry:
        redirect_blob(registry, f"{plain.url}/v2/a/blobs/{LAYER}")
        assert "to unencrypted http" in pull(mirror, registry, "--insecure").err
        assert plain.requests == []


@pytest.mark.slow
def test_second_redirect_from_https_to_http_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    """The second of three servers redirects to plain HTTP."""
    tls = self_signed(tmp_path / "server.pem")
    with serving_image() as plain, serving_image(tls=tls) as second, serving_image(tls=tls) as registry:
        redirect_blob(second, f"{plain.url}/v2/a/blobs/{LAYER}")
        redirect_blob(registry, f"{second.url}/v2/a/blobs/{LAYER}")
        assert "to unencrypted http" in pull(mirror, registry, "--insecure").err
        assert second.requests
        assert plain.requests == []


@pytest.mark.slow
def test_redirect_loop_ends_after_ten_redirects(mirror: Mirror) -> None:
    """Three servers redirect to each other."""
    with serving_image() as first, serving_image() as second, serving_image() as third:
        for registry, target in ((first, second), (second, third), (third, first)):
            redirect_blob(registry, f"{target.url}/v2/a/blobs/{LAYER}")
        assert "more than 10 redirects" in pull(mirror, first).err
        assert sum(one.count("GET", LAYER) for one in (first, second, third)) == 10


@pytest.mark.slow
def test_signed_url_is_requested_byte_for_byte(mirror: Mirror) -> None:
    """Signatures cover the exact bytes: percent-encoding is neither added nor removed"""
    query = "?sig=%2b%2F+/=&x=a%20b;c='(\")|&é=%C3%A9"
    with serving_image() as storage, serving_image() as registry:
        redirect_blob(registry, f"{storage.url}/v2/a/blobs/{LAYER}{query}".replace("é", "e"))
        pull(mirror, registry, code=0)
        assert storage.requests[0].target == f"/v2/a/blobs/{LAYER}{query}".replace("é", "e")


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 500, 404])
def test_signed_url_is_not_printed(mirror: Mirror, status: int) -> None:
    """CVE-2025-27144 and similar: a reader of the log could fetch the blob"""
    with serving_image() as storage, serving_image() as registry:
        redirect_blob(registry, f"{storage.url}/v2/a/blobs/{LAYER}?X-Amz-Signature=verysecret")
        storage.fault(Fault(times=None, action=Status(status)))
        result = pull(mirror, registry, "-v")
    assert "verysecret" not in result.err


@pytest.mark.parametrize("target", ["ftp://u:verysecret@x/", "ftp://x/?sig=verysecret", "http://[::1?sig=verysecret"])
def test_invalid_signed_url_is_not_printed(mirror: Mirror, target: str) -> None:
    with serving_image() as registry:
        redirect_blob(registry, target)
        assert "verysecret" not in pull(mirror, registry, "-v").err


@pytest.mark.parametrize("flag", ["-v", "-q"])
def test_token_in_a_response_is_not_printed(mirror: Mirror, flag: str) -> None:
    """The registry repeats the token in its error."""
    auth = Bearer(USERS)
    with serving_image(auth=auth) as registry:
        login(mirror, registry.host)
        registry.fault(Fault(path=LAYER, times=None, action=Echo()))
        err = pull(mirror, registry, flag).err
        tokens = [seen.headers["authorization"].partition(" ")[2] for seen in registry.requests if LAYER in seen.path]
    assert tokens
    assert not any(token in err for token in tokens)


class Echo(Action):
    """Return the Authorization header of the request in the error."""

    def on_call(self, call: Call) -> Answer:
        said = {"errors": [{"code": "DENIED", "message": f"no: {call.headers.get('authorization')}"}]}
        return replace(Status(403).on_call(call)).with_body(json.dumps(said).encode())


# Mirrors


def write_mirrors(mirror: Mirror, registry: EmbeddedRegistry, *mirrors: str, more: str = "") -> None:
    """Write `own.toml` with mirrors of a registry."""
    settings = f'[host."{registry.host}"]\nmirrors = {json.dumps(list(mirrors))}\n{more}'
    (mirror.folder / "own.toml").write_text(settings)


@pytest.mark.slow
def test_corrupt_blob_of_a_mirror_is_fetched_from_the_next_mirror(mirror: Mirror, tmp_path: Path) -> None:
    """A poisoned mirror: its bytes are discarded, and the log names it."""
    with serving_image() as registry, serving_image() as poisoned, serving_image() as good:
        mirror("pull", f"{registry.host}/a:v1", "--all", "-o", "clean")
        registry.clear_log()
        poisoned.fault(Fault(path=LAYER, times=None, action=Flip(0)))
        write_mirrors(mirror, registry, poisoned.host, good.host)
        result = pull(mirror, registry, "--config", "own.toml", code=0, retries=1)
        assert f"The mirror {poisoned.host}/a was skipped: {LAYER}" in result.err
        assert tree(tmp_path / "layout") == tree(tmp_path / "clean")
        assert poisoned.count("GET", LAYER) == good.count("GET", LAYER) == 1
        assert registry.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["another image", "no JSON"])
def test_mirror_with_a_wrong_pinned_manifest_is_skipped(mirror: Mirror, lie: str) -> None:
    """GHSA-qv35-3gw6-8q4j"""
    other = images.image("linux/amd64", images.layer(7, 700))
    with serving_image() as registry, serving_image() as poisoned:
        body = other.data if lie == "another image" else b"{"
        poisoned.fault(
            Fault(path="/manifests/", times=None, action=Status(200, body=body, content_type=images.OCI_INDEX))
        )
        write_mirrors(mirror, registry, poisoned.host)
        name = f"{registry.host}/a@{IMAGE.root}"
        result = mirror("pull", name, "--all", "--config", "own.toml")
        assert f"The mirror {poisoned.host}/a was skipped" in result.err
        assert result.lines == [name]


# Excessive responses


@contextmanager
def responding(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server without TLS that calls `send` on each connection."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if connection.recv(65536).startswith(b"\x16"):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            else:
                send(connection)

    def run() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def flood(start: bytes, more: bytes) -> Callable[[socket.socket], None]:
    """Return a function that sends `start`, then half a gigabyte of `more`."""

    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        piece = more * (65536 // len(more))
        for _ in range(8192):
            connection.sendall(piece)

    return send


OK = b"HTTP/1.1 200 OK\r\n"
FLOODS = {
    "an endless status line": flood(b"HTTP/1.1 200 ", b"a"),
    "an endless header": flood(OK + b"X: ", b"a"),
    "endless headers": flood(OK, b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"),
    "an endless chunk extension": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "endless trailers": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"),
    "an endless manifest": flood(OK + b"Content-Type: application/json\r\n\r\n", b'{"a":'),
    "an endless manifest in chunks": flood(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"8\r\naaaaaaaa\r\n"),
    "an endless error": flood(b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\n\r\n", b'{"errors":'),
}


@pytest.mark.slow
@pytest.mark.parametrize("much", FLOODS)
def test_endless_response_is_refused(mirror: Mirror, much: str) -> None:
    """CVE-2026-22815"""
    with responding(FLOODS[much]) as host:
        assert len(pull(mirror, host, code=3 if "manifest" in much else 1).err) < 1000


@pytest.mark.slow
def test_content_encoding_is_not_decompressed(mirror: Mirror) -> None:
    """CVE-2025-69223: a decompression bomb is harmless, even one that has the size of the layer"""
    bomb = gzip.compress(bytes(1 << 21)).ljust(len(IMAGE.blobs[LAYER]), b"\0")
    with serving_image() as registry:
        headers = (("Content-Encoding", "gzip"),)
        registry.fault(Fault(path=LAYER, times=None, action=Status(200, headers, bomb)))
        err = pull(mirror, registry, code=3).err
    assert f"expected {LAYER}, found {images.digest_of(bomb)}." in err


@pytest.mark.parametrize("where", ["reason", "body", "header", "location", "realm"])
def test_escape_sequences_in_a_response_are_not_printed(mirror: Mirror, where: str) -> None:
    """CVE-2021-25743 and similar (`check_manners` asserts that the output is printable)"""
    escape = "\x1b]0;owned\x07\x1b[2J"
    said = json.dumps({"errors": [{"code": escape, "message": "\u009b31m\u202e" + escape}]}).encode()
    status = "HTTP/1.1 403 " + (escape if where == "reason" else "No")
    headers = {
        "header": f"X: {escape}\r\n",
        "location": f"Location: {escape}\r\n",
        "realm": f'WWW-Authenticate: Bearer realm="{escape}"\r\n',
    }.get(where, "")
    status = {"location": "HTTP/1.1 307 Go", "realm": "HTTP/1.1 401 Who"}.get(where, status)
    answer = f"{status}\r\n{headers}Content-Length: {len(said)}\r\n\r\n".encode("latin-1") + said
    with responding(lambda connection: connection.sendall(answer)) as host:
        pull(mirror, host, "-v")
