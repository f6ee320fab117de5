"""Tests of docker-registry behind nginx and squid: client certificates, caches, proxies and errors."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.layouts import assert_clean, everything, stored
from tests.peers.programs import DockerRegistry, Program, Skopeo, needed
from tests.peers.servers import nginx, squid
from tests.support.certificate import Authority
from tests.support.images import multi_arch

pytestmark = pytest.mark.peer

IMAGE = multi_arch(sizes=(1_500_000, 100))  # threads move the large layers
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))
TLS = """
server {
    listen 127.0.0.1:PORT ssl;
    ssl_certificate FOLDER/server.pem; ssl_certificate_key FOLDER/server.key;
    ssl_client_certificate FOLDER/authority.pem; ssl_verify_client on;
    client_max_body_size 0;
    location / {
        proxy_pass http://UPSTREAM; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
    }
}
"""
PLAIN = """
server {
    listen 127.0.0.1:PORT;
    proxy_http_version 1.1;
    location / { proxy_pass http://UPSTREAM; proxy_set_header Host $http_host; }
}
"""


@pytest.fixture
def published(registry: DockerRegistry) -> DockerRegistry:
    """A registry with team/app:1."""
    registry.publish(IMAGE, "team/app", "1")
    return registry


# nginx terminates TLS and requires client certificates


@pytest.fixture
def terminated(published: DockerRegistry, tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    authority = Authority.at(folder / "authority.pem")
    authority.sign(folder / "server.pem", "127.0.0.1")
    authority.sign(folder / "client.pem")
    with nginx(folder, TLS.replace("UPSTREAM", published.host)) as host:
        yield host


def certs_d(folder: Path, host: str, *, ours: bool = True) -> None:
    """Write the certificates for a host to `certs.d`, which podman reads too."""
    place = folder / ".config/containers/certs.d" / host
    place.mkdir(parents=True)
    nginx = folder / "nginx"
    (place / "ca.crt").write_bytes((nginx / "authority.pem").read_bytes())
    if ours:
        for kind in ("cert", "key"):
            (place / f"client.{kind}").write_bytes((nginx / f"client.{kind}").read_bytes())


@pytest.mark.slow
def test_client_certificate_in_certs_d_is_used(
    terminated: str, published: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    certs_d(tmp_path, terminated)
    assert skopeo("inspect", "--raw", f"docker://{terminated}/team/app:1").raw == IMAGE.data
    mirror("pull", f"{terminated}/team/app:1", "--all-platforms", "-o", "layout")
    assert stored(tmp_path / "layout") == everything(IMAGE)
    mirror("push", "layout", f"{terminated}/new")
    assert published.tags("new/team/app") == ["1"]


@pytest.mark.slow
def test_client_certificate_in_the_configuration_is_used(terminated: str, mirror: Program, tmp_path: Path) -> None:
    settings = tmp_path / "nginx/own.toml"
    settings.write_text(
        f'[host."{terminated}"]\nca_file = "authority.pem"\nclient_cert = "client.cert"\nclient_key = "client.key"'
    )
    mirror("pull", f"{terminated}/team/app:1", "--all-platforms", "-o", "layout", "--config", settings)
    assert_clean(mirror, "layout")


@pytest.mark.slow
def test_request_without_a_client_certificate_is_refused(
    terminated: str, published: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    certs_d(tmp_path, terminated, ours=False)
    start = len(published.requests())
    refused = mirror("pull", f"{terminated}/team/app:1", "-o", "layout", code=1)
    assert "400" in refused.err
    assert published.requests(start) == []


@pytest.mark.slow
def test_ca_file_is_enough_without_client_certificates(
    published: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "nginx"
    folder.mkdir()
    authority = Authority.at(folder / "authority.pem")
    authority.sign(folder / "server.pem", "127.0.0.1")
    block = TLS.replace("ssl_verify_client on", "ssl_verify_client off").replace("UPSTREAM", published.host)
    with nginx(folder, block) as host:
        assert "certificate" in mirror("pull", f"{host}/team/app:1", "-o", "layout", code=1).err
        mirror("pull", f"{host}/team/app:1", "-o", "layout", "--ca-file", authority.file)


# Mirrors


def conf(folder: Path, text: str) -> None:
    path = folder / ".config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.slow
def test_caching_mirror_fetches_a_layer_once(
    published: DockerRegistry, second: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    """The second pull gets the layer from the cache."""
    cache = "proxy_cache_path FOLDER/cache keys_zone=z:1m; " + PLAIN.replace(
        "location /", "proxy_cache z; proxy_cache_valid 200 1h; proxy_cache_methods GET HEAD; location /"
    )
    with nginx(tmp_path / "nginx", cache.replace("UPSTREAM", published.host)) as host:
        conf(tmp_path, f'[[registry]]\nlocation = "{second.host}"\n[[registry.mirror]]\nlocation = "{host}"')
        for layout in ("one", "two"):
            mirror("pull", f"{second.host}/team/app:1", "--all-platforms", "-o", layout)
            assert stored(tmp_path / layout) == everything(IMAGE)
        log = (tmp_path / "nginx/access.log").read_text()
    asked = [request for request in published.requests() if LAYER in request.path and request.method == "GET"]
    assert len(asked) == 1
    assert log.count(f"{LAYER} 200 HIT") == 1
    assert second.requests() == []


@pytest.mark.slow
def test_skopeo_and_mirror_read_the_same_registries_conf(
    published: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    """A prefix refers to another location, with a missing mirror; the layout keeps the requested name."""
    conf(
        tmp_path,
        f'[[registry]]\nprefix = "docker.io/made"\nlocation = "{published.host}/team"\ninsecure = true\n'
        f'[[registry.mirror]]\nlocation = "{second.host}/nothing"\ninsecure = true',
    )
    assert skopeo("inspect", "--raw", "docker://docker.io/made/app:1").raw == IMAGE.data
    pulled = mirror("pull", "docker.io/made/app:1", "--all-platforms", "-o", "layout")
    assert pulled.out == f"docker.io/made/app:1@{IMAGE.root}\n"
    assert f"The mirror {second.host}/nothing/app was skipped" in pulled.err
    assert mirror("ls", "layout").out.splitlines()[1].startswith("docker.io/made/app:1 ")


@pytest.mark.slow
def test_mirror_that_answers_bad_gateway_is_skipped(published: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", PLAIN.replace("UPSTREAM", "127.0.0.1:1")) as host:
        conf(tmp_path, f'[[registry]]\nlocation = "{published.host}"\n[[registry.mirror]]\nlocation = "{host}"')
        pulled = mirror("pull", f"{published.host}/team/app:1", "--all-platforms", "-o", "layout")
        assert f"The mirror {host}/team/app was skipped" in pulled.err
        assert "502 Bad Gateway" in pulled.err
        assert_clean(mirror, "layout")


# Errors of nginx


@pytest.mark.slow
def test_bad_gateway_is_retried_and_reported(mirror: Program, tmp_path: Path) -> None:
    with nginx(tmp_path / "nginx", PLAIN.replace("UPSTREAM", "127.0.0.1:1")) as host:
        failed = mirror("pull", f"{host}/team/app:1", "-o", "layout", "--retries", 1, code=1)
        assert f"{host} answered 502 Bad Gateway" in failed.err
        assert "<html>" not in failed.err
        assert (tmp_path / "nginx/access.log").read_text().count("GET /v2/team/app/manifests/1 502") == 2


@pytest.mark.slow
def test_error_for_a_too_large_upload_names_the_host(
    published: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    mirror("pull", f"{published.host}/team/app:1", "--all-platforms", "-o", "layout")
    small = PLAIN.replace("location /", "client_max_body_size 10; location /").replace("UPSTREAM", published.host)
    with nginx(tmp_path / "nginx", small) as host:
        failed = mirror("push", "layout", f"{host}/new", code=1)
    assert "413" in failed.err
    assert host in failed.err
    assert "<html>" not in failed.err
    assert published.tags("new/team/app") == []


# squid


def port(host: str) -> str:
    return host.partition(":")[2]


@pytest.mark.slow
def test_plain_registry_is_reached_through_squid(published: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    """Only squid can resolve the name."""
    with squid({"registry.test": "127.0.0.1"}) as proxy:
        env = {"HTTP_PROXY": f"http://{proxy}"}
        name = f"registry.test:{port(published.host)}"
        mirror("pull", f"{name}/team/app:1", "--all-platforms", "--plain-http", "-o", "layout", env=env)
        mirror("push", "layout", f"{name}/new", "--plain-http", env=env)
    assert stored(tmp_path / "layout") == everything(IMAGE)
    assert published.tags("new/team/app") == ["1"]


@pytest.mark.slow
def test_tls_registry_is_reached_through_squid(published: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    """The TLS handshake through CONNECT, with the client certificate, is with nginx."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    authority = Authority.at(folder / "authority.pem")
    authority.sign(folder / "server.pem", "registry.test")
    authority.sign(folder / "client.pem")
    with nginx(folder, TLS.replace("UPSTREAM", published.host)) as host, squid({"registry.test": "127.0.0.1"}) as proxy:
        name = f"registry.test:{port(host)}"
        certs_d(tmp_path, name)
        mirror("pull", f"{name}/team/app:1", "--all-platforms", "-o", "layout", env={"https_proxy": proxy})
        mirror("push", "layout", f"{name}/new", env={"https_proxy": proxy})
    assert stored(tmp_path / "layout") == everything(IMAGE)
    assert published.tags("new/team/app") == ["1"]


@pytest.mark.slow
def test_squid_with_a_password_requires_proxy_credentials(
    published: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    htpasswd = Program((needed("htpasswd"),), tmp_path)
    secrets = Path(f"/tmp/{tmp_path.name}-{tmp_path.parent.name}.htpasswd")
    try:
        secrets.write_bytes(htpasswd("-mbn", "ann", "p@ss").raw)
        secrets.chmod(0o644)
        rules = (
            f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {secrets}\n"
            "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
        )
        with squid({"registry.test": "127.0.0.1"}, rules) as proxy:
            name = f"registry.test:{port(published.host)}/team/app:1"
            pull = ("pull", name, "--all-platforms", "--plain-http", "-o", "layout")
            put, wrong = "HTTP_PROXY=http://user:password@", "refused the user name or the password in HTTP_PROXY"
            for address, hint in ((proxy, put), (f"http://ann:wrong@{proxy}", wrong)):
                refused = mirror(*pull, env={"HTTP_PROXY": address}, code=1)
                assert "the proxy answered 407" in refused.err
                assert hint in refused.err
                assert "wrong" not in refused.err
            mirror(*pull, env={"HTTP_PROXY": f"http://ann:p%40ss@{proxy}"})
    finally:
        secrets.unlink(missing_ok=True)
    assert stored(tmp_path / "layout") == everything(IMAGE)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_request_that_squid_forbids_is_an_error(mirror: Program, scheme: str) -> None:
    with squid({"registry.test": "127.0.0.1"}, "http_access deny all") as proxy:
        env = {f"{scheme.upper()}_PROXY": f"http://{proxy}"}
        flags = ["--plain-http"] if scheme == "http" else []
        refused = mirror("pull", "registry.test:5000/a:1", *flags, "-o", "layout", env=env, code=1)
    assert "403" in refused.err
    assert "<html" not in refused.err.lower()


@pytest.mark.slow
def test_no_proxy_bypasses_squid(published: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    with squid({}, "http_access deny all") as proxy:
        env = {"HTTP_PROXY": f"http://{proxy}", "NO_PROXY": f"0.0.0.0/8,10.0.0.0/8:{port(published.host)}"}
        name = f"0.0.0.0:{port(published.host)}/team/app:1"
        mirror("pull", name, "--all-platforms", "--plain-http", "-o", "layout", env=env)
    assert stored(tmp_path / "layout") == everything(IMAGE)
