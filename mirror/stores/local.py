"""The images of a layout or an archive, read in place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.content.graph import Keep
from mirror.content.select import SelectedImage
from mirror.content.store import Source
from mirror.errors import NotFound
from mirror.layout import Entry, Layout
from mirror.layout.implied import Relations
from mirror.layout.referrers import FoundReferrers, LayoutReferrers
from mirror.layout.referring import can_refer, images_of
from mirror.oci.digest import Digest
from mirror.stores.images import StoreImage
from mirror.stores.location import Location, Transport

if TYPE_CHECKING:
    from mirror.archive.reader import Archive


class LocalImages:
    """`ImageStore`: the images of a layout or an archive, or the one image that `location` names."""

    is_local = True

    def __init__(self, store: Layout | Archive, location: Location) -> None:
        self.store, self.name = store, str(store.path)
        self._location = location
        self._referrers: LayoutReferrers | None = None
        self._known: list[Entry] | None = None

    def known(self) -> list[Entry]:
        """Return all entries, in the form in which mirror writes them (`mirror.layout.implied`)."""
        if self._known is None:
            self._known = Relations.read(self.store, self.store.known).complete(self.store.entries())
        return self._known

    def images(self, names: Sequence[str] = ()) -> list[StoreImage]:
        """`ImageStore`: all images, without entries that could refer to others, such as signatures, unless named."""
        entries = self.entries(names)
        return [StoreImage.of(entry) for entry in (entries if names else images_of(entries))]

    def entries(self, names: Sequence[str] = ()) -> list[Entry]:
        """As `images`, but including all entries that could refer to others."""
        number = self._location.position
        if number is None:
            named = [self._location.ref] if self._location.ref else names
            found = self.store.find(named)  # an image that is named is found as it is stored
            return found if named else list(self.known())
        return [entry_at(self.store.entries(), number, self.name)]

    def without_subject(self, referring: Collection[str]) -> list[StoreImage]:
        """Return the entries that could refer to an image but do not; `referring` are the names of those that do."""
        entries = self.known()
        if self._location.ref or all(map(can_refer, entries)):
            return []
        return [StoreImage.of(entry) for entry in entries if can_refer(entry) and entry.name not in referring]

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
            self._referrers = LayoutReferrers(self.store, self.known())
        return [FoundReferrers(await self._referrers.of(entry, selected.graph)) for entry, selected in images]

    def holds(self, digest: Digest) -> bool:
        return self.store.holds(digest)


def entry_at(entries: Sequence[Entry], number: int, name: str) -> Entry:
    """Return skopeo's `@N`, which counts each digest once. `name` is that of the store, for the NotFound."""
    distinct = list({entry.root.digest: entry for entry in reversed(entries)}.values())[::-1]
    if number >= len(distinct):
        raise NotFound(f"{name} has no image @{number}.", hint=f"It has {len(distinct)}, from @0 on.")
    return distinct[number]


async def open_local(location: Location, stack: AsyncExitStack, near: Path | None = None) -> LocalImages:
    """Open a layout or an archive. If it is read from a pipe, its content is kept on the file system of `near`."""
    if location.transport is Transport.LAYOUT:
        return LocalImages(stack.enter_context(Layout.open(Path(location.where))), location)
    from tempfile import gettempdir  # this and the next are not needed for layouts

    from mirror.archive.reader import opened

    archive = await opened(location.where, near or Path(gettempdir()))
    return LocalImages(stack.enter_context(archive), location)
