"""What every store of images offers for reading, whether it is a registry, a layout or an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.content.graph import Keep
from mirror.content.select import SelectedImage
from mirror.content.store import Source
from mirror.layout import Entry
from mirror.layout.referrers import FoundReferrers
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class StoreImage:
    """An image of a store, before anything of it is read.

    `label` is what the store calls it, or the user who asked for it. `entry` is None until a registry has been asked.
    """

    label: str
    reference: Reference | None
    entry: Entry | None = None

    @classmethod
    def of(cls, entry: Entry) -> StoreImage:
        return cls(entry.name, entry.reference, entry)

    @property
    def name(self) -> str:
        """The name it keeps in another store."""
        if self.entry:
            return self.entry.name
        assert self.reference is not None, "an image without an entry has been asked for by its reference"
        return self.reference.stored


class ImageStore(Protocol):
    """Images that can be read. `name` is what to call the store in messages.

    `is_local` stores list the referrers of their images themselves; registries have to be asked for them.
    """

    name: str
    is_local: bool

    def images(self, names: Sequence[str] = ()) -> list[StoreImage]:
        """Return the images called `names`; all that the location means if there are none.

        Raises:
            NotFound: there is no such image, or none at all.
            UsageError: a name could mean several images.
        """
        ...

    async def resolve(self, image: StoreImage) -> Entry:
        """Return the entry of an image: its root and names.

        Raises:
            MirrorError: a registry could not be asked, or does not have it.
        """
        ...

    def manifests(self, image: StoreImage) -> Source:
        """Return where the manifests of an image are read."""
        ...

    def source(self, image: StoreImage) -> Source:
        """Return where its blobs are read."""
        ...

    async def present(self, entry: Entry) -> Keep:
        """Return which children of an image's indexes are here.

        Raises:
            MirrorError: an index cannot be read.
        """
        ...

    async def referrers(self, images: Sequence[tuple[Entry, SelectedImage]]) -> list[FoundReferrers]:
        """Find the referrers of images, and theirs. Images may share a result.

        Returns:
            What was found, for each image. Failures are kept in it: an image without its referrers is still an image.
        """
        ...

    def holds(self, digest: Digest) -> bool:
        """Return whether something is stored under a digest; it is no proof of its content."""
        ...
