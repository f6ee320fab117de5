"""Docker archives, presented as OCI image layouts.

`docker save` before version 25, skopeo and podman write no manifests: for each image, `manifest.json` lists its config,
layers and names. The manifest is built here, always the same one for the same config and layers, with an annotation
that says so. An uncompressed layer has the digest that is its diff_id in the config, so every reader verifies it
against the config. A compressed layer is unpacked once to verify its diff_id.

`docker save ID NAME` of version 25.0 writes an `index.json`, but only with the images that have names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence

from mirror.archive import docker_manifest
from mirror.archive.docker_manifest import Image
from mirror.archive.extents import Extent
from mirror.archive.tar import HEAD, Tar
from mirror.content.decompress import READ, Allowance, compression, unpacked
from mirror.content.image_config import diff_ids_of
from mirror.errors import (
    BrokenArchive,
    ContentError,
    CorruptCompression,
    DecompressionBomb,
    InvalidContent,
    InvalidDigest,
    InvalidReference,
)
from mirror.layout import index, names
from mirror.layout.blobs import place
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import build_image, build_index
from mirror.strictjson import JsonObject, load_object

MADE_FROM = "dev.oci-mirror.made-from"  # annotation: the format of the archive that the manifest was built from
Content = Extent | bytes

_HEX_NAME = re.compile(r"(?:blobs/sha256/|sha256:)?([0-9a-f]{64})(?:\.json)?", re.ASCII)
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MOST_MADE = 64 * 1024 * 1024  # bytes of all manifests built for one archive, which are held in memory


def as_layout(tar: Tar) -> dict[str, Content]:
    """Return the files of the equivalent layout by name: where their bytes are, or the bytes."""
    try:
        return _Maker(tar).layout()
    except (InvalidContent, InvalidDigest) as error:
        raise BrokenArchive(f"{tar.path}: {error}") from None


def completed(tar: Tar) -> Mapping[str, Content]:
    """Return the files of a layout. Images without a name that only `manifest.json` lists are added to `index.json`."""
    try:
        lacking = _lacking(tar)
        return _Maker(tar).added(lacking) if lacking else tar.members
    except ContentError:
        return tar.members  # verify compares both lists, and reports what is wrong


def _lacking(tar: Tar) -> list[Image]:
    """Return the images without a name in `manifest.json` that `index.json` does not lead to."""
    member = tar.members.get(docker_manifest.FILE)
    listed = docker_manifest.images_of(tar.read(member, docker_manifest.CAP)) if member else ()
    nameless = [image for image, found in listed if not found]
    if not nameless:
        return []
    configs = set(
        _configs(tar, [entry.root for entry in index.entries(tar.read(tar.members["index.json"], index.CAP))])
    )
    return [image for image in nameless if image[0] not in configs]


def _configs(tar: Tar, todo: list[Descriptor]) -> Iterator[str]:
    """Yield the paths of the configs below some manifests, as far as these are there."""
    seen = set()
    while todo:
        node = todo.pop()
        member = tar.members.get(place(node.digest))
        if member and node.is_manifest and node.digest not in seen:
            seen.add(node.digest)
            document = manifest.parse(tar.read(member, MANIFEST_CAP), node.media_type, node.digest)
            todo += document.manifests
            if document.config:
                yield place(document.config.digest)


def _named(name: str, taken: Container[str]) -> dict[str, str]:
    """Return the annotations that name an image. A name that is not valid is kept if annotations may have it."""
    try:
        return names.annotate(name, taken)
    except InvalidReference:
        return names.described(name)


class _Maker:
    """Builds the manifests of one archive. Configs and compressed layers are read once, even if images share them."""

    def __init__(self, tar: Tar) -> None:
        self._tar = tar
        self._files: dict[str, Content] = {"oci-layout": index.OCI_LAYOUT}
        self._configs: dict[str, tuple[Descriptor, list[Digest]]] = {}
        self._packed: dict[tuple[Extent, Digest], Digest] = {}  # several links may lead to one member
        self._allowance = Allowance(tar.size)
        self._made = 0

    def layout(self) -> dict[str, Content]:
        entries: list[JsonObject] = []  # one for each name of each image
        taken: set[str] = set()
        for image, found in docker_manifest.images_of(self._read(docker_manifest.FILE, docker_manifest.CAP)):
            root = self._image(image)
            for extra in [annotations for name in found if (annotations := _named(name, taken))] or [{}]:
                taken.add(extra.get(names.REF_NAME, ""))
                entries.append({**root.to_json(), **({"annotations": extra} if extra else {})})
        self._files["index.json"] = build_index(OCI_INDEX, entries, {})
        return self._files

    def added(self, images: Sequence[Image]) -> dict[str, Content]:
        """Return the files of the archive, with these images in its `index.json`."""
        document = load_object(self._read("index.json", index.CAP), "index.json")
        document["manifests"] = [*document["manifests"], *(self._image(image).to_json() for image in images)]
        self._files["index.json"] = json.dumps(document, indent=2).encode()
        return {**self._tar.members, **self._files}

    def _image(self, image: Image) -> Descriptor:
        config_name, layers = image
        config, diff_ids = self._config(config_name)
        if len(diff_ids) != len(layers):
            raise InvalidContent(f"{config_name} has {len(diff_ids)} diff_ids, but {len(layers)} layers are listed.")
        nodes = [self._layer(name, diff_id) for name, diff_id in zip(layers, diff_ids, strict=True)]
        made = build_image(config, nodes, {MADE_FROM: "docker-archive"})
        self._made += len(made)
        if self._made > _MOST_MADE or len(made) > MANIFEST_CAP:
            raise InvalidContent(f"{docker_manifest.FILE} lists more images than any genuine archive contains.")
        self._files[place(Digest.of(made))] = made
        return Descriptor(OCI_MANIFEST, Digest.of(made), len(made))

    def _config(self, name: str) -> tuple[Descriptor, list[Digest]]:
        """Return a config and its diff_ids. If its file name is a digest, as most tools have it, that must be right."""
        if name not in self._configs:
            data, named = self._read(name), _HEX_NAME.fullmatch(name)
            digest = Digest(f"sha256:{named[1]}") if named else Digest.of(data)
            self._configs[name] = Descriptor(OCI_CONFIG, digest, len(data)), diff_ids_of(data, name)
            self._files[place(digest)] = self._member(name)
        return self._configs[name]

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        """Describe a layer. Only what is slow to compute is kept in memory: an archive may have 100,000 layers."""
        member = self._member(name)
        form = compression(self._tar.at(member, 0, min(HEAD, member.size)))
        media_type, digest = _LAYER, diff_id
        if form == "gzip":
            if (member, diff_id) not in self._packed:
                self._packed[member, diff_id] = self._unpacked(name, member, diff_id)
            media_type, digest = f"{_LAYER}+gzip", self._packed[member, diff_id]
        elif form:
            raise InvalidContent(f"{name} is compressed with {form}; docker archives contain only gzip.")
        self._files[place(digest)] = member
        return Descriptor(media_type, digest, member.size)

    def _unpacked(self, name: str, member: Extent, diff_id: Digest) -> Digest:
        """Return the digest of a compressed layer, after checking its content against its diff_id."""
        packed, content = Digest.of(b"").hasher(), diff_id.hasher()
        starts = range(0, member.size, READ)
        chunks = (self._tar.at(member, start, min(READ, member.size - start)) for start in starts)

        def read() -> bytes:
            chunk = next(chunks, b"")
            packed.update(chunk)
            return chunk

        try:
            for piece in unpacked(read, member.size, self._allowance):
                content.update(piece)
        except CorruptCompression as error:
            raise InvalidContent(f"{name} is not valid gzip: {error}.") from None
        except DecompressionBomb as error:
            raise InvalidContent(f"{name} {error}, which no genuine layer does.") from None
        if not diff_id.matches(content):
            raise InvalidContent(f"{name} does not unpack to its diff_id {diff_id}.")
        return Digest(f"sha256:{packed.hexdigest()}")

    def _read(self, name: str, cap: int = MANIFEST_CAP) -> bytes:
        return self._tar.read(self._member(name), cap)

    def _member(self, name: str) -> Extent:
        try:
            return self._tar.members[name]
        except KeyError:
            raise InvalidContent(f"{name[:200]!r} is listed, but not in the archive.") from None
