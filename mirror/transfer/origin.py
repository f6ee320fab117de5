"""Where the images of a copy come from: one of a registry, or those of a layout or an archive."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from mirror.archive.reader import Archive
from mirror.archive.spool import opened
from mirror.errors import MirrorError, NotFound
from mirror.layout import Entry, Layout, names
from mirror.layout.referrers import LayoutReferrers, StoredReferrer, images_of, is_attachable
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, MirroredRepository, Referrers, Repository, pull_source
from mirror.retry import RetryPolicy
from mirror.transfer.attachments import Referrer
from mirror.transfer.gather import gather
from mirror.transfer.location import Location, Transport
from mirror.transfer.outgoing import SelectedSourceImage, SourceImage, offer


@dataclass(frozen=True, slots=True)
class Company:
    """What refers to an image. `failures` say, by subject, what else there may be; `warnings` are sentences."""

    attached: Sequence[StoredReferrer]
    failures: Mapping[Digest, MirrorError]
    warnings: Sequence[str]


class ImageSource(Protocol):
    """Images, and what refers to them: nobody has to be asked for it where it `is_local`."""

    is_local: bool

    async def images(self) -> list[Entry]:
        """Those that are meant."""
        ...

    async def offer(self, name: str, entry: Entry) -> SourceImage:
        """One of them, to be called `name` on the other side."""
        ...

    async def company(self, image: SelectedSourceImage) -> Company:
        """What refers to it."""
        ...

    def loose(self, covered: Container[str]) -> list[Entry]:
        """What could refer to images, and refers to none: the entries besides those of these names."""
        ...


async def open_origin(
    location: Location, client: Client | None, retry: RetryPolicy, stack: AsyncExitStack, near: Path
) -> ImageSource:
    """What is at a location. `stack` closes it; `near` is where a pipe's content is kept meanwhile.

    Raises:
        MirrorError: there is nothing, or it cannot be read.
    """
    if client and location.transport is Transport.REGISTRY:
        reference = Reference.parse(location.where)
        return _Remote(reference, pull_source(client, reference), retry)
    if location.transport is Transport.LAYOUT:
        return _Stored(stack.enter_context(Layout.open(Path(location.where))), location)
    return _Stored(stack.enter_context(await opened(location.where, near)), location)


class _Remote:
    """One image of a registry."""

    is_local = False

    def __init__(self, reference: Reference, source: Repository | MirroredRepository, retry: RetryPolicy) -> None:
        self._reference, self._source, self._retry = reference, source, retry

    async def images(self) -> list[Entry]:
        root = await self._retry.run(partial(self._source.resolve, self._reference.target))
        origin = {names.ORIGIN: self._reference.pinned(root.digest)}
        return [Entry(replace(root, annotations=origin), self._reference, self._reference.tag)]

    async def offer(self, name: str, entry: Entry) -> SourceImage:
        return SourceImage(self._source, entry, name, lambda _: True, lambda _: False)

    async def company(self, image: SelectedSourceImage) -> Company:
        subjects = [image.offer.entry.root.digest, *image.graph.nodes]
        found = await gather(Referrers(self._retry), self._reference.name, self._source, subjects, None, self._retry)
        return Company([_attached(one) for one in found.found], found.failures, found.warnings)

    def loose(self, covered: Container[str]) -> list[Entry]:
        return []


def _attached(one: Referrer) -> StoredReferrer:
    reference = Reference.parse(one.name)
    return StoredReferrer(one.subject, Entry(one.root, reference, reference.tag), one.graph)


class _Stored:
    """The images of a layout or an archive. What refers to them has entries of its own, and is no image by itself."""

    is_local = True

    def __init__(self, source: Layout | Archive, location: Location) -> None:
        self._source, self._location = source, location

    async def images(self) -> list[Entry]:
        """Those that are meant: all of them, the one of that name, or the one of that number.

        Raises:
            NotFound: there is none.
            UsageError: the name could mean several.
        """
        if self._location.index is not None:
            return [self._numbered(self._location.index)]
        if self._location.ref:
            return self._source.find([self._location.ref])
        return images_of(self._source.find())

    async def offer(self, name: str, entry: Entry) -> SourceImage:
        return await offer(self._source, name, entry)

    async def company(self, image: SelectedSourceImage) -> Company:
        known = LayoutReferrers(self._source, self._source.entries())
        attached = await known.of(image.offer.entry, image.graph)
        return Company(attached, {}, [])  # what failed is with those that are attached

    def loose(self, covered: Container[str]) -> list[Entry]:
        if self._location.ref:
            return []
        entries = self._source.entries()
        heads = [entry for entry in entries if not is_attachable(entry)]
        return [entry for entry in entries if heads and is_attachable(entry) and entry.name not in covered]

    def _numbered(self, number: int) -> Entry:
        entries = list({entry.root.digest: entry for entry in reversed(self._source.entries())}.values())[::-1]
        if number >= len(entries):
            raise NotFound(f"{self._source.path} has no image @{number}.", hint=f"It has {len(entries)}, from @0 on.")
        return entries[number]
