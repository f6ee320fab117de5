"""Import: from an archive, whoever wrote it, into a layout.

1. read the headers of the archive, and walk every image; nothing has moved yet
2. ask the layout for every blob, and the disk for room
3. copy: what is there and right is skipped, so a second call goes on where the first was cut
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mirror import copy
from mirror.archive import Archive
from mirror.archive.spool import spooled
from mirror.concurrency import each, in_thread
from mirror.content import Progress
from mirror.copy import Copy
from mirror.descriptor import Descriptor
from mirror.graph import Graph, leaves, walk
from mirror.layout import Entry, LayoutWriter, index
from mirror.layout import names as naming
from mirror.layout.writer import refuse_foreign
from mirror.report.transfers import Amount, Transferred, TransferReport, check_room, pinned
from mirror.retry import ONCE
from mirror.selection import platforms_there

_WALKS_AT_ONCE = 4
_JOBS = 4  # blobs at once: reading, hashing and writing keep several cores busy


@dataclass(frozen=True, slots=True)
class _Image:
    """One image on its way: what it is in the archive, what it is called in the layout, its root there."""

    entry: Entry
    name: str
    root: Descriptor
    graph: Graph
    platforms: tuple[str, ...]
    absent: int

    def warnings(self) -> Iterator[str]:
        """What a person should know of an archive that does not hold all that its index names."""
        if self.absent:
            there, all_of_them = len(self.graph.kept), len(self.graph.kept) + self.absent
            yield (
                f"{self.name}: the archive has {there} of the {all_of_them} manifests of its index; "
                "the others are recorded as absent."
            )


async def import_archive(
    archive: Path | str,
    layout: Path | str,
    images: Sequence[str] = (),
    *,
    name: str | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Read images from an archive into a layout, verifying every byte.

    Args:
        archive: the file, whichever tool wrote it; the text `-` is stdin.
        layout: the layout's folder; created where it is not there.
        images: which ones, all of them where none is named.
        name: what to call the one image that is imported.
        progress: who wants to know how it goes.

    Raises:
        UsageError: no such file or image, or a folder that is no layout.
        ContentError: the archive, or something in it, is not what it should be; nothing of that was kept.
        StorageError: the disk is full or refused.
    """
    started, path = time.monotonic(), Path(layout)
    refuse_foreign(path)
    with await _opened(archive, path) as source:
        wanted = index.called(source.find(images), name, str(source.path))
        found = await each(wanted, lambda image: _walk(source, *image), _WALKS_AT_ONCE)
        async with LayoutWriter.writing(path, jobs=_JOBS) as sink:
            copies = [Copy(source, sink, image.graph, image.name, image.root) for image in found]
            plan = await copy.survey(copies, jobs=_JOBS, retry=ONCE, progress=progress)
            check_room(path, sink.root.free(), plan.size - sum(map(sink.begun, plan.missing)))
            await copy.move(plan, jobs=_JOBS, retry=ONCE, progress=progress)
    return TransferReport(
        verb="import",
        images=tuple(_result(image, done) for image, done in zip(found, copies, strict=True)),
        moved=Amount.of(plan.missing),
        reused=Amount.of(plan.reused),
        seconds=time.monotonic() - started,
        healed=tuple(sorted(sink.damaged)),
        resumed=sink.resumed,
        aside=tuple(map(str, sink.aside)),
        warnings=tuple(text for image in found for text in image.warnings()),
    )


async def _opened(archive: Path | str, layout: Path) -> Archive:
    if archive == "-":
        tar = await spooled(sys.stdin.fileno(), layout)
        return await in_thread(lambda: Archive(tar))
    return await in_thread(lambda: Archive.open(Path(archive)))


async def _walk(source: Archive, name: str, entry: Entry) -> _Image:
    """Walk what is there of an image. Docker and containerd save an index whole, with the platforms that they have."""
    indexes = await leaves(source, entry.root)
    children = [child for node in indexes.nodes.values() for child in node.document.manifests if not child.is_index]
    lacking = {child.digest for child in children if not source.holds(child.digest)}
    some = any(child.digest not in lacking and not child.attests for child in children)

    def keep(child: Descriptor) -> bool:
        return not entry.lacks(child) and not (some and child.digest in lacking)

    graph = await walk(source, entry.root, keep=keep)
    for digest, layer in graph.foreign.items():
        if source.holds(digest):
            graph.blobs[digest] = layer
    sparse = {naming.SPARSE: ",".join(graph.kept)} if graph.absent else {}
    root = replace(entry.root, annotations={**entry.root.annotations, **sparse}, data=None)
    absent = [child for child in graph.absent.values() if not entry.lacks(child)]
    return _Image(entry, name, root, graph, await platforms_there(source, graph), len(absent))


def _result(image: _Image, done: Copy) -> Transferred:
    digest = image.root.digest
    return Transferred(image.entry.name, pinned(image.name, digest), digest, image.platforms, done.replaced)
