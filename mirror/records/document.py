"""The values of a record. Times are whole seconds since the epoch, sizes are bytes, None means unknown."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.oci.descriptor import Platform
from mirror.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class RecordedLayer:
    """One layer, compressed as in the registry. `modified` is the registry's Last-Modified."""

    digest: Digest
    size: int | None
    media_type: str
    modified: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of the history: a Dockerfile instruction of one or more lines."""

    created: int | None
    command: str


@dataclass(frozen=True, slots=True)
class RecordedConfig:
    """The fields of a config about how the image was built and what it runs; an artifact's config has none of them."""

    docker_version: str | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    history: tuple[HistoryEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordedImage:
    """The content of a manifest. `image_id` is the digest of its config; `config` is None if not available."""

    media_type: str | None
    image_id: Digest | None
    layers: tuple[RecordedLayer, ...]
    config: RecordedConfig | None

    @property
    def size(self) -> int:
        """The bytes of the compressed layers."""
        return sum(layer.size or 0 for layer in self.layers)

    @property
    def estimated_length(self) -> int:
        """A lower bound for the number of characters on the page."""
        history = self.config.history if self.config else ()
        return sum(len(entry.command) for entry in history) + 100 * len(self.layers)


@dataclass(frozen=True, slots=True)
class RecordedManifest:
    """One manifest of an index; `image` is None if the manifest is not available."""

    platform: Platform
    digest: Digest
    image: RecordedImage | None


@dataclass(frozen=True, slots=True)
class Record:
    """The record of one image.

    `media_type` is that of its index; None for an image without an index, whose only manifest has the digest `digest`.
    """

    name: str
    digest: Digest
    media_type: str | None
    manifests: tuple[RecordedManifest, ...]

    @property
    def estimated_length(self) -> int:
        """A lower bound for the number of characters on the page. Each manifest is measured only once."""
        images = {manifest.digest: manifest.image for manifest in self.manifests}
        lengths = {digest: image.estimated_length if image else 0 for digest, image in images.items()}
        return sum(lengths[manifest.digest] for manifest in self.manifests)


def repository_of(name: str) -> str:
    """Return an image name without tag and digest."""
    rest = name.partition("@")[0]
    head, colon, tail = rest.rpartition(":")
    return head if colon and "/" not in tail else rest
