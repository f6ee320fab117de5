"""Layouts as the target of a transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from mirror.content.graph import Graph
from mirror.content.plan import Plan
from mirror.content.select import PlatformSelection, SelectedImage
from mirror.content.store import Sink
from mirror.content.wrappers import ReadOnlySink
from mirror.fs.directory import exists
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.layout.ingest import partial_name
from mirror.layout.refuse import refuse_foreign
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.platforms import INDEX
from mirror.retry import RetryPolicy
from mirror.stores.images import ImageStore
from mirror.transfer.held import HeldImage, merged
from mirror.transfer.held_referrers import HeldReferrers
from mirror.transfer.image import ImageTransfer, record
from mirror.transfer.target import FILES_AT_ONCE, ImageTarget


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
        self.near: Layout | None = None  # the same layout, for reading, if it existed before
        self._dry: ReadOnlySink | None = None
        self._unfinished: dict[str, int] = {}
        self._held = HeldReferrers(replace_tags=replace_images)
        self._owners: dict[str, ImageTransfer] = {}  # one image of each referrer, by the referrer's name

    def check(self, selection: PlatformSelection, stack: AsyncExitStack) -> None:
        if exists(self.path / "oci-layout"):
            self.near = stack.enter_context(Layout.open(self.path))
        else:
            refuse_foreign(self.path)

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        if dry_run:
            self._dry, self._unfinished = ReadOnlySink(self.near), self.near.unfinished() if self.near else {}
            return
        writing = LayoutWriter.writing(self.path, jobs=self._jobs, hard_links=self._hard_links, near=self.near)
        self.writer = await stack.enter_async_context(writing)

    async def select(
        self, store: ImageStore, image: ImageTransfer, selection: PlatformSelection, retry: RetryPolicy
    ) -> SelectedImage:
        """Walk the requested part of an image, and what the layout has of it, which is kept (docs/adr/0019)."""
        entry, before = image.at_source, self._existing.get(image.name)
        same = before is not None and before.root.digest == entry.root.digest
        whole = not entry.root.is_index or (selection.all and not store.is_local)
        layout = self._layout
        if layout is None or before is None or not before.reference or (same and whole):
            return await self._select(store, image, selection, retry)
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

    @property
    def _layout(self) -> Layout | None:
        return self.near or self.writer

    @cached_property
    def _existing(self) -> dict[str, Entry | None]:
        """The images that the layout had before the transfer, by name; the first of several, as `add` replaces it."""
        return {entry.name: entry for entry in reversed(self.near.entries())} if self.near else {}

    async def confirm(self, image: ImageTransfer, done: Callable[[], None]) -> None:
        if self.writer:
            referrers = image.referrers.arrived() if image.referrers else ()
            self.writer.when_written({image.name, *(task.name for task in referrers)}, done)

    async def finish(self, images: Sequence[ImageTransfer]) -> None:
        for image in images:
            if image.task:  # another part of the same published image does not replace it
                image.task.replaced = image.before

    async def look_up(self, store: ImageStore, image: ImageTransfer, retry: RetryPolicy, *, referrers: bool) -> None:
        """Keep the referrers that the layout has (docs/adr/0019)."""
        if not (referrers and image.referrers):
            return
        found, source = image.referrers.referrers, store.source(image.image)
        image.referrers.referrers = []
        for referrer in found:
            name = super().place_referrer(image, referrer.entry, referrer.graph)[1]
            before = self._existing.get(name)
            kept = await self._held.keep(self._layout, name, before, referrer, image.notes, source, retry)
            image.referrers.referrers += [kept] if kept else []

    def place_referrer(self, image: ImageTransfer, referrer: Entry, graph: Graph) -> tuple[Graph, str, Descriptor]:
        placed = super().place_referrer(image, referrer, graph)
        self._owners[placed[1]] = image
        if self.writer:
            self._expect(self.writer, placed[1])
        return placed

    def _expect(self, writer: LayoutWriter, name: str) -> None:
        """Have a name changed only if it stands for what it stood for. Other names than full ones are never changed."""
        before = self._existing.get(name)
        writer.expect(name, before if before and before.reference else None)

    async def conflicts(self, images: Sequence[ImageTransfer]) -> list[ImageTransfer]:
        found = await self.writer.conflicts() if self.writer else {}
        self._existing.update(found)
        self._held.forget()
        owners = {self._owners[name].name for name in found if name in self._owners}
        return [image for image in images if image.name in found or image.name in owners]

    def sink(self, image: ImageTransfer) -> Sink:
        if self.writer and not self._replace_images:
            self._expect(self.writer, image.name)
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
