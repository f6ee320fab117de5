"""The images of a layout or an archive, read in place."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from mirror.archive.reader import Archive
from mirror.archive.spool import opened
from mirror.content.graph import Keep
from mirror.content.select import SelectedImage
from mirror.content.store import Source
from mirror.errors import NotFound
from mirror.layout import Entry, Layout
from mirror.layout.referrers import FoundReferrers, LayoutReferrers, images_of, is_attachable
from mirror.oci.digest import Digest
from mirror.stores.images import StoreImage
from mirror.stores.location import Location, Transport


class LocalImages:
    """`ImageStore`: a layout or an archive; `location` says which of its images are meant, if not all."""

    is_local = True

    def __init__(self, store: Layout | Archive, location: Location) -> None:
        self.store, self.name = store, str(store.path)
        self._location = location
        self._referrers: LayoutReferrers | None = None

    def images(self, names: Sequence[str] = ()) -> list[StoreImage]:
        """`ImageStore`: entries that could refer to others, such as signatures, only if they are named."""
        entries = self.entries(names)
        return [StoreImage.of(entry) for entry in (entries if names else images_of(entries))]

    def entries(self, names: Sequence[str] = ()) -> list[Entry]:
        """As `images`, but with all entries that could refer to others."""
        if self._location.index is not None:
            return [self._numbered(self._location.index)]
        return self.store.find([self._location.ref] if self._location.ref else names)

    def unattached(self, attached: Collection[str]) -> list[StoreImage]:
        """Return the entries that could refer to an image but do not; `attached` are the names of those that do."""
        entries = self.store.entries()
        if self._location.ref or all(map(is_attachable, entries)):
            return []
        loose = [entry for entry in entries if is_attachable(entry) and entry.name not in attached]
        return [StoreImage.of(entry) for entry in loose]

    async def resolve(self, image: StoreImage) -> Entry:
        assert image.entry is not None, "local images have entries"
        return image.entry

    def manifests(self, image: StoreImage) -> Source:
        return self.store

    def source(self, image: StoreImage) -> Source:
        return self.store

    async def present(self, entry: Entry) -> Keep:
        return await self.store.there(entry)

    async def referrers(self, images: Sequence[tuple[Entry, SelectedImage]]) -> list[FoundReferrers]:
        if self._referrers is None:
            self._referrers = LayoutReferrers(self.store, self.store.entries())
        return [FoundReferrers(await self._referrers.of(entry, selected.graph)) for entry, selected in images]

    def holds(self, digest: Digest) -> bool:
        return self.store.holds(digest)

    def _numbered(self, number: int) -> Entry:
        """skopeo's `@N`: the N-th image, counting each digest once."""
        entries = list({entry.root.digest: entry for entry in reversed(self.store.entries())}.values())[::-1]
        if number >= len(entries):
            raise NotFound(f"{self.name} has no image @{number}.", hint=f"It has {len(entries)}, from @0 on.")
        return entries[number]


async def open_local(location: Location, stack: AsyncExitStack, near: Path | None = None) -> LocalImages:
    """Open a layout or an archive; `near` is a directory on the file system that a pipe's content is kept on.

    Raises:
        NotFound: there is no such directory or file.
        ContentError: it is not a layout or an archive of images, or a broken one.
        StorageError: it cannot be read.
    """
    if location.transport is Transport.LAYOUT:
        return LocalImages(stack.enter_context(Layout.open(Path(location.where))), location)
    return await open_archive(location, stack, near or Path(tempfile.gettempdir()))


async def open_archive(location: Location, stack: AsyncExitStack, near: Path) -> LocalImages:
    """As `open_local`, for what has to be an archive."""
    return LocalImages(stack.enter_context(await opened(location.where, near)), location)
