"""Tests of the names under which the images of layouts are served."""

from pathlib import Path

import pytest

from tests.serve.running import Server, make_layout, running
from tests.support.images import Blob, Image, image, index, layer

ONE, TWO, THREE = (image("linux/amd64", layer(seed, 200)) for seed in (1, 2, 3))


def served(server: Server, path: str, query: str = "") -> str | None:
    """Return the digest of the manifest that a tag or a digest refers to, None if there is none."""
    name, _, tag = path.rpartition(":")
    reply = server.get(f"/v2/{name}/manifests/{tag}{query}")
    assert reply.status in (200, 404)
    return reply.digest if reply.status == 200 else None


def repositories(server: Server, query: str = "") -> list[str]:
    names: list[str] = server.get(f"/v2/_catalog{query}").json["repositories"]
    return names


def test_docker_hub_image_is_served_under_its_path_and_its_full_name(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", {"docker.io/library/redis:4.0": ONE})
    with running(layout) as server:
        for name in ("library/redis:4.0", "docker.io/library/redis:4.0"):
            assert served(server, name) == ONE.root
        assert served(server, "redis:4.0") is None
        assert repositories(server) == ["library/redis"]


@pytest.mark.parametrize("registry", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_ns_parameter_selects_the_registry(tmp_path: Path, registry: str) -> None:
    names = {"docker.io/library/redis:4.0": ONE, "quay.io/library/redis:4.0": TWO}
    with running(make_layout(tmp_path / "layout", names)) as server:
        assert served(server, "library/redis:4.0", f"?ns={registry}") == ONE.root
        assert served(server, "library/redis:4.0", "?ns=quay.io") == TWO.root
        assert served(server, "library/redis:4.0", "?ns=ghcr.io") is None
        assert served(server, "library/redis:4.0", "?ns=library") is None
        assert repositories(server, f"?ns={registry}") == ["library/redis"]


def test_namespace_is_in_the_response_header(tmp_path: Path) -> None:
    with running(make_layout(tmp_path / "layout", {"quay.io/a/b:1": ONE})) as server:
        assert server.get("/v2/a/b/manifests/1?ns=quay.io").headers["OCI-Namespace"] == "quay.io"
        assert "OCI-Namespace" not in server.get("/v2/a/b/manifests/1").headers


def test_ns_parameter_may_be_a_host_with_a_port(tmp_path: Path) -> None:
    with running(make_layout(tmp_path / "layout", {"localhost:5000/a:1": ONE})) as server:
        assert served(server, "a:1") == ONE.root
        assert served(server, "a:1", "?ns=localhost:5000") == ONE.root
        assert repositories(server) == ["a"]


def test_docker_hub_has_precedence_if_two_registries_have_the_same_path(tmp_path: Path) -> None:
    names = {"a.example/team/app:1": ONE, "docker.io/team/app:2": TWO, "b.example/team/app:3": THREE}
    with running(make_layout(tmp_path / "layout", names)) as server:
        assert server.get("/v2/team/app/tags/list").json["tags"] == ["2"]
        assert served(server, "a.example/team/app:1") == ONE.root
        assert served(server, "b.example/team/app:3") == THREE.root
        assert repositories(server) == ["a.example/team/app", "b.example/team/app", "team/app"]
        assert sum("team/app refers to docker.io/team/app" in text for text in server.messages) == 2


def test_first_layout_has_precedence_without_docker_hub(tmp_path: Path) -> None:
    layouts = [
        make_layout(tmp_path / name, {f"{name}.example/team/app:1": app}) for name, app in (("b", ONE), ("a", TWO))
    ]
    with running(*layouts) as server:
        assert served(server, "team/app:1") == ONE.root
    with running(*reversed(layouts)) as server:
        assert served(server, "team/app:1") == TWO.root


def test_full_name_has_precedence_over_an_equal_path(tmp_path: Path) -> None:
    names = {"evil.example/docker.io/library/redis:4.0": TWO, "docker.io/library/redis:4.0": ONE}
    with running(make_layout(tmp_path / "layout", names)) as server:
        assert served(server, "docker.io/library/redis:4.0") == ONE.root
        assert served(server, "evil.example/docker.io/library/redis:4.0") == TWO.root


def test_tags_of_several_layouts_are_merged(tmp_path: Path) -> None:
    first = make_layout(tmp_path / "first", {"docker.io/a/b:1": ONE, "docker.io/a/b:2": TWO})
    second = make_layout(tmp_path / "second", {"docker.io/a/b:2": THREE, "docker.io/a/b:3": THREE})
    with running(first, second) as server:
        assert server.get("/v2/a/b/tags/list").json["tags"] == ["1", "2", "3"]
        assert served(server, "a/b:2") == TWO.root
        assert server.get(f"/v2/a/b/manifests/{THREE.root}").digest == THREE.root
        assert any("a/b:2 exists twice" in text for text in server.messages)


def test_blob_is_found_in_another_layout(tmp_path: Path) -> None:
    """A second drive may hold only the blobs that the first one lacks."""
    first = make_layout(tmp_path / "first", {"docker.io/a/b:1": ONE})
    second = make_layout(tmp_path / "second", {"docker.io/c/d:1": ONE})
    digest = next(iter(ONE.blobs))
    first.joinpath("blobs", *digest.split(":")).unlink()
    with running(first, second) as server:
        assert server.get(f"/v2/a/b/blobs/{digest}").body == ONE.blobs[digest]


def test_intact_copy_is_served_if_another_is_corrupt(tmp_path: Path) -> None:
    layouts = [make_layout(tmp_path / name, {"docker.io/a/b:1": ONE}) for name in ("first", "second")]
    digest = next(iter(ONE.blobs))
    layouts[0].joinpath("blobs", *digest.split(":")).write_bytes(b"x" * len(ONE.blobs[digest]))
    with running(*layouts) as server:
        assert server.get(f"/v2/a/b/blobs/{digest}").body == ONE.blobs[digest]


@pytest.mark.parametrize(("directory", "name"), [("redis", "redis"), ("My Drive (1)", "my-drive-1"), ("--", "layout")])
def test_image_with_a_bare_tag_is_served_under_the_directory_name(tmp_path: Path, directory: str, name: str) -> None:
    with running(make_layout(tmp_path / directory, {"4.0": ONE})) as server:
        assert served(server, f"{name}:4.0") == ONE.root
        assert any(f"served as {name}:4.0" in text for text in server.messages)


def test_image_without_a_name_is_served_by_digest(tmp_path: Path) -> None:
    with running(make_layout(tmp_path / "some", {"@": ONE})) as server:
        assert server.get(f"/v2/some/manifests/{ONE.root}").digest == ONE.root
        assert server.get("/v2/some/tags/list").json == {"name": "some", "tags": []}


def test_image_pulled_by_digest_has_no_tag(tmp_path: Path) -> None:
    with running(make_layout(tmp_path / "layout", {f"docker.io/a/b@{ONE.root}": ONE})) as server:
        assert server.get(f"/v2/a/b/manifests/{ONE.root}").digest == ONE.root
        assert server.get("/v2/a/b/tags/list").json["tags"] == []


def test_entry_that_is_not_a_manifest_is_reported_and_not_served(tmp_path: Path) -> None:
    for data in (b"{}", ONE.data):
        blob = Blob.of(data, "application/json")
        strange = Image(blob.digest, blob.media_type, {blob.digest: (blob.data, blob.media_type)}, {})
        child = index([TWO, strange])
        names = {"docker.io/a/b:1": strange, "docker.io/a/b:2": TWO, "docker.io/a/b:3": child}
        with running(make_layout(tmp_path / blob.digest[7:], names)) as server:
            assert server.get("/v2/a/b/tags/list").json["tags"] == ["2", "3"]
            assert server.get(f"/v2/a/b/manifests/{strange.root}").status == 404
            assert any("docker.io/a/b:1" in text and "its type is not a manifest's" in text for text in server.messages)


def test_layout_without_images_is_served(tmp_path: Path) -> None:
    with running(make_layout(tmp_path / "layout", {})) as server:
        assert repositories(server) == []
        assert server.serving.images == 0
