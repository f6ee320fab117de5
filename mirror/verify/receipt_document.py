"""The receipt of a push, in JSON: the digests that were pushed and read back, and where.

A receipt that is parsed comes from outside, so it is validated like all input.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar

from mirror.content.graph import Graph
from mirror.content.store import Source
from mirror.errors import InvalidDigest
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference, is_host, is_repository, is_tag
from mirror.oci.tagged import Tagged
from mirror.report.json import to_json
from mirror.strictjson import Fields
from mirror.verify.readback import Expected

CAP = 256 * 1024 * 1024  # bytes of a receipt: several hundred thousand images


@dataclass(frozen=True, slots=True)
class ReceiptContent:
    """A manifest or blob of an image; `kind` is index, manifest, config or layer."""

    kind: str
    media_type: str
    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ReceiptReferrers:
    """The tags of an image's referrers; `error` is why some may be missing."""

    tags: tuple[Tagged, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ReceiptImage:
    """One image.

    Attributes:
        source: its name in the layout.
        image: its result line, NAME:TAG@DIGEST.
        registry, repository, tag: where it was pushed to.
        digest: that of its root.
        content: all of its manifests and blobs and those of its referrers; empty if the push failed.
        error: why the push failed.
    """

    source: str
    image: str
    registry: str
    repository: str
    tag: str | None
    digest: Digest
    platforms: tuple[str, ...] = ()
    content: tuple[ReceiptContent, ...] = ()
    error: str | None = None
    referrers: ReceiptReferrers = ReceiptReferrers()

    @classmethod
    def of(cls, source: str, place: Reference, digest: Digest) -> ReceiptImage:
        """Return the entry of an image that was pushed to `place`, without its content."""
        return cls(source, place.pinned(digest), place.registry, place.repository, place.tag, digest)

    @property
    def reference(self) -> Reference:
        """The name that was pushed, with its tag, or else with its digest."""
        return Reference(self.registry, self.repository, self.tag, None if self.tag else self.digest)

    def expected(self, source: Source) -> Expected:
        """Return what must be read back from `source`, the repository that the image was pushed to."""
        content = tuple(Descriptor(part.media_type, part.digest, part.size) for part in self.content)
        name, target = self.reference.stored, self.reference.target
        return Expected(name, source, target, self.digest, content, self.referrers.tags)


@dataclass(frozen=True, slots=True)
class Tool:
    """The tool that wrote a receipt."""

    version: str
    name: str = "oci-mirror"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of one push."""

    schema: ClassVar[str] = "mirror.receipt/1"

    tool: Tool
    started: datetime
    finished: datetime
    layout: str
    images: tuple[ReceiptImage, ...]

    def to_bytes(self) -> bytes:
        return json.dumps(to_json(self), indent=2).encode() + b"\n"


def receipt_content(graph: Graph) -> Iterator[ReceiptContent]:
    """Yield the manifests and blobs of an image, the root first, without those left out on purpose."""
    configs = {node.document.config.digest for node in graph.nodes.values() if node.document.config}
    kinds = {digest: "index" if node.document.is_index else "manifest" for digest, node in graph.nodes.items()}
    kinds |= {digest: "config" if digest in configs else "layer" for digest in graph.blobs}
    for descriptor in (*(node.descriptor for node in graph.nodes.values()), *graph.blobs.values()):
        yield _content(kinds[descriptor.digest], descriptor)


def _content(kind: str, descriptor: Descriptor) -> ReceiptContent:
    return ReceiptContent(kind, descriptor.media_type, descriptor.digest, descriptor.size)


def parse_receipt(data: bytes, name: str) -> list[ReceiptImage]:
    """Return the images of a receipt. Raise InvalidContent for another document or version."""
    fields = Fields.load(data, name)
    if fields.get("schema") != Receipt.schema:
        raise fields.invalid(f"not a receipt: 'schema' is not {Receipt.schema!r}")
    if fields.get("images") is None:
        fields.missing("images")
    try:
        return [_parse_image(image) for image in fields.objects("images")]
    except InvalidDigest as error:
        raise fields.invalid(str(error).rstrip(".")) from None


def _parse_image(image: Fields) -> ReceiptImage:
    digest, error = Digest.parse(image.get("digest")), image.get("error")
    content = [
        _content(part.string("kind"), Descriptor.from_json(part.document, part.what))
        for part in image.objects("content")
    ]
    if error is None and digest not in {part.digest for part in content}:
        raise image.invalid(f"'content' does not include the root {digest}")
    referrers = image.nested("referrers") or Fields({}, image.at("referrers"))
    missing = referrers.get("error")
    return replace(
        ReceiptImage.of(image.string("source"), _parse_reference(image, digest), digest),
        platforms=image.strings("platforms"),
        content=tuple(content),
        error=None if error is None else str(error),
        referrers=ReceiptReferrers(
            tuple(map(_parse_tag, referrers.objects("tags"))), None if missing is None else str(missing)
        ),
    )


def _parse_reference(image: Fields, digest: Digest) -> Reference:
    registry, repository, tag = (image.string(name) for name in ("registry", "repository", "tag"))
    if not is_host(registry):
        raise image.invalid("'registry' is not a registry host")
    if not is_repository(repository):
        raise image.invalid("'repository' is not a valid repository name")
    if tag and not is_tag(tag):
        raise image.invalid("'tag' is not a valid tag")
    return Reference(registry, repository, tag or None, None if tag else digest)


def _parse_tag(tag: Fields) -> Tagged:
    name = tag.required("tag")
    if not is_tag(name):
        raise tag.invalid("'tag' is not a valid tag")
    return Tagged(name, Digest.parse(tag.get("digest")), tuple(map(Digest.parse, tag.array("members"))))
