"""The values of a record. Times are whole seconds since the epoch, sizes are bytes; None is: nobody says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.oci.descriptor import Platform
from mirror.oci.digest import Digest
from mirror.records.figures import http_date
from mirror.strictjson import JsonObject


@dataclass(frozen=True, slots=True)
class RecordedLayer:
    """One layer, as it is transferred. `modified` is when its registry says that it was made."""

    digest: Digest
    size: int | None
    media_type: str
    modified: int | None = None

    def to_json(self) -> JsonObject:
        return {
            "digest": self.digest,
            "size": self.size,
            "mediaType": self.media_type,
            "lastModified": None if self.modified is None else http_date(self.modified),
        }


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the history, as a Dockerfile would say it; it may have several lines."""

    created: int | None
    command: str

    def to_json(self) -> JsonObject:
        return {"created": None if self.created is None else http_date(self.created), "command": self.command}


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the config says of how the image was built and what it runs. An artifact's says nothing of it."""

    docker_version: str | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    history: tuple[Step, ...] = ()

    def to_json(self) -> JsonObject:
        return {
            "dockerVersion": self.docker_version,
            "entrypoint": _listed(self.entrypoint),
            "command": _listed(self.command),
            "shell": _listed(self.shell),
            "history": [step.to_json() for step in self.history],
        }


@dataclass(frozen=True, slots=True)
class RecordedImage:
    """What a manifest says. `image_id` is its config's digest; `runtime` is None where the config is not at hand."""

    media_type: str | None
    image_id: Digest | None
    layers: tuple[RecordedLayer, ...]
    runtime: Runtime | None

    @property
    def size(self) -> int:
        """Bytes of the layers alone, as they are transferred."""
        return sum(layer.size or 0 for layer in self.layers)

    @property
    def length(self) -> int:
        """About how many characters its part of a page has, or fewer."""
        steps = self.runtime.history if self.runtime else ()
        return sum(len(step.command) for step in steps) + 100 * len(self.layers)

    def to_json(self) -> JsonObject:
        return {
            "mediaType": self.media_type,
            "totalSize": self.size,
            "imageId": self.image_id,
            **(self.runtime.to_json() if self.runtime else {}),
            "layers": [layer.to_json() for layer in self.layers],
        }


@dataclass(frozen=True, slots=True)
class RecordedManifest:
    """One manifest; `image` is None where the manifest itself is not at hand."""

    platform: Platform
    digest: Digest
    image: RecordedImage | None

    def to_json(self) -> JsonObject:
        return {
            "platform": self.platform.to_json(),
            "digest": self.digest,
            **(self.image.to_json() if self.image else {}),
        }


@dataclass(frozen=True, slots=True)
class Record:
    """One image. `media_type` is that of its list; an image without one has None, and one manifest, `digest` itself."""

    name: str
    digest: Digest
    media_type: str | None
    manifests: tuple[RecordedManifest, ...]

    @property
    def repository(self) -> str:
        return repository_of(self.name)

    @property
    def length(self) -> int:
        """About how many characters its page has, or fewer."""
        lengths: dict[Digest, int] = {}
        for manifest in self.manifests:
            if manifest.digest not in lengths:
                lengths[manifest.digest] = manifest.image.length if manifest.image else 0
        return sum(lengths[manifest.digest] for manifest in self.manifests)

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            "digest": self.digest,
            "mediaType": self.media_type,
            "manifests": [manifest.to_json() for manifest in self.manifests],
        }


def repository_of(name: str) -> str:
    """An image's name without tag and digest."""
    rest = name.partition("@")[0]
    head, colon, tail = rest.rpartition(":")
    return head if colon and "/" not in tail else rest


def _listed(words: Sequence[str] | None) -> list[str] | None:
    return None if words is None else list(words)
