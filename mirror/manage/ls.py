"""List the images of a layout or an archive."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from mirror.content.select import platforms_there
from mirror.content.walk import walk
from mirror.errors import MirrorError, UsageError
from mirror.layout import Entry
from mirror.layout.referrers import LayoutReferrers, Referrer, is_attachable
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.report.images import ImageList, ImageSummary
from mirror.stores.local import LocalImages, open_local
from mirror.stores.location import Location, Transport


async def list_images(what: Path | str) -> ImageList:
    """List the images of a layout or an archive with their platforms and sizes. Only manifests and configs are read.

    Raises:
        UsageError: the location is a registry.
        NotFound: there is no such directory or file.
        ContentError: it is not a layout or an archive of images, or a broken one.
    """
    location = Location.parse(str(what), registry=False)
    if location.transport is Transport.REGISTRY:
        raise UsageError(
            "ls lists the images of a layout or an archive.",
            hint=f"For a repository of a registry: mirror tags {Reference.parse(location.where).name}",
        )
    async with AsyncExitStack() as stack:
        store = await open_local(location, stack)
        entries = store.entries() if store.store.entries() else []  # an empty layout is not an error here
        listing = _Listing(store, entries)
        # Images first: they tell which of the other entries refer to them, and are not listed themselves.
        for number in sorted(range(len(entries)), key=lambda number: is_attachable(entries[number])):
            await listing.add(number)
    rows = [listing.rows[number] for number in sorted(listing.rows)]
    return ImageList(str(what), tuple(rows), sum(listing.blobs.values()), len(listing.members))


class _Listing:
    """The rows of a list, by the positions of their entries, and what all of them have in common."""

    def __init__(self, store: LocalImages, entries: list[Entry]) -> None:
        self.rows: dict[int, ImageSummary] = {}
        self.blobs: dict[Digest, int] = {}
        self.members: set[Digest] = set()
        self._listed_as_referrers: set[str] = set()
        self._store, self._entries = store, entries
        self._referrers = LayoutReferrers(store.store, entries)

    async def add(self, number: int) -> None:
        entry = self._entries[number]
        if is_attachable(entry) and entry.name in self._listed_as_referrers:
            return
        root, referrers = entry.root, list[Referrer]()
        try:
            graph = await walk(self._store.store, entry.root, keep=await self._store.present(entry), foreign=True)
            if not is_attachable(entry):
                referrers = await self._referrers.of(entry, graph)
            self._listed_as_referrers.update(other.entry.name for other in referrers)
            members = {digest for other in referrers for digest in other.members}
            self.members |= members
            platforms = await platforms_there(self._store.store, graph)
            for other in referrers:
                if other.failure:
                    raise other.failure
        except MirrorError as error:
            self.rows[number] = ImageSummary(entry.name, root.digest, root.media_type, problem=str(error))
            return
        for found in (graph, *(other.graph for other in referrers)):
            self.blobs.update((blob.digest, blob.size) for blob in found.blobs.values())
        self.rows[number] = ImageSummary(
            entry.name,
            root.digest,
            root.media_type,
            platforms,
            len(graph.blobs),
            graph.size,
            sparse=entry.kept is not None,
            referrers=len(members),
        )
