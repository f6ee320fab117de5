"""Images that leave a store, and how they get to another one. Exports, imports and copies are the same three steps:

1. which part of each image goes, and what it is called on the other side: `whole`, `some` platforms, or what docker
   loads (`mirror.transfer.docker_load`)
2. ask the other side for every blob, and its disk for room
3. copy
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mirror.archive.writer import ArchiveWriter
from mirror.concurrency import available_cpus
from mirror.content import copy
from mirror.content.copy import CopyTask
from mirror.content.graph import Graph, Keep, walk
from mirror.content.select import INDEX, PlatformSelection, platforms_there, select
from mirror.content.store import Progress, Sink, Source
from mirror.layout import Entry, LayoutWriter
from mirror.layout import names as naming
from mirror.layout.referrers import LayoutReferrers, about_others
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.report.transfers import Amount, Transferred, TransferReport, check_room, pinned
from mirror.retry import ONCE, RetryPolicy
from mirror.transfer.attachments import ReferrerCopies

AT_ONCE = 4  # images walked together
FILES_AT_ONCE = min(available_cpus() + 1, 4)  # blobs that go from file to file together: all cores hash, one waits


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image that a store has. `there` says which children of its indexes are there; `holds`, which foreign layers.

    `name` is what it is going to be called; `place` says the same of a repository.
    """

    source: Source
    entry: Entry
    name: str
    there: Keep
    holds: Callable[[Digest], bool]
    place: Reference | None = None


@dataclass(frozen=True, slots=True)
class SelectedSourceImage:
    """An image of which it is known what goes: the root that it is going to have, and all below it."""

    offer: SourceImage
    root: Descriptor
    graph: Graph
    platforms: tuple[str, ...]

    @property
    def entry(self) -> Entry:
        """The entry of the image, with the root that goes."""
        return replace(self.offer.entry, root=self.root)

    @property
    def renamed(self) -> str | None:
        """Another name than it has in its store."""
        return self.offer.name if self.offer.name != self.offer.entry.name else None

    def to(self, sink: Sink) -> CopyTask:
        place = self.offer.place
        return CopyTask(self.offer.source, sink, self.graph, place.target if place else self.offer.name, self.root)

    def result(self, done: CopyTask, others: ReferrerCopies | None, referring: int) -> Transferred:
        """What was done; `referring` of its manifests are about another image that goes."""
        digest, place = self.root.digest, self.offer.place
        line = place.pinned(digest) if place else pinned(self.offer.name, digest)
        about = others.result() if others else None
        name, platforms = self.offer.entry.name, self.platforms
        return Transferred(name, line, digest, platforms, done.replaced, referrers=about, referring=referring)

    def warnings(self, where: str) -> list[str]:
        """What a person should know of an image that `where` holds a part of."""
        absent = [child for child in self.graph.absent.values() if not self.offer.entry.lacks(child)]
        if not absent or not self.root.is_index:
            return []
        there = len(self.graph.kept)
        return [
            f"{self.offer.name}: {where} has {there} of the {there + len(absent)} manifests of its index; "
            "the others are recorded as absent."
        ]


class Store(Source, Protocol):
    """Somewhere with several images, that knows what it has: a layout, an archive."""

    def entries(self) -> list[Entry]: ...
    def holds(self, digest: Digest) -> bool: ...
    async def there(self, entry: Entry) -> Keep: ...


async def offer(source: Store, name: str, entry: Entry, place: Reference | None = None) -> SourceImage:
    """An image of a store, to be called `name` on the other side.

    Raises:
        MirrorError: an index cannot be read.
    """
    return SourceImage(source, entry, name, await source.there(entry), source.holds, place)


async def whole(offered: SourceImage, retry: RetryPolicy = ONCE) -> SelectedSourceImage:
    """An image as it is there; foreign layers too, where they are.

    Raises:
        MirrorError: as `walk`.
    """
    source, entry = offered.source, offered.entry
    graph = _with_foreign(await walk(source, entry.root, keep=offered.there, retry=retry), offered)
    graph.check_hashable()
    root = replace(entry.root, annotations=noted(entry, graph), data=None)
    return SelectedSourceImage(offered, root, graph, await platforms_there(source, graph))


async def some(offered: SourceImage, choice: PlatformSelection, retry: RetryPolicy = ONCE) -> SelectedSourceImage:
    """Some platforms of it.

    Raises:
        NotFound: one of them is not there.
        MirrorError: as `walk`.
    """
    source, entry = offered.source, offered.entry
    found = await select(source, entry.root, choice, entry.name, retry, offered.there)
    graph = _with_foreign(found.graph, offered)
    annotations = noted(entry, graph)
    if found.root.digest != found.published:
        annotations[INDEX] = found.published
    return SelectedSourceImage(offered, replace(found.root, annotations=annotations), graph, found.platforms)


async def company(source: Store, images: Sequence[SelectedSourceImage]) -> list[ReferrerCopies]:
    """What refers to each of these images, to go with it."""
    known = LayoutReferrers(source, source.entries())
    return [
        ReferrerCopies.beside(image.entry, image.graph, image.renamed, await known.of(image.entry, image.graph))
        for image in images
    ]


def _with_foreign(graph: Graph, offered: SourceImage) -> Graph:
    for digest, layer in graph.foreign.items():
        if offered.holds(digest):
            graph.blobs[digest] = layer
    return graph


def noted(entry: Entry, graph: Graph) -> dict[str, str]:
    """The annotations of an entry, with what is absent from it now."""
    ours = (naming.SPARSE, naming.FOREIGN)
    annotations = {key: text for key, text in entry.root.annotations.items() if key not in ours}
    if graph.absent:
        annotations[naming.SPARSE] = ",".join(graph.kept)
    if left := graph.foreign.keys() - graph.blobs.keys():
        annotations[naming.FOREIGN] = ",".join(sorted(left))
    return annotations


async def transfer(
    verb: str,
    images: Sequence[SelectedSourceImage],
    sink: Sink,
    *,
    jobs: int,
    company: Sequence[ReferrerCopies | None] = (),
    layout: LayoutWriter | None = None,
    archive: ArchiveWriter | None = None,
    room: bool = True,
    retry: RetryPolicy = ONCE,
    progress: Progress | None = None,
    dry_run: bool = False,
    warnings: Sequence[str] = (),
) -> TransferReport:
    """Steps 2 and 3.

    Args:
        verb: what it is called.
        images: what goes.
        sink: where they go.
        jobs: how many blobs at once.
        company: what goes along with each of them, and is counted in its result.
        layout: the sink, where it is a layout.
        archive: the sink, where it is an archive. One blob at a time goes to a pipe, and where some may fail.
        room: whether it takes room there.
        retry: how stubborn to be.
        progress: who wants to know how it goes.
        dry_run: whether to stop before anything is written.
        warnings: what a person should know besides.

    Raises:
        MirrorError: as `mirror.content.copy.execute`; or there is no room.
    """
    started = time.monotonic()
    copies, along = [image.to(sink) for image in images], dict[tuple[int, str], CopyTask]()
    company = company or [None] * len(images)
    for image, others in zip(images, company, strict=True):
        if others:
            others.to(image.offer.source, sink, along)
    # What refers to an image goes first, so that a tag that moves is signed already.
    plan = await copy.plan([*along.values(), *copies], jobs=jobs, retry=retry, progress=progress)
    if layout and room:
        check_room(layout.path, layout.root.free(), plan.size - sum(map(layout.partial_size, plan.missing)))
    if archive:
        jobs = 1 if along else archive.arrange(copy.in_order(plan), jobs)
    if not dry_run:
        await copy.execute(plan, jobs=jobs, retry=retry, progress=progress)
    referring = about_others((image.offer.entry, image.graph) for image in images)
    return TransferReport(
        verb=verb,
        images=tuple(
            image.result(done, others, referring.get(image.offer.entry.name, 0))
            for image, done, others in zip(images, copies, company, strict=True)
        ),
        moved=Amount.of(plan.missing),
        reused=Amount.of(plan.reused),
        seconds=time.monotonic() - started,
        dry_run=dry_run,
        healed=tuple(sorted(layout.damaged)) if layout else (),
        resumed=layout.resumed if layout else 0,
        aside=tuple(map(str, layout.aside)) if layout else (),
        warnings=tuple(warnings),
    )
