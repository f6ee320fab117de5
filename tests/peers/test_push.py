"""What mirror pushed to docker-registry is what skopeo finds there."""

import json
from pathlib import Path

import pytest

from tests.images import EMPTY, Image, artifact, attestation, image, index, layer, multi_arch
from tests.peers.layouts import THREE, assert_clean, copied, everything, files, part, root, stored, tree
from tests.peers.programs import DockerRegistry, Program, Request, Skopeo

pytestmark = pytest.mark.peer

OCI = multi_arch(THREE)
DOCKER = multi_arch(THREE, docker=True)
BOTH = pytest.mark.parametrize("published", [OCI, DOCKER], ids=["oci", "docker"])
ONE_EACH = pytest.mark.parametrize(
    "published", [image("linux/amd64", layer(1, 900, docker), docker=docker) for docker in (False, True)]
)


def blobs_sent(requests: list[Request]) -> list[Request]:
    """The requests that put a blob into the registry, or began to."""
    return [one for one in requests if one.method in ("POST", "PATCH", "PUT") and "/blobs/" in one.path]


@BOTH
def test_every_platform_arrives_byte_for_byte(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path, published: Image
) -> None:
    mirror("pull", registry.publish(published, "team/app", "1"), "--all-platforms", "-o", "layout")
    pushed = mirror("push", "layout", second.host).out
    assert pushed == f"{second.host}/team/app:1@{published.root}\n"
    skopeo.copy(f"docker://{second.host}/team/app:1", "dir:copy", "--all", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(published)
    assert root(tmp_path / "copy") == published.root
    assert skopeo.raw(f"docker://{second.host}/team/app:1") == published.data


@ONE_EACH
def test_an_image_without_an_index_arrives_byte_for_byte(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, published: Image
) -> None:
    mirror("pull", registry.publish(published, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    assert skopeo.raw(f"docker://{second.host}/app:1") == published.data


def test_several_images_arrive_below_a_prefix(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    names = [registry.publish(OCI, "team/app", "1"), registry.publish(DOCKER, "team/app", "2")]
    names.append(registry.publish(OCI, "a/b/c", "1"))
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    pushed = mirror("push", "layout", f"{second.host}/hub/mirror").out.split()
    paths = {"team/app:1": OCI, "team/app:2": DOCKER, "a/b/c:1": OCI}
    assert set(pushed) == {f"{second.host}/hub/mirror/{path}@{one.root}" for path, one in paths.items()}
    for path, one in paths.items():
        assert skopeo.raw(f"docker://{second.host}/hub/mirror/{path}") == one.data


def test_one_named_image_arrives_alone(registry: DockerRegistry, second: DockerRegistry, mirror: Program) -> None:
    names = [registry.publish(OCI, "team/app", tag) for tag in ("1", "2")]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host, names[1])
    assert second.tags("team/app") == ["2"]


def test_an_image_pulled_by_digest_is_found_by_its_digest(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    registry.publish(OCI, "team/app", "1")
    mirror("pull", f"{registry.host}/team/app@{OCI.root}", "--all-platforms", "-o", "layout")
    assert mirror("push", "layout", second.host).out == f"{second.host}/team/app@{OCI.root}\n"
    assert second.tags("team/app") == []
    assert skopeo.raw(f"docker://{second.host}/team/app@{OCI.root}") == OCI.data


def test_attestations_and_nested_indexes_arrive(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    amd64 = part(OCI, "linux/amd64")
    whole = index([index([amd64, attestation(amd64)]), part(OCI, "linux/arm/v7")])
    mirror("pull", registry.publish(whole, "app", "1"), "--all-platforms", "-o", "layout")
    assert stored(tmp_path / "layout") == everything(whole)
    mirror("push", "layout", second.host)
    for digest, (data, _) in whole.manifests.items():
        assert skopeo.raw(f"docker://{second.host}/app@{digest}") == data


def test_an_artifact_arrives(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    chart = artifact("application/vnd.example.chart", layer(5, 700), configuration=EMPTY)
    mirror("pull", registry.publish(chart, "chart", "1"), "-o", "layout")
    assert stored(tmp_path / "layout") == everything(chart)
    mirror("push", "layout", second.host)
    assert skopeo.raw(f"docker://{second.host}/chart:1") == chart.data


@BOTH
def test_a_second_push_sends_no_blob(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, published: Image
) -> None:
    mirror("pull", registry.publish(published, "team/app", "1"), "--all-platforms", "-o", "layout")
    first = mirror("push", "layout", second.host, "--json").json
    assert first["moved"]["blobs"] == len(published.blobs)
    before = len(second.requests())
    again = mirror("push", "layout", second.host, "--json").json
    assert (again["moved"]["blobs"], again["reused"]["blobs"]) == (0, len(published.blobs))
    assert again["moved"]["size"] == 0
    assert len(second.requests()) > before
    assert blobs_sent(second.requests(before)) == []


def test_a_blob_is_mounted_from_another_repository(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    names = [registry.publish(OCI, repo, "1") for repo in ("one", "two/deep")]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    sent = blobs_sent(second.requests())
    assert len([one for one in sent if one.method == "PUT"]) == len(OCI.blobs)
    mounted = [one for one in sent if "mount=" in one.path]
    assert {one.status for one in mounted} == {201}
    assert len(mounted) == len(OCI.blobs)
    for repo in ("one", "two/deep"):
        assert skopeo.raw(f"docker://{second.host}/{repo}:1") == OCI.data


def test_a_blob_is_mounted_from_a_repository_of_an_earlier_push(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    names = [registry.publish(OCI, repo, "1") for repo in ("one", "two")]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host, names[0])
    before = len(second.requests())
    mirror("push", "layout", second.host)
    sent = blobs_sent(second.requests(before))
    assert [one for one in sent if one.method == "PUT"] == []
    assert {(one.method, one.status) for one in sent} == {("POST", 201)}


def test_a_dry_run_puts_nothing_into_the_registry(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host, "--dry-run")
    assert {one.method for one in second.requests()} <= {"GET", "HEAD"}
    assert second.tags("app") == []


def test_the_tag_is_the_last_that_docker_registry_gets(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    written = [one.path for one in second.requests() if one.method == "PUT"]
    kinds = ["/blobs/" in path for path in written]
    assert kinds == sorted(kinds, reverse=True)
    assert written[-1] == "/v2/app/manifests/1"
    assert written[-2] == f"/v2/app/manifests/{OCI.root}"


def test_what_was_pushed_is_pulled_back_the_same(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    mirror("pull", registry.publish(DOCKER, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    mirror("pull", f"{second.host}/app:1", "--all-platforms", "-o", "again")
    assert_clean(mirror, "again")
    assert stored(tmp_path / "again") == stored(tmp_path / "layout") == everything(DOCKER)


def test_what_was_pushed_is_unpacked_by_umoci(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, umoci: Program, tmp_path: Path
) -> None:
    """A Docker image too: skopeo turns it into an OCI image on its way into a layout."""
    mirror("pull", registry.publish(DOCKER, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    skopeo.copy(f"docker://{second.host}/app:1", "oci:out:1", platform="linux/arm64")
    umoci("unpack", "--rootless", "--image", "out:1", "bundle")
    assert tree(tmp_path / "bundle/rootfs") == files(part(DOCKER, "linux/arm64"))


def test_a_layer_larger_than_a_batch_arrives(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    large = image("linux/amd64", layer(1, 9_000_000), layer(2, 4 * 1024 * 1024), layer(3, 4 * 1024 * 1024 + 1))
    mirror("pull", registry.publish(large, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    skopeo.copy(f"docker://{second.host}/app:1", "dir:copy", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(large)
    assert json.loads((tmp_path / "copy/manifest.json").read_bytes())["layers"][0]["size"] == 9_000_000
