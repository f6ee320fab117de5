"""The targets of transfers: layouts and archives; `mirror.transfer.registry_target` has registries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from mirror.archive.writer import ArchiveWriter, writing
from mirror.concurrency import available_cpus
from mirror.content import copy
from mirror.content.copy import Plan
from mirror.content.graph import Graph
from mirror.content.select import INDEX, Held, PlatformSelection, SelectedImage, select
from mirror.content.store import Sink
from mirror.content.wrappers import ReadOnlySink
from mirror.errors import UsageError
from mirror.fs.directory import Directory, exists
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.layout.ingest import partial_name
from mirror.layout.referrers import Referrer
from mirror.layout.writer import refuse_foreign
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference, is_tag
from mirror.report.transfers import DiskSpace
from mirror.retry import RetryPolicy
from mirror.stores.images import ImageStore, StoreImage
from mirror.transfer.docker_load import select_for_docker
from mirror.transfer.held import HeldImage, merged
from mirror.transfer.held_referrers import HeldReferrers
from mirror.transfer.image import ImageTransfer, name_images, record
from mirror.transfer.space import size_in_archive, space_for

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

    def check(self, selection: PlatformSelection) -> None:
        """Raise UsageError if the target cannot be written to, or the platforms do not fit, whatever the images are."""
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

    async def look_up(self, image: ImageTransfer, *, referrers: bool) -> None:
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

        Nothing in an archive is durable before the end of the transfer.
        """
        return

    async def finish(self, images: Sequence[ImageTransfer]) -> None:
        """Complete the transfer of images that have been copied."""
        return

    async def conflicts(self, images: Sequence[ImageTransfer]) -> list[ImageTransfer]:
        """Return the images whose names another process has given to something else since they were looked up."""
        return []

    def warnings(self, images: Sequence[ImageTransfer]) -> list[str]:
        """Return warnings about images that have been copied."""
        return [note for image in images for note in image.notes]


class LayoutTarget(ImageTarget):
    """A layout. `writer` is set once it is open for writing."""

    writer: LayoutWriter | None = None

    def __init__(
        self,
        path: Path,
        name: str | None = None,
        *,
        jobs: int = FILES_AT_ONCE,
        hard_links: bool = False,
        replace_images: bool = False,
    ) -> None:
        self.path, self.name, self._jobs, self._hard_links = path, name, jobs, hard_links
        self._replace_images = replace_images
        self.renames = name is not None
        self._dry: ReadOnlySink | None = None
        self._unfinished: dict[str, int] = {}
        self._held = HeldReferrers(path, replace_tags=replace_images)
        self._owners: dict[str, ImageTransfer] = {}  # one image of each referrer, by the referrer's name

    def check(self, selection: PlatformSelection) -> None:
        refuse_foreign(self.path)

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        if dry_run:
            layout = stack.enter_context(Layout.open(self.path)) if exists(self.path / "oci-layout") else None
            self._dry, self._unfinished = ReadOnlySink(layout), layout.unfinished() if layout else {}
            return
        writing = LayoutWriter.writing(self.path, jobs=self._jobs, hard_links=self._hard_links)
        self.writer = await stack.enter_async_context(writing)

    async def select(
        self, store: ImageStore, image: ImageTransfer, selection: PlatformSelection, retry: RetryPolicy
    ) -> SelectedImage:
        """Walk the requested part of an image, and what the layout has of it, which is kept (docs/adr/0019)."""
        entry, before = image.at_source, self._existing.get(image.name)
        same = before is not None and before.root.digest == entry.root.digest
        whole = not entry.root.is_index or (selection.all and not store.is_local)
        if before is None or not before.reference or (same and whole):
            return await self._select(store, image, selection, retry)
        with Layout(Directory.open(self.path)) as layout:  # without parsing its index.json for each image
            held = await HeldImage.read(layout, before)
            if self._replace_images:
                selected = await self._select(store, image, selection, retry)
            else:
                choice = replace(selection, sparse=selection.sparse or same)
                selected = await self._select(store, image, choice, retry, held.keeps)
                if store.is_local:
                    manifests = store.manifests(image.image)
                    root, selected = await merged(held, layout, manifests, store.name, entry, selected, retry)
                    selected = record(root, selected, store.holds)
        published = entry.root.annotations.get(INDEX, selected.published)
        if held.has_moved(published, [*selected.graph.children, selected.root]):
            image.before = before.root.digest
        requested = selection.wanted if entry.root.is_index and not selection.all else ()
        image.notes += held.notes(image.name, selected, requested, moved=image.before is not None)
        return selected

    @cached_property
    def _existing(self) -> dict[str, Entry | None]:
        """The images that the layout had before the transfer, by name."""
        if not exists(self.path / "oci-layout"):
            return {}
        with Layout.open(self.path) as layout:
            return {entry.name: entry for entry in layout.entries()}

    async def confirm(self, image: ImageTransfer, done: Callable[[], None]) -> None:
        if self.writer:
            self.writer.when_written(done)

    async def finish(self, images: Sequence[ImageTransfer]) -> None:
        for image in images:
            if image.task:  # another part of the same published image does not replace it
                image.task.replaced = image.before

    async def look_up(self, image: ImageTransfer, *, referrers: bool) -> None:
        """Keep the referrers that the layout has (docs/adr/0019)."""
        if not (referrers and image.referrers):
            return
        kept = [await self._kept(image, referrer) for referrer in image.referrers.referrers]
        image.referrers.referrers = [referrer for referrer in kept if referrer]

    async def _kept(self, image: ImageTransfer, referrer: Referrer) -> Referrer | None:
        """Return what is written of a referrer; None if what the layout has under its name stays."""
        name = super().place_referrer(image, referrer.entry, referrer.graph)[1]
        return await self._held.keep(name, self._existing.get(name), referrer, image.notes)

    def place_referrer(self, image: ImageTransfer, referrer: Entry, graph: Graph) -> tuple[Graph, str, Descriptor]:
        placed = super().place_referrer(image, referrer, graph)
        self._owners[placed[1]] = image
        if self.writer:
            self.writer.expect(placed[1], self._existing.get(placed[1]))
        return placed

    async def conflicts(self, images: Sequence[ImageTransfer]) -> list[ImageTransfer]:
        found = await self.writer.conflicts() if self.writer else {}
        self._existing.update(found)
        self._held.forget()
        owners = {self._owners[name].name for name in found if name in self._owners}
        return [image for image in images if image.name in found or image.name in owners]

    def sink(self, image: ImageTransfer) -> Sink:
        if self.writer and not self._replace_images:
            before = self._existing.get(image.name)
            self.writer.expect(image.name, before if before and before.reference else None)
        sink = self.writer or self._dry
        assert sink is not None, "opened before"
        return sink

    def prepare(self, plan: Plan, jobs: int, *, optional: bool) -> int:
        if not self._hard_links:
            size = self.writer.partial_size if self.writer else self._partial_size
            self._require(self.path, plan.size - sum(map(size, plan.missing)), dry_run=self.writer is None)
        return jobs

    def _partial_size(self, node: Descriptor) -> int:
        return min(self._unfinished.get(f".mirror/partial/{partial_name(node)}", 0), node.size)

    def lacking(self, plan: Plan) -> set[Digest]:
        """Return the copied blobs of images that the layout already had, but not completely."""
        copied, lacking = {node.digest for node in plan.missing}, set()
        for task in plan.tasks:
            before = self._existing.get(task.name)
            if before and before.root.digest == task.root.digest and not task.failure:
                nodes = (node for node in task.graph.nodes.values() if not before.lacks(node.descriptor))
                lacking |= copied & {link.digest for node in nodes for link in node.document.links}
        return lacking


class ArchiveTarget(ImageTarget):
    """An OCI archive; `-` is stdout."""

    for_docker = False

    def __init__(self, archive: Path | str, name: str | None = None) -> None:
        self.archive, self.name = archive, name
        self.renames = name is not None
        self._writer: ArchiveWriter | None = None

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        if not dry_run:
            self._writer = await stack.enter_async_context(writing(self.archive, for_docker=self.for_docker))

    def sink(self, image: ImageTransfer) -> Sink:
        return self._writer or _NOTHING

    def prepare(self, plan: Plan, jobs: int, *, optional: bool) -> int:
        if self.archive != "-":
            self._require(Path(self.archive), size_in_archive(copy.in_order(plan)), dry_run=self._writer is None)
        if not self._writer or optional:  # a blob that may fail must not get a position in the file in advance
            return 1
        return self._writer.arrange(copy.in_order(plan), jobs)


class DockerArchiveTarget(ArchiveTarget):
    """An archive for `docker load`: one platform of each image, by its full name, and no referrers."""

    for_docker = True
    takes_referrers = False

    def check(self, selection: PlatformSelection) -> None:
        if len(selection.platforms) > 1:
            message = "A docker-archive can contain only one platform of each image."
            raise UsageError(message, hint="An oci-archive can contain several.")

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        placed = super().place(images, where)
        for image in images:
            if not (image.reference or self.renames):
                raise UsageError(
                    f"{where} does not record the repository of {image.name!r}, and docker would make one up.",
                    hint="Export it alone, and give it a name: --as registry.internal/team/app:v1.",
                )
        return placed

    async def select(
        self, store: ImageStore, image: ImageTransfer, selection: PlatformSelection, retry: RetryPolicy
    ) -> SelectedImage:
        entry, manifests = image.at_source, store.manifests(image.image)
        present, platform = await store.present(entry), next(iter(selection.platforms), None)
        selected = await select_for_docker(manifests, entry, image.name, present, store.holds, platform, retry)
        return record(entry, selected, store.holds)

    def warnings(self, images: Sequence[ImageTransfer]) -> list[str]:
        untagged = [image.name for image in images if not Reference.parse(image.name).tag]
        return [f"{name} has no tag, so docker loads it without a name." for name in untagged]


_NOTHING = ReadOnlySink(None)
