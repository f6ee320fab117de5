"""Tests of inputs that once went wrong (tests/faults.md), with real registries and proxies instead of scripted ones."""

import base64
import json
from pathlib import Path

import pytest

from tests.peers.layouts import everything, stored
from tests.peers.programs import DockerRegistry, Program, docker_registry, needed
from tests.peers.servers import nginx
from tests.support.certificate import Authority
from tests.support.images import image, layer, multi_arch
from tests.support.namespace import isolated

pytestmark = pytest.mark.peer

IMAGE, OTHER = multi_arch(), image("linux/amd64", layer(7, 900))


@pytest.fixture
def layout(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> Path:
    """A layout with team/app:1."""
    mirror("pull", registry.publish(IMAGE, "team/app", "1"), "--all-platforms", "-o", "layout")
    return tmp_path / "layout"


@pytest.mark.slow
def test_push_over_another_tag_names_it_and_a_second_one_puts_nothing(
    second: DockerRegistry, mirror: Program, layout: Path
) -> None:
    name = second.publish(OTHER, "team/app", "1")
    assert "already stands for another image" in mirror("push", layout, second.host, "--no-overwrite", code=2).err
    assert f"(was {OTHER.root})" in mirror("push", layout, second.host, "--dry-run").err
    assert mirror("push", layout, second.host, "--json").json["images"][0]["replaced"] == OTHER.root
    start = len(second.requests())
    assert name in mirror("push", layout, second.host, "--no-overwrite").out
    assert {one.method for one in second.requests(start)} <= {"GET", "HEAD"}


@pytest.mark.slow
def test_copy_to_a_mirror_of_the_source_reads_from_the_registry_itself(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    source, target = registry.publish(IMAGE, "team/app", "1"), second.publish(OTHER, "team/app", "1")
    path = tmp_path / ".config/containers/registries.conf"
    path.parent.mkdir(parents=True)
    path.write_text(f'[[registry]]\nlocation = "{registry.host}"\n[[registry.mirror]]\nlocation = "{second.host}"\n')
    copied = mirror("copy", f"docker://{source}", f"docker://{target}")
    assert f"is a mirror of {registry.host}/team/app, so the image is read from {registry.host} itself." in copied.err
    assert mirror("inspect", f"docker://{target}", "--raw").raw == IMAGE.data


# nginx at a default port, in a network of its own

DEFAULT_PORT = """
server {
    listen 127.0.0.1:PORT; listen 127.0.0.1:80; listen 127.0.0.1:443 ssl;
    ssl_certificate FOLDER/server.pem; ssl_certificate_key FOLDER/server.key;
    client_max_body_size 0;
    location / {
        proxy_pass http://UPSTREAM; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;
    }
}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("port", "flags"), [(443, ()), (80, ("--plain-http",))])
@isolated(names={"registry.test": "127.0.0.1"})
def test_registry_at_its_default_port_takes_a_push_with_a_password(
    mirror: Program, tmp_path: Path, port: int, flags: tuple[str, ...]
) -> None:
    """The Locations of uploads do not name the port, and the user does."""
    folder = tmp_path / "nginx"
    folder.mkdir()
    authority = Authority.at(folder / "authority.pem")
    authority.sign(folder / "server.pem", "registry.test")
    secrets = tmp_path / "htpasswd"
    secrets.write_bytes(Program((needed("htpasswd"),), tmp_path)("-Bbn", "ann", "secret").raw)
    auth = {"htpasswd": {"realm": "here", "path": str(secrets)}}
    name = f"registry.test:{port}"
    secret = base64.b64encode(b"ann:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {name: {"auth": secret}}}))
    env = {"DOCKER_CONFIG": str(tmp_path), "MIRROR_CA_FILE": str(authority.file)}
    with (
        docker_registry(tmp_path / "open") as source,
        docker_registry(tmp_path / "locked", auth=auth) as locked,
        nginx(folder, DEFAULT_PORT.replace("UPSTREAM", locked.host)),
    ):
        mirror("pull", source.publish(IMAGE, "team/app", "1"), "--all-platforms", "-o", "layout")
        mirror("push", "layout", name, *flags, env=env)
        mirror("pull", f"{name}/team/app:1", "--all-platforms", "-o", "again", *flags, env=env)
        assert locked.tags("team/app") == ["1"]
    assert stored(tmp_path / "again") == everything(IMAGE)


# nginx gives up while the registry commits a blob

IMPATIENT = """
map $request_method $to { default UPSTREAM; PUT 127.0.0.1:1; }
server {
    listen 127.0.0.1:PORT;
    client_max_body_size 0; proxy_set_header Host $http_host;
    location / { proxy_pass http://UPSTREAM; }
    location ~ /blobs/uploads/ { mirror /commit; proxy_pass http://$to$request_uri; }
    location = /commit {
        internal;
        if ($request_method != PUT) { return 204; }
        proxy_pass http://UPSTREAM$request_uri;
    }
}
"""


@pytest.mark.slow
def test_blob_that_arrived_although_nginx_answers_502_is_not_sent_again(
    second: DockerRegistry, mirror: Program, layout: Path, tmp_path: Path
) -> None:
    with nginx(tmp_path / "nginx", IMPATIENT.replace("UPSTREAM", second.host)) as host:
        mirror("push", layout, host)
        log = (tmp_path / "nginx/access.log").read_text().splitlines()
    puts = [line.split()[2] for line in log if line.startswith("PUT") and "/blobs/uploads/" in line]
    assert puts == ["502"] * len(IMAGE.blobs)
    assert second.tags("team/app") == ["1"]
    assert second.contents("team/app") == IMAGE.blobs


# nginx redirects to URLs of 20,000 characters

LONG = """
server {
    listen 127.0.0.1:PORT;
    client_max_body_size 0; large_client_header_buffers 4 64k; proxy_buffer_size 64k; proxy_buffers 4 64k;
    proxy_set_header Host $http_host;
    set $x LONG; set $y $x$x$x$x$x$x$x$x$x$x;
    location / { proxy_pass http://UPSTREAM; }
    location ~ /blobs/sha256: {
        if ($arg_signed = "") { return 307 $uri?signed=$y; }
        proxy_pass http://UPSTREAM;
    }
}
"""


@pytest.mark.slow
def test_redirects_of_twenty_thousand_characters_are_followed(
    registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    registry.publish(IMAGE, "team/app", "1")
    block = LONG.replace("UPSTREAM", registry.host).replace("LONG", "x" * 2000)
    with nginx(tmp_path / "nginx", block) as host:
        mirror("pull", f"{host}/team/app:1", "--all-platforms", "-o", "layout")
    assert stored(tmp_path / "layout") == everything(IMAGE)
