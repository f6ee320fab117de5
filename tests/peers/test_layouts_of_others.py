"""What skopeo and umoci wrote verifies, is listed, is added to and is pushed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.layouts import THREE, assert_clean, everything, files, listed, part, stored, tagged, tree
from tests.peers.programs import DockerRegistry, Program, Skopeo
from tests.support.images import Image, image, layer, multi_arch

pytestmark = pytest.mark.peer

IMAGE = multi_arch(THREE)
AMD64 = part(IMAGE, "linux/amd64")
OTHER = image("linux/amd64", layer(7, 2000))

Copy = Callable[..., None]


@pytest.fixture
def copy(registry: DockerRegistry, skopeo: Skopeo) -> Copy:
    """Publishes an image, and copies it into `layout` with skopeo."""

    def publish_and_copy(image: Image, tag: str, *flags: str) -> None:
        name = registry.publish(image, "team/app", tag)
        skopeo.copy(f"docker://{name}", f"oci:layout:{tag}", *flags)

    return publish_and_copy


@pytest.fixture
def written(mirror: Program, umoci: Program) -> str:
    """The digest of an image that umoci made from nothing: layout:1, with one file in one layer."""
    (umoci.folder / "note").write_text("made by umoci\n")
    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:1")
    umoci("insert", "--rootless", "--image", "layout:1", "note", "/note")
    umoci("gc", "--layout", "layout")
    return tagged(umoci.folder / "layout")["1"]


@pytest.mark.slow
def test_what_skopeo_copied_verifies(copy: Copy, mirror: Program) -> None:
    copy(AMD64, "1")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": AMD64.root}


@pytest.mark.slow
def test_what_skopeo_copied_of_every_platform_verifies(copy: Copy, mirror: Program, tmp_path: Path) -> None:
    copy(IMAGE, "1", "--all")
    result = assert_clean(mirror, "layout")
    assert result.json["images"][0]["platforms"] == list(THREE)
    assert stored(tmp_path / "layout") == everything(IMAGE)


@pytest.mark.slow
def test_two_tags_of_skopeo_verify(copy: Copy, mirror: Program) -> None:
    copy(IMAGE, "1", "--all")
    copy(OTHER, "2")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": IMAGE.root, "2": OTHER.root}
    assert assert_clean_image(mirror, "2") == [OTHER.root]


@pytest.mark.slow
def test_an_image_that_skopeo_wrote_without_a_name_is_called_by_its_digest(
    registry: DockerRegistry, skopeo: Skopeo, mirror: Program
) -> None:
    skopeo.copy(f"docker://{registry.publish(OTHER, 'app', '1')}", "oci:layout")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {OTHER.root: OTHER.root}


@pytest.mark.slow
def test_a_docker_image_that_skopeo_turned_into_oci_verifies(
    registry: DockerRegistry, skopeo: Skopeo, mirror: Program
) -> None:
    name = registry.publish(multi_arch(THREE, docker=True), "app", "1")
    skopeo.copy(f"docker://{name}", "oci:layout:1", "--all")
    assert_clean(mirror, "layout")


def test_what_umoci_wrote_verifies(written: str, mirror: Program) -> None:
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {"1": written}


def test_what_umoci_left_behind_is_an_orphan_and_no_error(mirror: Program, umoci: Program) -> None:
    umoci("init", "--layout", "layout")
    umoci("new", "--image", "layout:1")
    umoci("config", "--image", "layout:1", "--author", "somebody")
    report = mirror("verify", "layout", "--json").json
    assert (report["verdict"], {one["kind"] for one in report["findings"]}) == ("ok", {"orphan"})


def test_a_layout_that_umoci_has_just_made_is_no_pass(mirror: Program, umoci: Program) -> None:
    umoci("init", "--layout", "layout")
    assert "no-images" in mirror("verify", "layout", code=3).out


@pytest.mark.slow
def test_mirror_pulls_into_a_layout_that_umoci_has_just_made(
    registry: DockerRegistry, mirror: Program, umoci: Program
) -> None:
    umoci("init", "--layout", "layout")
    name = registry.publish(IMAGE, "app", "1")
    mirror("pull", name, "--all-platforms", "-o", "layout")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {name: IMAGE.root}


@pytest.mark.slow
def test_what_umoci_repacked_out_of_ours_verifies(
    registry: DockerRegistry, mirror: Program, umoci: Program, tmp_path: Path
) -> None:
    """umoci takes our annotations along, so that the old full name stands beside the new tag."""
    name = registry.publish(AMD64, "app", "1")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    umoci("unpack", "--rootless", "--image", "layout:1", "bundle")
    (tmp_path / "bundle/rootfs/added").write_text("by hand\n")
    umoci("repack", "--image", "layout:2", "bundle")
    assert_clean(mirror, "layout", but="history-count")  # ours has no history, and umoci begins one
    repacked = tagged(tmp_path / "layout")["2"]
    assert listed(mirror, "layout") == {name: AMD64.root, f"{registry.host}/app:2": repacked}


@pytest.mark.slow
def test_a_tag_that_umoci_added_is_a_name_of_its_own(registry: DockerRegistry, mirror: Program, umoci: Program) -> None:
    name = registry.publish(AMD64, "app", "1")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    umoci("tag", "--image", "layout:1", "2")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {name: AMD64.root, f"{registry.host}/app:2": AMD64.root}


@pytest.mark.slow
def test_mirror_adds_to_what_skopeo_wrote(
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
def test_mirror_adds_an_image_whose_tag_skopeo_has_taken(
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
def test_mirror_adds_to_what_umoci_wrote(
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
def test_skopeo_adds_to_what_mirror_wrote(
    copy: Copy, registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    name = registry.publish(OTHER, "team/other", "2")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "layout")
    copy(IMAGE, "1", "--all")
    assert_clean(mirror, "layout")
    assert listed(mirror, "layout") == {name: OTHER.root, "1": IMAGE.root}
    assert stored(tmp_path / "layout") == everything(IMAGE, OTHER)


@pytest.mark.slow
def test_mirror_removes_what_skopeo_wrote(copy: Copy, mirror: Program, tmp_path: Path) -> None:
    copy(IMAGE, "1", "--all")
    copy(OTHER, "2")
    mirror("rm", "layout", "1")
    assert_clean(mirror, "layout")
    assert stored(tmp_path / "layout") == everything(OTHER)


@pytest.mark.slow
def test_what_skopeo_wrote_is_pushed(copy: Copy, mirror: Program, skopeo: Skopeo, second: DockerRegistry) -> None:
    copy(IMAGE, "1", "--all")
    pushed = mirror("push", "layout", f"{second.host}/team/app").out
    assert pushed == f"{second.host}/team/app:1@{IMAGE.root}\n"
    assert skopeo.raw(f"docker://{second.host}/team/app:1") == IMAGE.data


@pytest.mark.slow
def test_what_umoci_wrote_goes_round(
    written: str, mirror: Program, second: DockerRegistry, umoci: Program, tmp_path: Path
) -> None:
    """Its manifest has no media type inside."""
    mirror("push", "layout", f"{second.host}/app")
    pulled = mirror("pull", f"{second.host}/app:1", "-o", "again", "--all").out
    assert pulled == f"{second.host}/app:1@{written}\n"
    assert stored(tmp_path / "again") == stored(tmp_path / "layout")
    assert_clean(mirror, "again")


def assert_clean_image(mirror: Program, name: str) -> list[str]:
    """The digests of the images that are verified where one is named."""
    report = mirror("verify", "layout", name, "--json").json
    assert report["findings"] == []
    return [one["digest"] for one in report["images"]]
