"""Tests of image names as users type them. A registry behind a proxy stands in for Docker Hub."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import images
from tests.support.certificate import self_signed
from tests.support.command import Mirror, blobs, names
from tests.support.proxy import Proxy, proxying
from tests.support.registry import EmbeddedRegistry, serving

IMAGE = images.image("linux/amd64", images.layer(1, 100))
DIGEST = IMAGE.root


@dataclass(frozen=True)
class Hub:
    """A registry with the host name of Docker Hub, reached through a proxy."""

    registry: EmbeddedRegistry
    proxy: Proxy
    env: dict[str, str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    pem = tmp_path_factory.mktemp("hub") / "hub.pem"
    with serving(EmbeddedRegistry(tls=self_signed(pem, "registry-1.docker.io"))) as registry:
        IMAGE.publish(registry, "library/redis", "4.0")
        IMAGE.publish(registry, "library/redis", "latest")
        IMAGE.publish(registry, "ann/app", "v1")
        with proxying({"registry-1.docker.io:443": registry.host}) as proxy:
            yield Hub(registry, proxy, {"HTTPS_PROXY": proxy.url, "SSL_CERT_FILE": str(pem)})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "full"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:4.0", "docker.io/library/redis:4.0"),
        ("library/redis:4.0", "docker.io/library/redis:4.0"),
        ("docker.io/library/redis:4.0", "docker.io/library/redis:4.0"),
        ("docker.io/redis:4.0", "docker.io/library/redis:4.0"),
        ("index.docker.io/library/redis:4.0", "docker.io/library/redis:4.0"),
        ("registry-1.docker.io/library/redis:4.0", "docker.io/library/redis:4.0"),
        ("docker://redis:4.0", "docker.io/library/redis:4.0"),
        ("docker://docker.io/ann/app:v1", "docker.io/ann/app:v1"),
        ("ann/app:v1", "docker.io/ann/app:v1"),
        (f"redis:4.0@{DIGEST}", "docker.io/library/redis:4.0"),
    ],
)
def test_short_name_is_expanded(mirror: Mirror, hub: Hub, tmp_path: Path, typed: str, full: str) -> None:
    result = mirror("pull", typed, "--all-platforms", env=hub.env)
    assert result.lines == [f"{full}@{DIGEST}"]
    assert names(tmp_path / "layout") == [full]


@pytest.mark.slow
def test_image_can_be_named_by_its_digest(mirror: Mirror, hub: Hub, tmp_path: Path) -> None:
    full = f"docker.io/library/redis@{DIGEST}"
    assert mirror("pull", f"redis@{DIGEST}", "--all", env=hub.env).lines == [full]
    assert names(tmp_path / "layout") == [full]


@pytest.mark.slow
def test_docker_hub_is_contacted_at_registry_1_docker_io(mirror: Mirror, hub: Hub) -> None:
    mirror("pull", "redis:4.0", "--all", env=hub.env)
    assert set(hub.proxy.asked) == {"CONNECT registry-1.docker.io:443"}


@pytest.mark.slow
def test_reference_with_tag_and_digest_pulls_the_digest(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    IMAGE.publish(registry, "a", "v1")
    other = images.image("linux/amd64", images.layer(2, 200))
    other.publish(registry, "a", "v1")
    full = f"{registry.host}/a:v1"
    assert mirror("pull", f"{full}@{DIGEST}", "--all").lines == [f"{full}@{DIGEST}"]
    assert names(tmp_path / "layout") == [full]
    assert blobs(tmp_path / "layout") == {*IMAGE.manifests, *IMAGE.blobs}


@pytest.mark.slow
@pytest.mark.parametrize("repository", ["a/b/c:tag", "a-b/c_d/e.f__g:Tag_1.0-x"])
def test_registry_can_be_named_by_host_and_port(mirror: Mirror, registry: EmbeddedRegistry, repository: str) -> None:
    name, _, tag = repository.partition(":")
    IMAGE.publish(registry, name, tag)
    host = f"localhost:{registry.host.partition(':')[2]}"
    assert mirror("pull", f"{host}/{repository}", "--all").lines == [f"{host}/{repository}@{DIGEST}"]


BAD = ["", "redis:4.0\n", "Redis:4.0", "a/../b", "redis@sha256:abc", "http://example.com/a", "\x1b[31mredis"]


@pytest.mark.parametrize("typed", BAD)
def test_invalid_name_is_refused(mirror: Mirror, tmp_path: Path, typed: str) -> None:
    result = mirror("pull", typed, code=2)
    assert "not a valid image reference" in result.err
    assert not (tmp_path / "layout").exists()


def test_pull_without_names_is_a_usage_error(mirror: Mirror) -> None:
    assert "Name at least one image" in mirror("pull", code=2).err


# Names from a file


@pytest.fixture(scope="module")
def shop() -> Iterator[EmbeddedRegistry]:
    """Run a registry with two images."""
    with serving(EmbeddedRegistry()) as registry:
        IMAGE.publish(registry, "a", "v1")
        IMAGE.publish(registry, "b", "v2")
        yield registry


@pytest.mark.slow
def test_names_are_read_from_a_file(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    lines = ["# what we need", "", f"  {shop.host}/a:v1  # the first", "   ", f"{shop.host}/b:v2\r", "#x"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = mirror("pull", "--from-file", "list.txt", "--all").lines
    assert found == [f"{shop.host}/a:v1@{DIGEST}", f"{shop.host}/b:v2@{DIGEST}"]


@pytest.mark.slow
def test_names_are_read_from_stdin(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", "--from-file", "-", "--all", stdin=f"{shop.host}/a:v1\n{shop.host}/b:v2")
    assert names(tmp_path / "layout") == [f"{shop.host}/a:v1", f"{shop.host}/b:v2"]


def test_names_of_arguments_and_file_are_combined(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/b:v2", "--from-file", "-", "--all", stdin=f"{shop.host}/a:v1\n")
    assert sorted(names(tmp_path / "layout")) == [f"{shop.host}/a:v1", f"{shop.host}/b:v2"]


@pytest.mark.slow
def test_name_given_twice_is_pulled_once(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    name = f"{shop.host}/a:v1"
    assert mirror("pull", name, f"docker://{name}", "--all").lines == [f"{name}@{DIGEST}"]


def test_file_without_names_is_a_usage_error(mirror: Mirror) -> None:
    assert "Name at least one image" in mirror("pull", "--from-file", "-", stdin="# nothing\n", code=2).err


def test_invalid_name_in_a_file_is_refused_before_any_request(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.clear_log()
    mirror("pull", "--from-file", "-", stdin=f"{shop.host}/a:v1\nNo Name\n", code=2)
    assert shop.requests == []
