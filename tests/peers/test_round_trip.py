"""Test of a real image, copied with skopeo, mirror and umoci through two docker-registries."""

import platform
import subprocess
from pathlib import Path

import pytest

from tests.peers.layouts import assert_clean, copied, everything, files, listed, part, root, stored, tree
from tests.peers.programs import DockerRegistry, Program, Skopeo
from tests.support import debian_image
from tests.support.debian_image import PLATFORMS
from tests.support.images import Image

pytestmark = pytest.mark.peer

REPO = "debian/busybox"
MACHINES = {"x86_64": "linux/amd64", "aarch64": "linux/arm64/v8"}


@pytest.mark.slow
def test_real_image_survives_a_round_trip(
    busybox: Image,
    registry: DockerRegistry,
    second: DockerRegistry,
    mirror: Program,
    skopeo: Skopeo,
    umoci: Program,
    tmp_path: Path,
) -> None:
    debian_image.write_layout(busybox, tmp_path / "built", "1")
    skopeo.copy("oci:built:1", f"docker://{registry.host}/{REPO}:1", "--all")
    pull_and_push(mirror, busybox, registry, second)
    assert stored(tmp_path / "layout") == everything(busybox)

    arrived = f"docker://{second.host}/hub/{REPO}:1"
    skopeo.copy(arrived, "dir:copy", "--all", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(busybox)
    assert root(tmp_path / "copy") == busybox.root

    for number, name in enumerate(PLATFORMS.values()):
        skopeo.copy(arrived, f"oci:out:{number}", platform=name)
        umoci("unpack", "--rootless", "--image", f"out:{number}", f"bundle{number}")
        check_files(tmp_path / f"bundle{number}/rootfs", part(busybox, name), name)


def pull_and_push(mirror: Program, image: Image, source: DockerRegistry, target: DockerRegistry) -> None:
    """Pull and push with mirror, and check the output of each step."""
    name = f"{source.host}/{REPO}:1"
    assert mirror("pull", name, "--all-platforms", "-o", "layout").out == f"{name}@{image.root}\n"
    report = assert_clean(mirror, "layout").json
    assert report["images"][0]["platforms"] == list(PLATFORMS.values())
    assert listed(mirror, "layout") == {name: image.root}
    pushed = mirror("push", "layout", f"{target.host}/hub").out
    assert pushed == f"{target.host}/hub/{REPO}:1@{image.root}\n"


def check_files(rootfs: Path, image: Image, name: str) -> None:
    """Check that the files are those of Debian's packages, and that busybox runs if this machine can run it."""
    assert tree(rootfs) == files(image)
    if MACHINES.get(platform.machine()) == name:
        busybox = next(rootfs.glob("**/bin/busybox"))
        done = subprocess.run([busybox, "echo", "all the way round"], capture_output=True, text=True, check=True)
        assert done.stdout == "all the way round\n"
