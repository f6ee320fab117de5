"""Tests of archives that mirror exchanges with skopeo and podman."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers.layouts import THREE, assert_clean, copied, everything, listed, part, root, stored
from tests.peers.programs import DockerRegistry, Program, Skopeo, needed
from tests.support.archives import Saved, docker_new, docker_old, unpacked
from tests.support.images import OCI_LAYER, Blob, attestation, digest_of, image, index, layer, multi_arch
from tests.support.layouts import write

pytestmark = pytest.mark.peer

IMAGE = multi_arch(THREE)
AMD64 = part(IMAGE, "linux/amd64")
NAME = "quay.io/team/app:1"


@pytest.fixture
def layout(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> Path:
    """A layout with every platform of the image, as team/app:1."""
    mirror("pull", registry.publish(IMAGE, "team/app", "1"), "--all-platforms", "-o", "layout")
    return tmp_path / "layout"


def config_of(image_data: bytes) -> str:
    digest: str = json.loads(image_data)["config"]["digest"]
    return digest


def images_of(podman: Program) -> dict[str, list[str]]:
    """Return the names of the images that podman has, by the digests of their configs."""
    found = json.loads(podman("images", "--format", "json", "--no-trunc").out)
    return {each["Id"]: each.get("Names") for each in found}


# Archives of mirror


@pytest.mark.slow
def test_skopeo_copies_every_platform_out_of_an_oci_archive(
    layout: Path, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    mirror("export", layout, "images.tar")
    skopeo.copy("oci-archive:images.tar:1", "dir:copy", "--all")
    assert copied(tmp_path / "copy") == everything(IMAGE)
    assert root(tmp_path / "copy") == IMAGE.root


@pytest.mark.slow
def test_skopeo_reads_the_only_image_of_an_oci_archive_without_a_name(
    layout: Path, mirror: Program, skopeo: Skopeo, second: DockerRegistry
) -> None:
    mirror("export", layout, "images.tar")
    skopeo.copy("oci-archive:images.tar", f"docker://{second.host}/app:1", "--all")
    assert skopeo.raw(f"docker://{second.host}/app:1") == IMAGE.data


@pytest.mark.slow
@pytest.mark.parametrize("platform", THREE)
def test_skopeo_reads_a_docker_archive(
    layout: Path, mirror: Program, skopeo: Skopeo, tmp_path: Path, platform: str
) -> None:
    flags = ("--format", "docker-archive", "--platform", platform, "--as", NAME)
    mirror("export", layout, "images.tar", *flags)
    found = skopeo("inspect", "docker-archive:images.tar").json
    assert found["Architecture"] == platform.split("/")[1]
    skopeo.copy(f"docker-archive:images.tar:{NAME}", "dir:copy")
    assert config_of(part(IMAGE, platform).data) in copied(tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_podman_loads_archives_of_mirror(layout: Path, mirror: Program, podman: Program, form: str) -> None:
    mirror("export", layout, "images.tar", "--format", form, "--as", NAME)
    podman("load", "--input", "images.tar")
    found = images_of(podman)
    assert list(found) == [config_of(AMD64.data).partition(":")[2]]
    if form == "docker-archive":
        assert list(found.values()) == [[NAME]]


# Archives of skopeo and podman


@pytest.mark.slow
def test_mirror_imports_an_oci_archive_of_skopeo(layout: Path, skopeo: Skopeo, mirror: Program, tmp_path: Path) -> None:
    skopeo.copy(f"oci:{layout}:1", f"oci-archive:theirs.tar:{NAME}", "--all")
    assert mirror("import", "theirs.tar", "back").out == f"{NAME}@{IMAGE.root}\n"
    assert stored(tmp_path / "back") == everything(IMAGE)
    assert_clean(mirror, "back")
    assert_clean(mirror, "theirs.tar")


@pytest.mark.slow
def test_mirror_imports_a_docker_archive_of_skopeo(
    layout: Path, skopeo: Skopeo, mirror: Program, tmp_path: Path
) -> None:
    skopeo.copy(f"oci:{layout}:1", f"docker-archive:theirs.tar:{NAME}", platform="linux/amd64")
    mirror("import", "theirs.tar", "back")
    (found,) = listed(mirror, "back").items()
    assert found[0] == NAME
    layers = layers_of(tmp_path / "theirs.tar")
    assert stored(tmp_path / "back") == {config_of(AMD64.data), found[1], *layers}
    assert_clean(mirror, "back")
    assert_clean(mirror, "theirs.tar")


def layers_of(path: Path) -> set[str]:
    """Return the digests of the layers in a docker-archive."""
    files = unpacked(path.read_bytes())
    return {digest_of(files[name]) for each in json.loads(files["manifest.json"]) for name in each["Layers"]}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_mirror_imports_archives_of_podman(
    layout: Path, mirror: Program, podman: Program, tmp_path: Path, form: str
) -> None:
    mirror("export", layout, "images.tar", "--format", "docker-archive", "--as", NAME)
    podman("load", "--input", "images.tar")
    podman("save", "--format", form, "--output", "theirs.tar", NAME)
    mirror("import", "theirs.tar", "back")
    assert list(listed(mirror, "back")) == [NAME]
    assert config_of(AMD64.data) in stored(tmp_path / "back")
    assert_clean(mirror, "back")
    assert_clean(mirror, "theirs.tar")


@pytest.mark.slow
def test_podman_loads_a_docker_archive_that_was_imported_and_exported(
    podman: Program, mirror: Program, tmp_path: Path
) -> None:
    saved = Saved(1, "quay.io/team/app:1")
    (tmp_path / "images.tar").write_bytes(docker_old(saved))
    mirror("import", "images.tar", "layout")
    mirror("export", "layout", "ours.tar", "--format", "docker-archive")
    podman("load", "--input", "ours.tar")
    assert images_of(podman) == {saved.id: ["quay.io/team/app:1"]}


@pytest.mark.slow
@pytest.mark.parametrize("pack", [docker_old, docker_new])
def test_skopeo_reads_the_samples_of_docker_save(
    pack: Callable[[Saved], bytes], skopeo: Skopeo, tmp_path: Path
) -> None:
    saved = Saved(1, "team/app:1")
    (tmp_path / "images.tar").write_bytes(pack(saved))
    skopeo.copy("docker-archive:images.tar", "dir:copy")
    assert saved.config.digest in copied(tmp_path / "copy")


# Round trip


@pytest.mark.slow
def test_every_digest_survives_a_copy_through_archives_and_registries(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    amd64 = image("linux/amd64", layer(1, 3000))
    images = {
        "docker": multi_arch(docker=True),
        "attested": index([amd64, attestation(amd64)]),
        "nested": index([index([image("linux/arm64", layer(2, 500))]), amd64]),
    }
    names = [registry.publish(one, f"team/{repo}", "1") for repo, one in images.items()]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("export", "layout", "images.tar")
    mirror("import", "images.tar", "back")
    assert stored(tmp_path / "back") == stored(tmp_path / "layout") == everything(*images.values())
    mirror("push", "back", second.host)
    for repo, one in images.items():
        assert skopeo.raw(f"docker://{second.host}/team/{repo}:1") == one.data


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    ["bsdtar", "tar -S", "tar -S --format=posix", "tar -S --format=posix --sparse-version=0.1"],
)
def test_mirror_reads_the_sparse_files_of_tar(mirror: Program, tmp_path: Path, flags: str) -> None:
    program, *options = flags.split()
    holes = bytearray(4 << 20)
    for number in range(30):
        holes[number * 100_000 : number * 100_000 + 777] = b"x" * 777
    holes[-1001:-1] = b"y" * 1000
    made = image("linux/amd64", Blob.of(bytes(holes), OCI_LAYER, digest_of(holes)))
    write(tmp_path / "layout", made, name=NAME)
    with (tmp_path / "layout/blobs/sha256" / digest_of(holes)[7:]).open("wb") as file:
        for start in range(0, len(holes), 4096):
            part = holes[start : start + 4096]
            if any(part):
                file.seek(start)
                file.write(part)
        file.truncate(len(holes))
    Program((needed(program),), tmp_path)(*options, "-cf", "a.tar", "-C", "layout", ".")
    assert (tmp_path / "a.tar").stat().st_size < len(holes) // 2
    mirror("import", "a.tar", "back")
    assert stored(tmp_path / "back") == everything(made)
