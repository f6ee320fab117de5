"""Tests of the commands on layouts and archives that other tools wrote."""

from pathlib import Path

import pytest

from tests.support import images, layouts, tools
from tests.support.command import Mirror
from tests.support.images import Blob, Image

NAME = "quay.io/team/app:v1"


# Layers that docker cannot unpack


@pytest.mark.parametrize("command", ["export", "copy"])
def test_image_with_encrypted_layers_is_not_exported_for_docker(mirror: Mirror, tmp_path: Path, command: str) -> None:
    layouts.write(tmp_path / "layout", tools.skopeo_1_9_encrypted(), name=NAME)
    target = ("a.tar", "--format", "docker-archive") if command == "export" else ("docker-archive:a.tar",)
    result = mirror(command, "oci:layout" if command == "copy" else "layout", *target, code=2)
    assert f"{NAME} has encrypted layers, so docker cannot load it." in result.err
    assert "skopeo copy --decryption-key" in result.err
    assert not (tmp_path / "a.tar").exists()
    mirror("export", "layout", "a.tar")


OTHERS: dict[str, tuple[Image, str]] = {
    "a signature": (
        images.image("linux/amd64", Blob.of(b"{}", "application/vnd.dev.cosign.simplesigning.v1+json", "sha256:0")),
        "has a layer of type application/vnd.dev.cosign.simplesigning.v1+json, which docker cannot load",
    ),
    "a policy bundle": (tools.opa_1_0_bundle(), "is not an image, so docker cannot load it"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_artifact_with_the_config_type_of_images_is_not_exported_for_docker(
    mirror: Mirror, tmp_path: Path, what: str
) -> None:
    image, words = OTHERS[what]
    layouts.write(tmp_path / "layout", image, name=NAME)
    result = mirror("export", "layout", "a.tar", "--format", "docker-archive", code=2)
    assert words in result.err
    assert not (tmp_path / "a.tar").exists()
