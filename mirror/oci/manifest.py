"""Manifests and indexes, parsed from their bytes without any I/O. The bytes are kept and passed on as they are.

Rules: OCI image-spec, manifest.md and image-index.md; Docker's schema 2. A document that could be taken for both kinds
is refused (CVE-2021-41190), as is schema 1, whose digest does not cover its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mirror.errors import InvalidContent
from mirror.oci.descriptor import (
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_CAP,
    MANIFEST_TYPES,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
    Descriptor,
    annotations_of,
)
from mirror.strictjson import JsonObject, load_object
from mirror.strictjson import field as _field


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed manifest or index: what it is and what it names.

    `manifests` are an index's children; `config` and `layers` a manifest's content. `subject` is a weak link: it may
    name something that is not there.
    """

    media_type: str
    manifests: tuple[Descriptor, ...] = ()
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES

    @property
    def kind(self) -> str | None:
        """What an artifact is (OCI image-spec, manifest.md, "artifactType"): by its own word, or by its config's."""
        return self.artifact_type or (self.config.media_type if self.config else None)

    @property
    def links(self) -> tuple[Descriptor, ...]:
        """Everything that has to be there for this document to be whole, in its own order."""
        return self.manifests + ((self.config,) if self.config else ()) + self.layers


@dataclass(frozen=True, slots=True)
class Node:
    """A manifest or an index: its descriptor, its exact bytes, and what they say."""

    descriptor: Descriptor
    data: bytes
    document: Document


def parse(data: bytes, media_type: str | None, what: str, *, cap: int = MANIFEST_CAP) -> Document:
    """Parse a manifest or an index.

    Args:
        data: the exact bytes.
        media_type: what the descriptor or the Content-Type says it is; None where nobody says.
        what: how to call the document in an error.
        cap: the most bytes that are read at all.

    Raises:
        InvalidContent: too large, no JSON, schema 1, of another type than announced, ambiguous, or broken.
        InvalidDigest: a digest in it is outside the grammar.
    """
    if len(data) > cap:
        raise InvalidContent(f"{what} has {len(data)} bytes, and {cap} are the most that a manifest may have.")
    return parse_object(load_object(data, what), media_type, what)


def parse_object(document: JsonObject, media_type: str | None, what: str) -> Document:
    """Parse a manifest or an index whose JSON has been read already; see `parse`."""
    found = _media_type(document, media_type, what)
    _check_version(document, what)
    if found in INDEX_TYPES:
        return _parse_index(document, found, what)
    return _parse_image(document, found, what)


def build_index(media_type: str, manifests: Sequence[JsonObject], extra: Mapping[str, str]) -> bytes:
    """The bytes of an index of our own making, over descriptors as they were published; `extra` are its annotations.

    Docker's manifest list has no annotations, so there they are left to the entry in `index.json`.
    """
    document: JsonObject = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}
    if media_type == OCI_INDEX and extra:
        document["annotations"] = dict(extra)
    return json.dumps(document, indent=2).encode()


def build_image(config: Descriptor, layers: Sequence[Descriptor], annotations: Mapping[str, str]) -> bytes:
    """The bytes of an OCI manifest of our own making, for an image that came without one."""
    document: JsonObject = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        "annotations": dict(annotations),
    }
    return json.dumps(document, indent=2).encode()


def raw_children(data: bytes, what: str) -> list[JsonObject]:
    """The descriptors of an index as JSON objects, with fields that we do not know. It has been parsed before."""
    children: list[JsonObject] = load_object(data, what)["manifests"] or []
    return children


def _media_type(document: JsonObject, announced: str | None, what: str) -> str:
    own = _field(document, "mediaType", what)
    if own is not None and not isinstance(own, str):
        raise InvalidContent(f"The mediaType of {what} is no string.")
    if _is_schema1(document, what) or announced in SCHEMA1_TYPES or own in SCHEMA1_TYPES:
        raise InvalidContent(
            f"{what} is a Docker schema 1 manifest, whose digest does not cover its bytes.",
            hint="Registries and runtimes dropped schema 1 in 2019; rebuild or re-push the image with a current tool.",
        )
    known = announced if announced in MANIFEST_TYPES else None
    if own and known and own != known:
        raise InvalidContent(f"{what} was announced as {known} and calls itself {own}.")
    found = known or own or _guess(document, what)
    if found not in MANIFEST_TYPES:
        raise InvalidContent(f"{what} is of the type {found}, which is no manifest and no index.")
    return found


def _is_schema1(document: JsonObject, what: str) -> bool:
    version = _field(document, "schemaVersion", what)
    return (version == 1 and version is not True) or any(key.casefold() == "fslayers" for key in document)


def _guess(document: JsonObject, what: str) -> str:
    """OCI documents may leave their mediaType out; then their fields tell."""
    if _field(document, "manifests", what) is not None:
        return OCI_INDEX
    if _field(document, "config", what) is not None:
        return OCI_MANIFEST
    raise InvalidContent(f"{what} is no manifest: it has neither manifests nor a config.")


def _check_version(document: JsonObject, what: str) -> None:
    version = _field(document, "schemaVersion", what)
    if document.get("mediaType") != OCI_ARTIFACT and (type(version) is not int or version != 2):
        raise InvalidContent(f"The schemaVersion of {what} is {str(version)[:40]}, and should be 2.")


def _parse_index(document: JsonObject, media_type: str, what: str) -> Document:
    for name in ("config", "layers", "blobs"):
        if _field(document, name, what) is not None:
            raise InvalidContent(f"{what} is an index and has {name!r} too: two readers could take it for two things.")
    return Document(
        media_type=media_type,
        manifests=_descriptors(document, "manifests", what),
        subject=_subject(document, what),
        artifact_type=_string(document, "artifactType", what),
        annotations=annotations_of(document, what),
    )


def _parse_image(document: JsonObject, media_type: str, what: str) -> Document:
    if _field(document, "manifests", what) is not None:
        raise InvalidContent(f"{what} is a manifest and has 'manifests' too: two readers could take it for two things.")
    artifact = media_type == OCI_ARTIFACT
    config = None if artifact else _field(document, "config", what)
    if config is None and media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise InvalidContent(f"{what} has no config.")
    return Document(
        media_type=media_type,
        config=None if config is None else Descriptor.from_json(config, f"the config of {what}"),
        layers=_descriptors(document, "blobs" if artifact else "layers", what),
        subject=_subject(document, what),
        artifact_type=_string(document, "artifactType", what),
        annotations=annotations_of(document, what),
    )


def _descriptors(document: JsonObject, name: str, what: str) -> tuple[Descriptor, ...]:
    values = _field(document, name, what)
    if values is None and (name != "manifests" or name in document):
        return ()  # Go writes an empty list as null
    if not isinstance(values, list):
        raise InvalidContent(f"The {name} of {what} are no list.")
    return tuple(Descriptor.from_json(value, f"{name}[{i}] of {what}") for i, value in enumerate(values))


def _subject(document: JsonObject, what: str) -> Descriptor | None:
    value = _field(document, "subject", what)
    return None if value is None else Descriptor.from_json(value, f"the subject of {what}")


def _string(document: JsonObject, name: str, what: str) -> str | None:
    value = _field(document, name, what)
    if value is not None and not isinstance(value, str):
        raise InvalidContent(f"The {name} of {what} is no string.")
    return value
