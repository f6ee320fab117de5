"""Tests of mirror with layouts that skopeo and umoci wrote."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.layouts import THREE, assert_clean, everything, files, listed, part, stored, tagged, tree
from tests.peers.programs import DockerRegistry, Program, Skopeo, needed
from tests.support.images import Image, image, layer, multi_arch

pytestmark = pytest.mark.peer

IMAGE = multi_arch(THREE)
AMD64 = part(IMAGE, "linux/amd64")
OTHER = image("linux/amd64", layer(7, 2000))

Copy = Callable[..., None]


@pytest.fixture
def copy(registry: DockerRegistry, skopeo: Skopeo) -> Copy:
    """A function that publishes an image, and copies it into `layout` with skopeo."""

    def publish_and_copy(image: Image, tag: str, *flags: str) -> None:
        name = registry.publish(image, "team/app", tag)
        skopeo.copy(f"docker://{name}", f"oci:layout:{tag}", *flags)

    return publish_and_copy


@pytest.fixture
def written(mirror: Program, umoci: Program) -> str:
    """The digest of an image that umoci wrote, layout:1, with one file in one layer."""
    (umoci.folder / "note").write_text("made by umoci\n")
    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:1")
    umoci("insert", "--rootless", "--image", "layout:1", "note", "/note")
    umoci("gc", "--layout", "layout")
    return tagged(umoci.folder / "layout")["1"]


@pytest.mark.slow
def test_layout_of_skopeo_verifies(copy: Copy, mirror: Program) -> None:
    copy(AMD64, "1")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": AMD64.root}


@pytest.mark.slow
def test_layout_of_skopeo_with_every_platform_verifies(copy: Copy, mirror: Program, tmp_path: Path) -> None:
    copy(IMAGE, "1", "--all")
    result = assert_clean(mirror, "layout")
    assert result.json["images"][0]["platforms"] == list(THREE)
    assert stored(tmp_path / "layout") == everything(IMAGE)


@pytest.mark.slow
def test_layout_of_skopeo_with_two_tags_verifies(copy: Copy, mirror: Program) -> None:
    copy(IMAGE, "1", "--all")
    copy(OTHER, "2")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": IMAGE.root, "2": OTHER.root}
    assert verified_digests(mirror, "2") == [OTHER.root]


@pytest.mark.slow
def test_image_without_a_name_is_listed_by_its_digest(
    registry: DockerRegistry, skopeo: Skopeo, mirror: Program
) -> None:
    skopeo.copy(f"docker://{registry.publish(OTHER, 'app', '1')}", "oci:layout")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {OTHER.root: OTHER.root}


@pytest.mark.slow
def test_docker_image_that_skopeo_converted_to_oci_verifies(
    registry: DockerRegistry, skopeo: Skopeo, mirror: Program
) -> None:
    name = registry.publish(multi_arch(THREE, docker=True), "app", "1")
    skopeo.copy(f"docker://{name}", "oci:layout:1", "--all")
    assert_clean(mirror, "layout")


@pytest.mark.slow
def test_layers_that_skopeo_encrypted_are_not_checked_and_not_exported_for_docker(
    registry: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    openssl = Program((needed("openssl"),), skopeo.folder)
    openssl("genrsa", "-out", "key", "2048")
    openssl("rsa", "-in", "key", "-pubout", "-out", "public")
    name = registry.publish(AMD64, "team/app", "1")
    skopeo.copy(f"docker://{name}", "oci:layout:quay.io/team/app:1", "--encryption-key", "jwe:public")
    assert mirror("verify", "layout").code == 0
    found = mirror("verify", "layout", "--level", "layers", "--json", code=1).json["findings"]
    assert [finding["kind"] for finding in found] == 3 * ["not-unpacked"]
    refused = mirror("export", "layout", "a.tar", "--format", "docker-archive", "--platform", "linux/amd64", code=2)
    assert "has encrypted layers, so docker cannot load it" in refused.err


@pytest.mark.slow
def test_layout_of_umoci_verifies(written: str, mirror: Program) -> None:
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": written}


def test_blob_that_umoci_left_unused_is_only_an_orphan(mirror: Program, umoci: Program) -> None:
    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:1")
    umoci("config", "--image", "layout:1", "--author", "ann")
    report = mirror("verify", "layout", "--json").json
    assert (report["verdict"], {one["kind"] for one in report["findings"]}) == ("ok", {"orphan"})


def test_empty_layout_of_umoci_fails_verification(mirror: Program, umoci: Program) -> None:
    umoci("init", "--layout", "layout")
    assert "no-images" in mirror("verify", "layout", code=3).out


@pytest.mark.slow
def test_mirror_pulls_into_an_empty_layout_of_umoci(registry: DockerRegistry, mirror: Program, umoci: Program) -> None:
    umoci("init", "--layout", "layout")
    name = registry.publish(IMAGE, "app", "1")
    mirror("pull", name, "--all-platforms", "-o", "layout")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {name: IMAGE.root}


@pytest.mark.slow
def test_image_repacked_by_umoci_verifies(
    registry: DockerRegistry, mirror: Program, umoci: Program, tmp_path: Path
) -> None:
    """umoci copies the annotation with the full name, and changes only the tag."""
    name = registry.publish(AMD64, "app", "1")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    umoci("unpack", "--rootless", "--image", "layout:1", "bundle")
    (tmp_path / "bundle/rootfs/added").write_text("by hand\n")
    umoci("repack", "--image", "layout:2", "bundle")
    assert_clean(mirror, "layout", except_for="history-count")  # umoci starts a history
    repacked = tagged(tmp_path / "layout")["2"]
    assert listed(mirror, "layout") == {name: AMD64.root, f"{registry.host}/app:2": repacked}


@pytest.mark.slow
def test_tag_added_by_umoci_is_listed_as_a_separate_name(
    registry: DockerRegistry, mirror: Program, umoci: Program
) -> None:
    name = registry.publish(AMD64, "app", "1")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    umoci("tag", "--image", "layout:1", "2")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {name: AMD64.root, f"{registry.host}/app:2": AMD64.root}


@pytest.mark.slow
def test_mirror_adds_to_a_layout_of_skopeo(
    copy: Copy, registry: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    copy(IMAGE, "1", "--all")
    name = registry.publish(OTHER, "team/other", "2")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": IMAGE.root, name: OTHER.root}
    assert stored(tmp_path / "layout") == everything(IMAGE, OTHER)
    assert skopeo.raw("oci:layout:1") == IMAGE.data
    assert skopeo.raw("oci:layout:2") == OTHER.data


@pytest.mark.slow
def test_mirror_adds_an_image_whose_tag_skopeo_already_used(
    copy: Copy, registry: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    copy(IMAGE, "1", "--all")
    name = registry.publish(OTHER, "team/other", "1")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": IMAGE.root, name: OTHER.root}
    assert skopeo.raw("oci:layout:1") == IMAGE.data
    assert skopeo.raw(f"oci:layout:{name}") == OTHER.data


@pytest.mark.slow
def test_mirror_reuses_the_blobs_that_skopeo_wrote(copy: Copy, registry: DockerRegistry, mirror: Program) -> None:
    copy(IMAGE, "1", "--all")
    report = mirror("pull", f"{registry.host}/team/app:1", "--all", "-o", "layout", "--json").json
    assert (report["moved"]["blobs"], report["reused"]["blobs"]) == (0, len(IMAGE.blobs))


@pytest.mark.slow
def test_mirror_adds_to_a_layout_of_umoci(
    written: str, registry: DockerRegistry, mirror: Program, umoci: Program
) -> None:
    name = registry.publish(OTHER, "team/other", "2")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": written, name: OTHER.root}
    umoci("unpack", "--rootless", "--image", "layout:1", "one")
    umoci("unpack", "--rootless", "--image", "layout:2", "two")
    assert tree(umoci.folder / "one/rootfs") == {"note": b"made by umoci\n"}
    assert tree(umoci.folder / "two/rootfs") == files(OTHER)


@pytest.mark.slow
def test_skopeo_adds_to_a_layout_of_mirror(
    copy: Copy, registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    name = registry.publish(OTHER, "team/other", "2")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    copy(IMAGE, "1", "--all")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {name: OTHER.root, "1": IMAGE.root}
    assert stored(tmp_path / "layout") == everything(IMAGE, OTHER)


@pytest.mark.slow
def test_mirror_removes_an_image_that_skopeo_wrote(copy: Copy, mirror: Program, tmp_path: Path) -> None:
    copy(IMAGE, "1", "--all")
    copy(OTHER, "2")
    mirror("rm", "layout", "1")
    assert_clean(mirror, "layout")
    assert stored(tmp_path / "layout") == everything(OTHER)


@pytest.mark.slow
def test_layout_of_skopeo_is_pushed(copy: Copy, mirror: Program, skopeo: Skopeo, second: DockerRegistry) -> None:
    copy(IMAGE, "1", "--all")
    pushed = mirror("push", "layout", f"{second.host}/team/app").out
    assert pushed == f"{second.host}/team/app:1@{IMAGE.root}\n"
    assert skopeo.raw(f"docker://{second.host}/team/app:1") == IMAGE.data


@pytest.mark.slow
def test_image_of_umoci_is_unchanged_after_push_and_pull(
    written: str, mirror: Program, second: DockerRegistry, umoci: Program, tmp_path: Path
) -> None:
    """Its manifest has no `mediaType` field."""
    mirror("push", "layout", f"{second.host}/app")
    pulled = mirror("pull", f"{second.host}/app:1", "-o", "again", "--all").out
    assert pulled == f"{second.host}/app:1@{written}\n"
    assert stored(tmp_path / "again") == stored(tmp_path / "layout")
    assert_clean(mirror, "again")


def verified_digests(mirror: Program, name: str) -> list[str]:
    """Verify an image by name without findings, and return the digests that were verified."""
    report = mirror("verify", "layout", name, "--json").json
    assert report["findings"] == []
    return [one["digest"] for one in report["images"]]


@pytest.mark.slow
def test_name_with_a_slash_that_umoci_wrote_is_not_taken_for_a_repository(
    written: str, mirror: Program, umoci: Program
) -> None:
    umoci("tag", "--image", "layout:1", "v1.2/stable")
    assert listed(mirror, "layout") == {"1": written, "v1.2/stable": written}
    refused = mirror("push", "layout", "127.0.0.1:9", "v1.2/stable", code=2)
    assert "--map v1.2/stable=some/repository:tag" in refused.err
