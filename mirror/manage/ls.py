"""List the images of a layout."""

from __future__ import annotations

from pathlib import Path

from mirror.content.select import platforms_there
from mirror.errors import MirrorError
from mirror.layout import Entry, Layout
from mirror.layout.referrers import LayoutReferrers, StoredReferrer, is_attachable, walk_entry
from mirror.oci.digest import Digest
from mirror.report.images import ImageList, ImageSummary


async def list_layout(path: Path | str) -> ImageList:
    """List the images of a layout with their platforms and sizes. Only manifests and configs are read.

    Raises:
        NotFound: there is no such directory.
        BrokenLayout: it is not a layout, or its `oci-layout` or `index.json` is broken.
    """
    with Layout.open(Path(path)) as layout:
        entries = layout.entries()
        listing = _Listing(layout, entries)
        # Images first: they tell which of the other entries refer to them, and are not listed themselves.
        for number in sorted(range(len(entries)), key=lambda number: is_attachable(entries[number])):
            await listing.add(number)
    rows = [listing.rows[number] for number in sorted(listing.rows)]
    return ImageList(str(path), tuple(rows), sum(listing.blobs.values()), len(listing.members))


class _Listing:
    """The rows of a list, by the positions of their entries, and what all of them have in common."""

    def __init__(self, layout: Layout, entries: list[Entry]) -> None:
        self.rows: dict[int, ImageSummary] = {}
        self.blobs: dict[Digest, int] = {}
        self.members: set[Digest] = set()
        self._listed_as_referrers: set[str] = set()
        self._layout, self._entries = layout, entries
        self._referrers = LayoutReferrers(layout, entries)

    async def add(self, number: int) -> None:
        entry = self._entries[number]
        if is_attachable(entry) and entry.name in self._listed_as_referrers:
            return
        root, referrers = entry.root, list[StoredReferrer]()
        try:
            graph = await walk_entry(self._layout, entry)
            if not is_attachable(entry):
                referrers = await self._referrers.of(entry, graph)
            self._listed_as_referrers.update(other.entry.name for other in referrers)
            members = {digest for other in referrers for digest in other.members}
            self.members |= members
            platforms = await platforms_there(self._layout, graph)
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
