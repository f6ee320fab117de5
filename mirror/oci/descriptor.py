"""Descriptors (OCI image-spec, descriptor.md), platforms and media types.

Untrusted descriptors are validated once, here. Unknown fields are ignored, as the specification requires.
"""

from __future__ import annotations

import base64
import platform as _host
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mirror.errors import UsageError
from mirror.oci.digest import Digest
from mirror.strictjson import Fields, JsonObject

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"  # withdrawn before version 1.1, but some exist
ORAS_ARTIFACT = "application/vnd.cncf.oras.artifact.manifest.v1+json"  # its predecessor, with the same fields
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
ARTIFACT_TYPES = frozenset({OCI_ARTIFACT, ORAS_ARTIFACT})
IMAGE_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST}) | ARTIFACT_TYPES
MANIFEST_TYPES = INDEX_TYPES | IMAGE_TYPES
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1"
SCHEMA1_TYPES = frozenset({f"{_SCHEMA1}+json", f"{_SCHEMA1}+prettyjws"})
# Other types that a manifest may have: those of the future, of vendors, or known ones in upper case
_LIKE_MANIFEST = re.compile(r"(?=.*(?:manifest|index)).*j(?:son|ws)\b.*", re.IGNORECASE)
# Layers that a runtime unpacks, of any vendor; others are encrypted (ocicrypt), or not file systems
_TAR = re.compile(r"[^;]*[./+-]tar(?:[.+](?:gzip|gz|zstd))?(?:;.*)?", re.ASCII)
_FOREIGN = re.compile(r"application/vnd\.(?:oci\.image\.layer\.nondistributable|docker\.image\.rootfs\.foreign)\b.*")

MANIFEST_CAP = 4 * 1024 * 1024  # bytes that registries accept for a manifest; also the limit for a config

# Annotations of Docker's attestations, which are children of an index: the digest of the attested sibling, and a type
_REFERENCE_DIGEST = "vnd.docker.reference.digest"
_REFERENCE_TYPE = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform, `os/architecture[/variant][:os.version]`.

    `os_features`, and the CPU's `features` in Docker's manifest lists, are kept but do not affect selection.
    """

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse a platform as users type it; aliases such as `x86_64` and `aarch64` are accepted.

        Raises:
            UsageError: not of the form os/arch[/variant][:os.version].
        """
        names, _, version = text.partition(":")
        parts = names.lower().split("/")
        if parts[0] in _ARCHITECTURES or parts[0] in _ALIASES:
            raise UsageError(f"Unknown platform {text!r}.", hint=f"Did you mean {cls.parse(f'linux/{text}')}?")
        if len(parts) not in (2, 3) or not all(re.fullmatch(r"[a-z0-9_.-]+", part) for part in parts):
            hint = "Platforms look like linux/amd64, linux/arm/v7 or windows/amd64:10.0."
            raise UsageError(f"Unknown platform {text!r}.", hint=hint)
        architecture, variant = _ALIASES.get(parts[1], (parts[1], None))
        return cls(parts[0], architecture, parts[2] if len(parts) == 3 else variant, version or None)

    @classmethod
    def host(cls) -> Platform:
        """Return the platform of this machine, with Linux as the operating system everywhere, as in containers."""
        return cls.parse(f"linux/{_host.machine().lower() or 'amd64'}")

    @classmethod
    def from_fields(cls, fields: Fields) -> Platform:
        """Return the platform in the `platform` of a descriptor, or in an image config.

        Raises:
            InvalidContent: a field is not a string, or not a list of strings.
        """
        return cls(
            fields.string("os") or "unknown",
            fields.string("architecture") or "unknown",
            fields.string("variant") or None,
            fields.string("os.version") or None,
            fields.strings("os.features"),
            fields.strings("features"),
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


_ARCHITECTURES = frozenset({"386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x"})
_ALIASES: Mapping[str, tuple[str, str | None]] = {  # architecture and variant
    **dict.fromkeys(("x86_64", "x86-64"), ("amd64", None)),
    "aarch64": ("arm64", None),
    **dict.fromkeys(("armhf", "armv7l"), ("arm", "v7")),
    **dict.fromkeys(("armel", "armv6l"), ("arm", "v6")),
    **dict.fromkeys(("i386", "i686"), ("386", None)),
}
_PLATFORM_KEYS = frozenset({"os", "architecture", "variant", "os.version", "os.features", "features"})
_KEYS = frozenset({"mediaType", "digest", "size", "platform", "annotations", "urls", "artifactType", "data"})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content by digest, with its media type and its size in bytes.

    `data` is the content itself, if the descriptor embeds it; it matches digest and size.
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
        """Validate one descriptor; `what` names it in errors.

        Raises:
            InvalidDigest: its digest is outside the grammar.
            InvalidContent: another field is missing or has the wrong type, or `data` does not match the digest.
        """
        fields = Fields(value, what, _KEYS)
        platform = fields.nested("platform", _PLATFORM_KEYS)
        media_type, digest = fields.required("mediaType"), Digest.parse(fields.get("digest"))
        size, data = fields.integer("size"), None
        if fields.get("data") is not None:
            try:
                data = base64.b64decode(fields.string("data"), validate=True)
            except ValueError:
                raise fields.invalid("'data' is not base64") from None
            if len(data) != size or digest.compute(data) != digest:
                raise fields.invalid(f"'data' is not the content that {digest} names")
        return cls(
            media_type,
            digest,
            size,
            platform=Platform.from_fields(platform) if platform else None,
            annotations=fields.mapping("annotations"),
            urls=fields.strings("urls"),
            artifact_type=fields.string("artifactType") or None,
            data=data,
        )

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def is_manifest(self) -> bool:
        """True for manifests and indexes, which registries keep under `/manifests/`."""
        return self.media_type in MANIFEST_TYPES

    @property
    def is_unsupported(self) -> bool:
        """True for manifests of a type that cannot be followed, where a manifest belongs: a root, or in an index.

        As a layer or a config, content of any type is a blob.
        """
        return not self.is_manifest and bool(_LIKE_MANIFEST.fullmatch(self.media_type))

    @property
    def is_schema1(self) -> bool:
        """True for Docker's schema 1, whose digest does not cover its bytes."""
        return self.media_type in SCHEMA1_TYPES

    @property
    def is_foreign(self) -> bool:
        """True for layers whose licence keeps them out of registries: fetched from `urls`, not pushed."""
        return bool(_FOREIGN.fullmatch(self.media_type))

    @property
    def is_tar(self) -> bool:
        """True for layers that are tar archives: plain, gzip or zstd, of any vendor."""
        return bool(_TAR.fullmatch(self.media_type))

    @property
    def is_encrypted(self) -> bool:
        """True for encrypted layers, which only the owner of a key can unpack."""
        return self.media_type.endswith("+encrypted")

    @property
    def attests(self) -> str | None:
        """The digest of the image that this attestation describes; None if it is not an attestation."""
        return self.annotations.get(_REFERENCE_DIGEST) if _REFERENCE_TYPE in self.annotations else None

    def to_json(self) -> JsonObject:
        """Return the descriptor as JSON, without `data` and `urls`."""
        found: JsonObject = {"mediaType": self.media_type, "digest": str(self.digest), "size": self.size}
        if self.platform:
            found["platform"] = self.platform.to_json()
        if self.annotations:
            found["annotations"] = dict(self.annotations)
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        return found
