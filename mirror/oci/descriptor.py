"""Descriptors: how one piece of content names another (OCI image-spec, descriptor.md), and the media types we know.

A descriptor from outside is validated once, here. Fields that we do not know are ignored, never an error.
"""

from __future__ import annotations

import base64
import platform as _host
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from mirror.errors import InvalidContent, UsageError
from mirror.oci.digest import Digest
from mirror.strictjson import JsonObject
from mirror.strictjson import field as _field

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"  # withdrawn before 1.1, but there are some
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST, OCI_ARTIFACT})
MANIFEST_TYPES = INDEX_TYPES | IMAGE_TYPES
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
SCHEMA1_TYPES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
_FOREIGN = re.compile(r"application/vnd\.(?:oci\.image\.layer\.nondistributable|docker\.image\.rootfs\.foreign)\b.*")

MANIFEST_CAP = 4 * 1024 * 1024  # bytes; what registries accept for a manifest, and what we read of a config

# Docker's attestations: children of an index that say things about their sibling named here.
ATTESTS = "vnd.docker.reference.digest"
REFERENCE_TYPE = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image runs on: `os/architecture[/variant][:os.version]`.

    `os_features` and `features` (of the machine, in Docker's lists alone) are kept, and choose nothing.
    """

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read a platform as a person types it, with the usual names of machines (`x86_64`, `aarch64`).

        Raises:
            UsageError: it is not of the form `os/arch[/variant][:os.version]`.
        """
        names, _, version = text.partition(":")
        parts = names.lower().split("/")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
            raise UsageError(
                f"{text!r} is no platform.",
                hint="Platforms look like linux/amd64, linux/arm/v7 or windows/amd64:10.0.",
            )
        architecture, variant = _ALIASES.get(parts[1], (parts[1], None))
        return cls(parts[0], architecture, parts[2] if len(parts) == 3 else variant, version or None)

    @classmethod
    def host(cls) -> Platform:
        """This machine's platform. Containers run Linux whatever the desktop is."""
        return cls.parse(f"linux/{_host.machine().lower() or 'amd64'}")

    @classmethod
    def from_json(cls, value: object, what: str) -> Platform | None:
        """A descriptor's `platform` object; None where there is none.

        Raises:
            InvalidContent: it is no object, or its fields are no strings.
        """
        if value is None:
            return None
        if not isinstance(value, dict):
            raise InvalidContent(f"The platform of {what} is no object.")
        os, architecture = _text(value, "os", what), _text(value, "architecture", what)
        return cls(
            os or "unknown",
            architecture or "unknown",
            _text(value, "variant", what) or None,
            _text(value, "os.version", what) or None,
            _texts(value, "os.features", f"the platform of {what}"),
            _texts(value, "features", f"the platform of {what}"),
        )

    @property
    def known(self) -> bool:
        """False for `unknown/unknown`, the platform of attestations."""
        return "unknown" not in (self.os, self.architecture)

    def to_json(self) -> JsonObject:
        fields = {
            "architecture": self.architecture,
            "os": self.os,
            "os.version": self.os_version,
            "os.features": list(self.os_features),
            "variant": self.variant,
            "features": list(self.features),
        }
        return {key: value for key, value in fields.items() if value}

    def __str__(self) -> str:
        variant = f"/{self.variant}" if self.variant else ""
        version = f":{self.os_version}" if self.os_version else ""
        return f"{self.os}/{self.architecture}{variant}{version}"


_ALIASES: Mapping[str, tuple[str, str | None]] = {
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", None),
    "i686": ("386", None),
}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A typed, sized and hashed pointer to content. `size` is in bytes.

    `data` is the content itself where the descriptor embeds it; it has been checked against digest and size.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    urls: tuple[str, ...] = ()
    artifact_type: str | None = None
    data: bytes | None = field(default=None, repr=False, hash=False)

    @classmethod
    def from_json(cls, value: object, what: str) -> Descriptor:
        """Validate one descriptor.

        Raises:
            InvalidDigest: its digest is outside the grammar.
            InvalidContent: any other field is missing or of the wrong kind, or `data` is not what it says.
        """
        if not isinstance(value, dict):
            raise InvalidContent(f"{what} should be a descriptor and is no object.")
        digest = Digest.parse(_field(value, "digest", what))
        found = cls(
            media_type=_text(value, "mediaType", what) or _missing("mediaType", what),
            digest=digest,
            size=_size(value, what),
            platform=Platform.from_json(_field(value, "platform", what), what),
            annotations=annotations_of(value, what),
            urls=_texts(value, "urls", what),
            artifact_type=_text(value, "artifactType", what) or None,
        )
        return found if _field(value, "data", what) is None else _with_data(found, value["data"], what)

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def is_manifest(self) -> bool:
        """Whether registries keep it under `/manifests/`, indexes included."""
        return self.media_type in MANIFEST_TYPES

    @property
    def is_foreign(self) -> bool:
        """A layer that its licence keeps out of registries: it lives at `urls`, and nobody should push it."""
        return bool(_FOREIGN.fullmatch(self.media_type))

    @property
    def attests(self) -> str | None:
        """The digest of the image that this attestation is about; None for everything else."""
        return self.annotations.get(ATTESTS) if REFERENCE_TYPE in self.annotations else None

    def to_json(self) -> JsonObject:
        """The descriptor as JSON, without embedded data."""
        found: JsonObject = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform:
            found["platform"] = self.platform.to_json()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        return found


def annotations_of(value: JsonObject, what: str) -> dict[str, str]:
    """The `annotations` of a descriptor or manifest, {} where there are none.

    Raises:
        InvalidContent: they are no map of strings to strings.
    """
    found = _field(value, "annotations", what)
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise InvalidContent(f"The annotations of {what} are no map of strings.")
    return found


def _text(value: JsonObject, name: str, what: str) -> str:
    found = _field(value, name, what)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InvalidContent(f"The {name} of {what} is no string.")
    return found


def _texts(value: JsonObject, name: str, what: str) -> tuple[str, ...]:
    found = _field(value, name, what) or []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InvalidContent(f"The {name} of {what} are no list of strings.")
    return tuple(found)


def _missing(name: str, what: str) -> NoReturn:
    raise InvalidContent(f"{what} has no {name}.")


def _size(value: JsonObject, what: str) -> int:
    size: Any = _field(value, "size", what)
    if type(size) is not int or not 0 <= size < 2**63:  # True is an int in Python, and 2**63 is none in Go
        raise InvalidContent(f"The size of {what} is {str(size)[:40]}, which is no number of bytes.")
    return size


def _with_data(found: Descriptor, text: object, what: str) -> Descriptor:
    try:
        if not isinstance(text, str):
            raise TypeError
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise InvalidContent(f"The data embedded in {what} is no base64.") from None
    hasher = found.digest.hasher()
    hasher.update(data)
    if len(data) != found.size or not found.digest.matches(hasher):
        raise InvalidContent(f"The data embedded in {what} is not what its digest {found.digest} names.")
    return replace(found, data=data)
