"""List the images of a layout or an archive."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from mirror.content.graph import fail_unless_unsupported
from mirror.content.select import platforms_there
from mirror.content.walk import walk
from mirror.errors import MirrorError, UsageError
from mirror.layout import Entry
from mirror.layout.referrers import LayoutReferrers, Referrer
from mirror.layout.referring import can_refer
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.report.images import ImageList, ImageSummary
from mirror.stores.local import LocalImages, open_local
from mirror.stores.location import Location, Transport


async def list_images(what: Path | str) -> ImageList:
    """List the images of a layout or an archive with their platforms and sizes. Only manifests and configs are read.

    Raises:
        UsageError: the location is an image of a registry.
        NotFound: there is no such directory or file.
        ContentError: it is not a layout or an archive of images, or it is broken.
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
        rows: dict[int, ImageSummary] = {}
        # Images first, to know which of the other entries refer to them: those are not listed themselves.
        for position, entry in sorted(enumerate(entries), key=lambda pair: can_refer(pair[1])):
            if not (can_refer(entry) and entry.name in listing.referring):
                rows[position] = await listing.summarize(entry)
    in_order = tuple(rows[position] for position in sorted(rows))
    return ImageList(str(what), in_order, sum(listing.blobs.values()), len(listing.members))


class _Listing:
    """The blobs of all images so far, their referrers, and the names of the entries that those are in."""

    def __init__(self, store: LocalImages, entries: list[Entry]) -> None:
        self.blobs: dict[Digest, int] = {}
        self.members: set[Digest] = set()
        self.referring: set[str] = set()
        self._store, self._referrers = store, LayoutReferrers(store.store, store.known())

    async def summarize(self, entry: Entry) -> ImageSummary:
        root, referrers = entry.root, list[Referrer]()
        try:
            present, on_fault = await self._store.present(entry), fail_unless_unsupported(root)
            graph = await walk(self._store.store, root, keep=present, foreign=True, on_fault=on_fault)
            if not can_refer(entry):
                referrers = await self._referrers.of(entry, graph)
            self.referring.update(other.entry.name for other in referrers)
            members = {digest for other in referrers for digest in other.members}
            self.members |= members
            platforms = await platforms_there(self._store.store, graph)
            for other in referrers:
                if other.failure:
                    raise other.failure
        except MirrorError as error:
            return ImageSummary(entry.name, root.digest, root.media_type, problem=str(error))
        for found in (graph, *(other.graph for other in referrers)):
            self.blobs.update((blob.digest, blob.size) for blob in found.blobs.values())
        return ImageSummary(
            entry.name,
            root.digest,
            root.media_type,
            platforms,
            len(graph.blobs),
            graph.size,
            sparse=entry.kept is not None,
            referrers=len(members),
            unsupported=len(graph.unsupported),
        )
