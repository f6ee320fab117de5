"""The store that images are copied to, as a transfer uses it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from mirror.concurrency import available_cpus
from mirror.content.graph import Graph
from mirror.content.plan import Plan
from mirror.content.select import Held, PlatformSelection, SelectedImage, select
from mirror.content.store import Sink
from mirror.layout import Entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.reference import Reference, is_tag
from mirror.report.transfers import DiskSpace
from mirror.retry import RetryPolicy
from mirror.stores.images import ImageStore, StoreImage
from mirror.transfer.image import ImageTransfer, name_images, record
from mirror.transfer.space import space_for

FILES_AT_ONCE = min(available_cpus() + 1, 4)  # blobs copied from file to file: one per core, and one that waits for I/O


class ImageTarget(ABC):
    """A store that images are copied to.

    `takes_referrers`, `takes_foreign`: it can hold referrers, and foreign layers. `subjects_first`: it may refuse a
    referrer before its subject is there. `renames`: images may get new names. `name` is the new name of the one image,
    if any. `disk` is the space that all plans so far need, of a dry run.
    """

    name: str | None = None
    disk: DiskSpace | None = None
    takes_referrers = True
    takes_foreign = True
    subjects_first = False
    renames = False

    def check(self, selection: PlatformSelection, stack: AsyncExitStack) -> None:
        """Raise UsageError if the target cannot be written to, or the platforms do not fit, whatever the images are.

        What this opens for reading, `stack` closes.
        """
        return

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        """Name the images of the store `where` at the target; raise UsageError if a name is missing or used twice."""
        return name_images(images, self.name, where)

    async def select(
        self, store: ImageStore, image: ImageTransfer, selection: PlatformSelection, retry: RetryPolicy
    ) -> SelectedImage:
        """Walk the part of an image that is to be copied."""
        return await self._select(store, image, selection, retry)

    async def _select(
        self,
        store: ImageStore,
        image: ImageTransfer,
        selection: PlatformSelection,
        retry: RetryPolicy,
        held: Held | None = None,
    ) -> SelectedImage:
        """Walk an image. An index whose digest is part of the image's name in a layout or an archive is kept."""
        entry, manifests, reference = image.at_source, store.manifests(image.image), image.image.reference
        present = await store.present(entry)
        pinned = image.place is None and reference is not None and reference.digest == entry.root.digest
        choice = replace(selection, sparse=True) if pinned else selection
        selected = await select(manifests, entry.root, choice, image.image.label, retry, present, held)
        if pinned and selected.graph.absent and not (selection.sparse or selection.all):
            image.notes.append(
                f"{image.image.label}: the digest is that of an index, so the index is kept, with "
                f"{', '.join(selected.platforms)} only. To push it to a registry that requires all platforms, "
                "transfer it with --all-platforms."
            )
        return record(entry, selected, store.holds if self.takes_foreign else lambda _: False)

    def place_referrer(self, image: ImageTransfer, referrer: Entry, graph: Graph) -> tuple[Graph, str, Descriptor]:
        """Return the part of a referrer that is copied, its name at the target, and its root.

        It keeps its tag. If the image is renamed, it moves to the image's new repository, if that has a name.
        """
        name = referrer.name
        if referrer.tag and not is_tag(image.name) and image.name != image.at_source.name:
            name = f"{Reference.parse(image.name).name}:{referrer.tag}"
        return graph, name, referrer.root

    def is_unique(self, name: str, root: Descriptor) -> bool:
        """Return whether `name`, the name of a referrer at the target, can stand for one referrer only."""
        return not Entry.of(root).shares(name)

    async def look_up(self, store: ImageStore, image: ImageTransfer, retry: RetryPolicy, *, referrers: bool) -> None:
        """Find out what the names of an image, and of its `referrers`, stand for at the target before the copy.

        Raise UsageError if they must not be overwritten.
        """
        return

    @abstractmethod
    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        """Open the target when the first image is about to be copied; `stack` closes it."""

    @abstractmethod
    def sink(self, image: ImageTransfer) -> Sink:
        """Return the sink for the content of an image."""

    def prepare(self, plan: Plan, jobs: int, *, optional: bool) -> int:
        """Prepare to carry out a plan, and return how many blobs may be copied at once, at most `jobs`.

        `optional`: it contains tasks that may fail. Raise StorageError if there is not enough space.
        """
        return jobs

    def _require(self, path: Path, needed: int, *, dry_run: bool) -> None:
        """Raise StorageError if there is not enough space for a plan. A dry run adds it to what is needed in total."""
        if dry_run:
            self.disk = space_for(path, needed + (self.disk.needed if self.disk else 0))
        else:
            space_for(path, needed).check()

    async def before_name(self, image: ImageTransfer) -> None:
        """Write what must be there before the name of an image, and needs its manifests and its referrers."""
        return

    async def confirm(self, image: ImageTransfer, done: Callable[[], None]) -> None:
        """Call `done` once an image that has just been named is durable, before `finish` or after it.

        It is not called for an image that is in `conflicts`: its name stands for something else. Nothing in an archive
        is durable before the end of the transfer.
        """
        return

    async def finish(self, images: Sequence[ImageTransfer]) -> None:
        """Complete the transfer of images that have been copied."""
        return

    async def conflicts(self, images: Sequence[ImageTransfer]) -> list[ImageTransfer]:
        """Return the images whose names another process has given to something else since they were looked up."""
        return []

    def warnings(self, image: ImageTransfer) -> list[str]:
        """Return warnings about an image that has been copied."""
        return image.notes
