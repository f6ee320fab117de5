"""Helpers that read images and layouts without code under test."""

import json
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from tests.peers.programs import Json, Program, Result
from tests.support.images import Image, digest_of, platform_of

REF_NAME = "org.opencontainers.image.ref.name"
THREE = ("linux/amd64", "linux/arm64", "linux/arm/v7")


# Images


def everything(*images: Image) -> set[str]:
    """Return the digests of all manifests and blobs of images."""
    return {digest for image in images for digest in (*image.manifests, *image.blobs)}


def part(image: Image, platform: str) -> Image:
    """Return the image for one platform of an index."""
    wanted = platform_of(platform)
    children = json.loads(image.data)["manifests"]
    node = next(child for child in children if child["platform"] == wanted)
    data, media_type = image.manifests[node["digest"]]
    document = json.loads(data)
    below = [document["config"]["digest"], *(one["digest"] for one in document["layers"])]
    manifests = {node["digest"]: (data, media_type)}
    blobs = {digest: image.blobs[digest] for digest in below}
    return replace(image, root=node["digest"], root_media_type=media_type, manifests=manifests, blobs=blobs)


def files(image: Image) -> dict[str, bytes]:
    """Return the regular files in the layers of an image for one platform."""
    found = {}
    for node in json.loads(image.data)["layers"]:
        with tarfile.open(fileobj=BytesIO(image.blobs[node["digest"]])) as archive:
            for member in filter(tarfile.TarInfo.isreg, archive):
                content = archive.extractfile(member)
                assert content
                found[str(Path(member.name))] = content.read()
    return found


# Directories


def digests(folder: Path) -> set[str]:
    """Return the digests of all files below a directory."""
    return {digest_of(path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def stored(layout: Path) -> set[str]:
    """Return the digests of the blobs of a layout, and check that each matches the content."""
    found = {f"sha256:{path.name}" for path in (layout / "blobs/sha256").iterdir()}
    assert found == digests(layout / "blobs")
    return found


def copied(folder: Path) -> set[str]:
    """Return the digests of the files that `skopeo copy … dir:` wrote."""
    return digests(folder) - {digest_of((folder / "version").read_bytes())}


def root(folder: Path) -> str:
    """Return the digest of the image that `skopeo copy … dir:` wrote."""
    return digest_of((folder / "manifest.json").read_bytes())


def tree(folder: Path) -> dict[str, bytes]:
    """Return the regular files below a directory."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(layout: Path) -> list[Json]:
    """Return the descriptors in `index.json`."""
    found: list[Json] = json.loads((layout / "index.json").read_bytes())["manifests"]
    return found


def tagged(layout: Path) -> dict[str, str]:
    """Return the digests by the tags that skopeo and umoci use."""
    return {entry["annotations"][REF_NAME]: entry["digest"] for entry in entries(layout)}


# Output of mirror


def assert_clean(mirror: Program, layout: str, *, except_for: str | None = None) -> Result:
    """Check that `mirror verify` has no findings for a layout, except for one kind of warning."""
    result = mirror("verify", layout, "--level", "layers", "--json")
    assert result.json["verdict"] == "ok"
    assert {finding["kind"] for finding in result.json["findings"]} == ({except_for} if except_for else set())
    return result


def listed(mirror: Program, layout: str) -> dict[str, str]:
    """Return the digests by the names that `mirror ls` prints."""
    return {image["name"]: image["digest"] for image in mirror("ls", layout, "--json").json["images"]}
