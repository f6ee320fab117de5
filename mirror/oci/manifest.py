"""Manifests and indexes (OCI image-spec, manifest.md and image-index.md; Docker's schema 2).

A document that could be read as both a manifest and an index is rejected (CVE-2021-41190), and so is schema 1, whose
digest does not cover its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from mirror.errors import ContentError, UnsupportedManifest
from mirror.oci.descriptor import (
    ARTIFACT_TYPES,
    INDEX_TYPES,
    MANIFEST_CAP,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
    Descriptor,
)
from mirror.recent import Recent
from mirror.strictjson import Fields, JsonObject, invalid, load_object
from mirror.text.redaction import excerpt

_KEYS = frozenset(
    {"schemaVersion", "mediaType", "artifactType", "manifests", "config", "layers", "blobs", "subject", "annotations"}
)


_NO_OBJECT = re.compile(rb"[ \t\r\n]*[^ \t\r\n{]")
_LINK_KEYS = (b'"digest"', b'"blobsum"')

_SCHEMA1 = "Docker schema 1 manifests are not supported: their digest does not cover their bytes"
_SCHEMA1_HINT = "Registries and runtimes dropped schema 1 in 2019; rebuild or re-push the image with a current tool."


class Document(NamedTuple):
    """A parsed manifest or index.

    `manifests` are the children of an index, `config` and `layers` the content of a manifest. `subject` need not exist.
    """

    media_type: str
    manifests: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = MappingProxyType({})

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def kind(self) -> str | None:
        """The artifact type, by default the config's media type (OCI image-spec, manifest.md, "artifactType")."""
        return self.artifact_type or (self.config.media_type if self.config else None)

    @property
    def links(self) -> tuple[Descriptor, ...]:
        """All content that the document requires, in document order."""
        return self.manifests + ((self.config,) if self.config else ()) + self.layers


_PARSED = Recent[tuple[bytes, str | None], Document](1024 * 1024)  # bytes of the manifests; parsed, they take more


class Node(NamedTuple):
    """A manifest or an index: descriptor, exact bytes, and parsed document."""

    descriptor: Descriptor
    data: bytes
    document: Document


def parse(data: bytes, media_type: str | None, what: str, *, cap: int = MANIFEST_CAP) -> Document:
    """Parse the exact bytes of a manifest or an index of at most `cap` bytes.

    `media_type` is from the descriptor or the Content-Type header, if there is one; `what` names the document in errors
    (InvalidContent, InvalidDigest), and may be empty.
    """
    if len(data) > cap:
        raise invalid(what, f"{len(data)} bytes; a manifest has at most {cap}")
    return parse_object(load_object(data, what), media_type, what)


def parse_once(data: bytes, media_type: str | None, what: str) -> Document:
    """As `parse`, for bytes that several steps of one run need: the documents parsed last are remembered."""
    found = _PARSED.get((data, media_type))
    if found is None:
        found = parse(data, media_type, what)
        # Without an announced type, the result is the same as if the type that was found had been announced.
        for known in (media_type, found.media_type) if media_type is None else (media_type,):
            _PARSED.add((data, known), found, len(data))
    return found


def parse_object(document: JsonObject, media_type: str | None, what: str) -> Document:
    """Parse a manifest or an index from its JSON object; see `parse`."""
    fields = Fields(document, what, _KEYS)
    found = _media_type(fields, media_type)
    version = fields.get("schemaVersion")
    if fields.string("mediaType") not in ARTIFACT_TYPES and (type(version) is not int or version != 2):
        raise fields.invalid(f"'schemaVersion' is {excerpt(str(version), 40)}, but should be 2")
    return _parse_index(fields, found) if found in INDEX_TYPES else _parse_image(fields, found)


def unsupported(node: Descriptor) -> UnsupportedManifest:
    """Return the error for a manifest that cannot be followed, so that what it references is not known."""
    if node.is_schema1:
        return UnsupportedManifest(f"{node.digest}: {_SCHEMA1}.", hint=_SCHEMA1_HINT)
    return UnsupportedManifest(
        f"{node.digest}: manifests of the type {node.media_type[:80]} are not supported, "
        "so it is not known what this one references.",
        hint="Convert it to an OCI image manifest, or use a tool that supports this type.",
    )


def may_be_manifest(beginning: bytes | bytearray) -> bool:
    """Return whether content that begins like this can be a manifest, of any type: a JSON object."""
    return _NO_OBJECT.match(beginning) is None


def is_disguised(data: bytes) -> bool:
    """Return whether content that has another media type, such as `application/json`, is a manifest nevertheless.

    It is if mirror could follow it, if its fields are descriptors, or if readers may disagree about what they are.
    """
    if not may_be_manifest(data):
        return False
    try:
        document = load_object(data, "")
    except ContentError:
        return any(key in data.lower() for key in _LINK_KEYS)
    if any(map(_has_link, document.values())):
        return True
    try:
        parse_object(document, None, "")
    except ContentError:
        return False
    return True


def _has_link(value: object) -> bool:
    return any(map(_is_link, value)) if isinstance(value, list) else _is_link(value)


def _is_link(value: Any) -> bool:
    """Return whether a value is a descriptor, or a layer of schema 1. Go ignores the case of keys."""
    keys = {key.casefold() for key in value} if isinstance(value, dict) else set()
    return "blobsum" in keys or ("digest" in keys and not keys.isdisjoint(("mediatype", "size")))


def build_index(media_type: str, manifests: Sequence[JsonObject], annotations: Mapping[str, str]) -> bytes:
    """Return the bytes of a new index of `manifests`, descriptors with all published fields."""
    document: JsonObject = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}
    if media_type == OCI_INDEX and annotations:  # Docker's manifest lists have none
        document["annotations"] = dict(annotations)
    return json.dumps(document, indent=2).encode()


def build_image(config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str]) -> bytes:
    """Return the bytes of a new OCI manifest, for an image without one."""
    document: JsonObject = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "annotations": dict(annotations),
    }
    return json.dumps(document, indent=2).encode()


def raw_children(data: bytes, what: str) -> list[JsonObject]:
    """Return the descriptors in a valid index as JSON objects, with all of their fields."""
    return Fields.load(data, what).array("manifests")


def _media_type(fields: Fields, announced: str | None) -> str:
    """Return the media type: announced, from the document, or by its fields; the first two must agree."""
    own, version = fields.string("mediaType"), fields.get("schemaVersion")
    is_schema1 = (version == 1 and version is not True) or any(key.casefold() == "fslayers" for key in fields.document)
    if is_schema1 or announced in SCHEMA1_TYPES or own in SCHEMA1_TYPES:
        raise fields.invalid(_SCHEMA1, hint=_SCHEMA1_HINT)
    known = announced if announced in MANIFEST_TYPES else None
    if own and known and own != known:
        raise fields.invalid(f"announced as {known}, but 'mediaType' is {own}")
    found = known or own
    if not found and fields.get("manifests") is not None:
        return OCI_INDEX
    if not found and fields.get("config") is not None:
        return OCI_MANIFEST
    if found not in MANIFEST_TYPES:
        why = f"'mediaType' is {excerpt(found, 80)}" if found else "it has neither 'manifests' nor 'config'"
        raise fields.invalid(f"neither a manifest nor an index: {why}")
    return found


def _parse_index(fields: Fields, media_type: str) -> Document:
    for name in ("config", "layers", "blobs"):
        if fields.get(name) is not None:
            raise fields.invalid(f"an index that also has {name!r} is ambiguous")
    if "manifests" not in fields.document:  # Go writes an empty list as null
        fields.missing("manifests")
    return Document(
        media_type=media_type,
        manifests=_descriptors(fields, "manifests"),
        subject=_descriptor(fields, "subject"),
        artifact_type=fields.string("artifactType") or None,
        annotations=fields.mapping("annotations"),
    )


def _parse_image(fields: Fields, media_type: str) -> Document:
    if fields.get("manifests") is not None:
        raise fields.invalid("a manifest that also has 'manifests' is ambiguous")
    is_artifact = media_type in ARTIFACT_TYPES
    config = None if is_artifact else _descriptor(fields, "config")
    if config is None and not is_artifact:
        fields.missing("config")
    return Document(
        media_type=media_type,
        config=config,
        layers=_descriptors(fields, "blobs" if is_artifact else "layers"),
        subject=_descriptor(fields, "subject"),
        artifact_type=fields.string("artifactType") or None,
        annotations=fields.mapping("annotations"),
    )


def _descriptor(fields: Fields, name: str) -> Descriptor | None:
    value = fields.get(name)
    return None if value is None else Descriptor.from_json(value, fields.at(name))


def _descriptors(fields: Fields, name: str) -> tuple[Descriptor, ...]:
    where = fields.at(name)
    return tuple(Descriptor.from_json(value, f"{where}[{i}]") for i, value in enumerate(fields.array(name)))
