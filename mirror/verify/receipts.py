"""A receipt: what was pushed where, digest by digest, all of it read back. It becomes JSON, and is read again later.

Until then somebody has kept it, or handed it on, so what is read is validated like everything from outside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from mirror.content.graph import Graph
from mirror.content.store import Source
from mirror.errors import InvalidContent, InvalidDigest
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference, is_host, is_repository, is_tag
from mirror.oci.referrers import Tagged
from mirror.strictjson import JsonObject, load_object
from mirror.verify.readback import Expected

SCHEMA = "mirror.receipt/1"
TOOL = "oci-mirror"
CAP = 256 * 1024 * 1024  # bytes of a receipt: some hundred thousand images


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing that an image consists of; `kind` is index, manifest, config or layer."""

    kind: str
    node: Descriptor

    def to_json(self) -> JsonObject:
        return {"kind": self.kind, **self.node.to_json()}


@dataclass(frozen=True, slots=True)
class Pushed:
    """One image: its name in the layout, where it went, and its root; `error` is why it did not arrive.

    `tags` are those by which what refers to it is found; `lacking` is why that may not be all.
    """

    source: str
    place: Reference
    digest: Digest
    platforms: tuple[str, ...] = ()
    content: tuple[Piece, ...] = ()
    error: str | None = None
    tags: tuple[Tagged, ...] = ()
    lacking: str | None = None

    @property
    def image(self) -> str:
        return self.place.pinned(self.digest)

    def expected(self, source: Source) -> Expected:
        """What should be read back from the repository that it went to."""
        content = tuple(piece.node for piece in self.content)
        return Expected(self.place.stored, source, self.place.target, self.digest, content, self.tags)

    def to_json(self) -> JsonObject:
        return {
            "source": self.source,
            "image": self.image,
            "registry": self.place.registry,
            "repository": self.place.repository,
            "tag": self.place.tag,
            "digest": self.digest,
            "platforms": list(self.platforms),
            "content": [piece.to_json() for piece in self.content],
            "error": self.error,
            "referrers": {"tags": list(map(_tag_json, self.tags)), "error": self.lacking},
        }


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one push did, by which version of this tool, and when."""

    version: str
    started: datetime
    finished: datetime
    layout: str
    images: tuple[Pushed, ...]

    def to_bytes(self) -> bytes:
        document = {
            "schema": SCHEMA,
            "tool": {"name": TOOL, "version": self.version},
            "started": _moment(self.started),
            "finished": _moment(self.finished),
            "layout": self.layout,
            "images": [image.to_json() for image in self.images],
        }
        return json.dumps(document, indent=2).encode() + b"\n"


def pieces(graph: Graph) -> Iterator[Piece]:
    """What an image consists of, the root first; what is absent on purpose is not among it."""
    configs = {node.document.config.digest for node in graph.nodes.values() if node.document.config}
    for node in graph.nodes.values():
        yield Piece("index" if node.document.is_index else "manifest", _bare(node.descriptor))
    for blob in graph.blobs.values():
        yield Piece("config" if blob.digest in configs else "layer", _bare(blob))


def parse(data: bytes, what: str) -> list[Pushed]:
    """The images of a receipt.

    Raises:
        InvalidContent: it is no receipt, or one of another version.
    """
    document = load_object(data, what)
    if document.get("schema") != SCHEMA:
        raise InvalidContent(f"{what} is no receipt: its schema should be {SCHEMA}.")
    images = document.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise InvalidContent(f"The images of {what} are no list of objects.")
    try:
        return [_parse_image(image, f"images[{number}] of {what}") for number, image in enumerate(images)]
    except InvalidDigest as error:
        raise InvalidContent(f"{what} is broken: {error}") from None


def _parse_image(image: JsonObject, what: str) -> Pushed:
    digest, error, platforms = Digest.parse(image.get("digest")), image.get("error"), image.get("platforms")
    content, referrers = _parse_content(image.get("content"), what), image.get("referrers") or {}
    if not isinstance(referrers, dict):
        raise InvalidContent(f"The referrers of {what} are no object.")
    if error is None and digest not in {piece.node.digest for piece in content}:
        raise InvalidContent(f"The content of {what} does not have its root {digest}.")
    return Pushed(
        source=str(image.get("source")),
        place=_parse_place(image, digest, what),
        digest=digest,
        platforms=tuple(map(str, platforms)) if isinstance(platforms, list) else (),
        content=content,
        error=None if error is None else str(error),
        tags=_parse_tags(referrers.get("tags", []), what),
        lacking=None if referrers.get("error") is None else str(referrers["error"]),
    )


def _parse_place(image: JsonObject, digest: Digest, what: str) -> Reference:
    registry, repository, tag = (image.get(name) for name in ("registry", "repository", "tag"))
    if not isinstance(registry, str) or not is_host(registry):
        raise InvalidContent(f"The registry of {what} is none.")
    if not isinstance(repository, str) or not is_repository(repository):
        raise InvalidContent(f"The repository of {what} is none.")
    if tag is not None and (not isinstance(tag, str) or not is_tag(tag)):
        raise InvalidContent(f"The tag of {what} is none.")
    return Reference(registry, repository, tag, None if tag else digest)


def _parse_content(content: object, what: str) -> tuple[Piece, ...]:
    if not isinstance(content, list) or not all(isinstance(piece, dict) for piece in content):
        raise InvalidContent(f"The content of {what} is no list of objects.")
    return tuple(
        Piece(str(piece.get("kind")), _bare(Descriptor.from_json(piece, f"content[{number}] of {what}")))
        for number, piece in enumerate(content)
    )


def _parse_tags(tags: object, what: str) -> tuple[Tagged, ...]:
    if not isinstance(tags, list) or not all(isinstance(tag, dict) for tag in tags):
        raise InvalidContent(f"The tags of what refers to {what} are no list of objects.")
    return tuple(_parse_tag(tag, f"tags[{number}] of what refers to {what}") for number, tag in enumerate(tags))


def _parse_tag(tag: JsonObject, what: str) -> Tagged:
    name, members = tag.get("tag"), tag.get("members", [])
    if not isinstance(name, str) or not is_tag(name):
        raise InvalidContent(f"The name of {what} is none.")
    if not isinstance(members, list):
        raise InvalidContent(f"The members of {what} are no list.")
    return Tagged(name, Digest.parse(tag.get("digest")), tuple(map(Digest.parse, members)))


def _tag_json(tag: Tagged) -> JsonObject:
    return {"tag": tag.tag, "digest": tag.digest, "members": list(tag.members)}


def _bare(node: Descriptor) -> Descriptor:
    return Descriptor(node.media_type, node.digest, node.size)


def _moment(when: datetime) -> str:
    """RFC 3339, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
