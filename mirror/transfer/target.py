"""Where images go: into a layout or an archive. `mirror.transfer.registry_target` is the same for registries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from mirror.archive.writer import ArchiveWriter, writing
from mirror.concurrency import available_cpus
from mirror.content import copy
from mirror.content.copy import Plan
from mirror.content.select import PlatformSelection, SelectedImage, select
from mirror.content.store import Sink, Source
from mirror.content.wrappers import ReadOnlySink
from mirror.errors import UsageError
from mirror.fs.directory import exists
from mirror.layout import Layout, LayoutWriter
from mirror.layout.referrers import FoundReferrers
from mirror.layout.writer import refuse_foreign
from mirror.oci.digest import Digest
from mirror.report.transfers import check_free_space
from mirror.retry import RetryPolicy
from mirror.stores.images import ImageStore, StoreImage
from mirror.transfer.docker_load import check_names, select_for_docker, unnamed
from mirror.transfer.image import ImageTransfer, name_images, record
from mirror.transfer.referrers import ReferrerCopies

FILES_AT_ONCE = min(available_cpus() + 1, 4)  # blobs copied from file to file together: all cores hash, one waits


class ImageTarget(ABC):
    """A place that images are copied to. `name` is what the one image is to be called there, if the user says so."""

    takes_referrers = True
    takes_foreign = True
    renames = False

    def check(self, selection: PlatformSelection) -> None:
        """Check what can be checked without looking at an image.

        Raises:
            UsageError: the images cannot be copied this way.
        """
        return

    @abstractmethod
    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        """Decide what the images of the store `where` are called here.

        Raises:
            UsageError: a name is missing, or would stand for two images.
        """

    async def select(
        self,
        store: ImageStore,
        manifests: Source,
        image: ImageTransfer,
        selection: PlatformSelection,
        retry: RetryPolicy,
    ) -> SelectedImage:
        """Walk the part of an image that is to be copied.

        Raises:
            NotFound: a requested platform is not there.
            MirrorError: as `walk`.
        """
        entry, present = image.at_source, await store.present(image.at_source)
        selected = await select(manifests, entry.root, selection, image.image.label, retry, present)
        return record(entry, selected, store.holds if self.takes_foreign else lambda _: False)

    def referrers(self, image: ImageTransfer, found: FoundReferrers) -> ReferrerCopies:
        """Decide what the referrers of an image are called here: entries in the same repository as the image's."""
        renamed = image.name if image.name != image.at_source.name else None
        return ReferrerCopies.beside(image.copied, image.graph, renamed, found)

    @abstractmethod
    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        """Open the target; `stack` closes it. It is opened when the first image is to be copied, and not before."""

    @abstractmethod
    def sink(self, image: ImageTransfer) -> Sink:
        """Return where the content of an image goes."""

    def prepare(self, plan: Plan, jobs: int, *, optional: bool) -> int:
        """Get ready for a plan, of which `optional` tasks may fail.

        Returns:
            How many blobs may come at once, at most `jobs`.

        Raises:
            StorageError: there is not enough space.
        """
        return jobs

    async def finish(self, images: Sequence[ImageTransfer]) -> None:
        """Do what is left to do for images that have been copied."""
        return

    def warnings(self, images: Sequence[ImageTransfer]) -> list[str]:
        """Return what the user should know about these images, which have been copied."""
        return []


class LayoutTarget(ImageTarget):
    """A layout. `near` is the layout as it was found, for reading; `writer` is known once it is open."""

    writer: LayoutWriter | None = None

    def __init__(
        self, path: Path, name: str | None = None, *, jobs: int = FILES_AT_ONCE, hard_links: bool = False
    ) -> None:
        self.path, self.name, self._jobs, self._hard_links = path, name, jobs, hard_links
        self.renames = name is not None
        self.before: dict[str, Digest] = {}  # what the names stood for
        self._dry: ReadOnlySink | None = None

    def check(self, selection: PlatformSelection) -> None:
        refuse_foreign(self.path)

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        return name_images(images, self.name, where)

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        if dry_run:
            there = stack.enter_context(Layout.open(self.path)) if exists(self.path / "oci-layout") else None
            self._dry = ReadOnlySink(there)
            return
        writing = LayoutWriter.writing(self.path, jobs=self._jobs, hard_links=self._hard_links)
        self.writer = await stack.enter_async_context(writing)
        self.before = {entry.name: entry.root.digest for entry in self.writer.entries()}

    def sink(self, image: ImageTransfer) -> Sink:
        sink = self.writer or self._dry
        assert sink is not None, "opened before"
        return sink

    def prepare(self, plan: Plan, jobs: int, *, optional: bool) -> int:
        if self.writer and not self._hard_links:
            missing = plan.size - sum(map(self.writer.partial_size, plan.missing))
            check_free_space(self.path, self.writer.root.free(), missing)
        return jobs

    def lacking(self, plan: Plan) -> set[Digest]:
        """Return what images that the layout claimed to have did not have, after the plan has been carried out."""
        known = [task for task in plan.tasks if self.before.get(task.name) == task.root.digest and not task.failure]
        missing = {node.digest for node in plan.missing}
        return {digest for task in known for digest in task.graph.blobs if digest in missing}


class ArchiveTarget(ImageTarget):
    """An OCI archive: a layout in a tar archive. The text `-` is stdout."""

    for_docker = False

    def __init__(self, archive: Path | str, name: str | None = None) -> None:
        self.archive, self.name = archive, name
        self.renames = name is not None
        self._writer: ArchiveWriter | None = None

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        return name_images(images, self.name, where)

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        if not dry_run:
            self._writer = await stack.enter_async_context(writing(self.archive, for_docker=self.for_docker))

    def sink(self, image: ImageTransfer) -> Sink:
        return self._writer or _NOTHING

    def prepare(self, plan: Plan, jobs: int, *, optional: bool) -> int:
        if not self._writer or optional:  # what may fail must not have a place of its own
            return 1
        return self._writer.arrange(copy.in_order(plan), jobs)


class DockerArchiveTarget(ArchiveTarget):
    """An archive that docker loads: one platform of each image, by its full name, and no referrers."""

    for_docker = True
    takes_referrers = False

    def check(self, selection: PlatformSelection) -> None:
        if len(selection.platforms) > 1:
            raise UsageError("A docker-archive holds one platform of each image.", hint="An oci-archive holds several.")

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        placed = super().place(images, where)
        check_names(placed, where, given=self.renames)
        return placed

    async def select(
        self,
        store: ImageStore,
        manifests: Source,
        image: ImageTransfer,
        selection: PlatformSelection,
        retry: RetryPolicy,
    ) -> SelectedImage:
        entry, platform = image.at_source, next(iter(selection.platforms), None)
        present = await store.present(entry)
        selected = await select_for_docker(manifests, entry, image.name, present, platform, retry)
        return record(entry, selected, lambda _: False)

    def warnings(self, images: Sequence[ImageTransfer]) -> list[str]:
        return unnamed(images)


_NOTHING = ReadOnlySink(None)
