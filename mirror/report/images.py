"""The images of a layout or a registry: results of `ls`, `inspect` and `tags`. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mirror.strictjson import JsonObject


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """One image of a layout. `blobs` and `size` are without manifests and referrers."""

    name: str
    digest: str
    media_type: str
    platforms: tuple[str, ...] = ()
    blobs: int = 0
    size: int = 0
    sparse: bool = False  # platforms were left out on purpose
    problem: str | None = None  # why it cannot be read; if set, only name, digest and media type are known
    referrers: int = 0  # manifests that refer to it, or to its referrers
    unsupported: int = 0  # manifests in its index that cannot be followed, because of their type


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images of a layout. `size` includes referrers; what several images share counts once."""

    schema: ClassVar[str] = "mirror.ls/1"

    path: str
    images: tuple[ImageSummary, ...]
    size: int
    referrers: int = 0


@dataclass(frozen=True, slots=True)
class InspectedBlob:
    """A blob of an image: a manifest, a config or a layer."""

    digest: str
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class InspectedManifest:
    """One manifest of an image."""

    platform: str | None
    manifest: InspectedBlob
    config: InspectedBlob | None
    layers: tuple[InspectedBlob, ...]
    settings: JsonObject  # the fields of its config about how it was built and what it runs
    subject: str | None = None  # for an attestation, the digest of the manifest that it describes

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers) + (self.config.size if self.config else 0)


@dataclass(frozen=True, slots=True)
class InspectedReferrer:
    """A manifest that refers to `subject`, either in its `subject` field or, as cosign does, by its `tag`."""

    subject: str
    manifest: InspectedBlob
    artifact_type: str | None
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class InspectedImage:
    """One image: its root manifest or index, and the number of its blobs and their bytes, without manifests."""

    name: str
    digest: str
    media_type: str
    size: int
    manifests: tuple[InspectedManifest, ...]
    blobs: int
    blob_size: int
    annotations: JsonObject  # those of its entry in the layout
    referrers: tuple[InspectedReferrer, ...] | None = None  # None if they were not looked up, as in a registry
    raw: bytes = field(default=b"", metadata={"json": False})  # the bytes of its root


@dataclass(frozen=True, slots=True)
class Inspection:
    """The images that were inspected."""

    schema: ClassVar[str] = "mirror.inspect/2"

    images: tuple[InspectedImage, ...]


@dataclass(frozen=True, slots=True)
class TagList:
    """The tags of a repository, in the registry's order."""

    schema: ClassVar[str] = "mirror.tags/1"

    name: str
    tags: tuple[str, ...]
