"""The interface for reading images from any store: a registry, a layout or an archive."""

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
    """An image of a store, before any of its content is read.

    `label` is its name in messages, as in the layout or as the user typed it. `entry` is None for images of registries,
    which have to be resolved first.
    """

    label: str
    reference: Reference | None
    entry: Entry | None = None

    @classmethod
    def of(cls, entry: Entry) -> StoreImage:
        return cls(entry.name, entry.reference, entry)

    @property
    def name(self) -> str:
        """The name of the image in another store, unless it is renamed."""
        if self.entry:
            return self.entry.name
        assert self.reference is not None, "an image without an entry has a reference"
        return self.reference.stored


class ImageStore(Protocol):
    """Images that can be read. `name` is the store's name in messages.

    `is_local`: finding the referrers of its images needs no network.
    """

    name: str
    is_local: bool

    def images(self, names: Sequence[str] = ()) -> list[StoreImage]:
        """Return the images called `names`; all images at the location if `names` is empty."""
        ...

    async def resolve(self, image: StoreImage) -> Entry:
        """Return the entry of an image: its root and names."""
        ...

    def manifests(self, image: StoreImage) -> Source:
        """Return the source of an image's manifests."""
        ...

    def source(self, image: StoreImage) -> Source:
        """Return the source of an image's blobs."""
        ...

    async def present(self, entry: Entry) -> Keep:
        """Return a predicate: which children of an image's indexes the store has."""
        ...

    async def referrers(self, images: Sequence[tuple[Entry, SelectedImage]]) -> list[FoundReferrers]:
        """Find the referrers of images, and the referrers of those; return a result for each image.

        Images may share one. It includes failures: an image without its referrers is still complete.
        """
        ...

    def holds(self, digest: Digest) -> bool:
        """Return whether something is stored under a digest, unverified."""
        ...
