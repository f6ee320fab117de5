"""Export: from a layout into an archive that docker, podman, skopeo and containerd read.

1. decide what each image is called, and for docker which platform of it goes; walk it
2. copy: blobs, manifests, indexes, the list of images last
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mirror import copy, platforms
from mirror.archive import ArchiveWriter
from mirror.archive.docker import diff_ids_of
from mirror.concurrency import each
from mirror.content import Progress
from mirror.copy import Copy
from mirror.descriptor import Descriptor, Platform
from mirror.errors import InvalidContent, UsageError
from mirror.graph import Graph, leaves, walk
from mirror.image import platform_of, read_config
from mirror.layout import Entry, Layout, index
from mirror.layout import names as naming
from mirror.reference import Reference
from mirror.report.transfers import Amount, Transferred, TransferReport, pinned
from mirror.retry import ONCE
from mirror.selection import INDEX, platforms_there

_AT_ONCE = 4  # images walked together


class Format(StrEnum):
    """What archives there are, called as skopeo and podman call them."""

    OCI = "oci-archive"
    DOCKER = "docker-archive"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    `platform` says which image of an index goes into a docker-archive, this host's where it is None; `name` is what to
    call the one image that is exported.
    """

    format: Format = Format.OCI
    platform: Platform | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class _Image:
    """One image on its way: what it is in the layout, what it is called in the archive, its root there."""

    entry: Entry
    name: str
    root: Descriptor
    graph: Graph
    platforms: tuple[str, ...]

    def result(self) -> Transferred:
        digest = self.root.digest
        return Transferred(self.entry.name, pinned(self.name, digest), digest, self.platforms)


async def export_layout(
    layout: Path | str,
    archive: Path | str,
    images: Sequence[str] = (),
    options: ExportOptions | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Write images of a layout to an archive, verifying every byte on its way.

    Args:
        layout: the layout's folder; it is only read.
        archive: the file; the text `-` is stdout.
        images: which ones, all of them where none is named.
        options: how.
        progress: who wants to know how it goes.

    Raises:
        UsageError: no such image or platform, no such layout, or an image that docker cannot load.
        ContentError: the layout is not what it should be. There is no archive then.
        StorageError: the disk refused, or nobody reads what is written.
    """
    options = options or ExportOptions()
    started = time.monotonic()
    with Layout.open(Path(layout)) as source:
        wanted = _named(source, images, options)
        choose = _for_docker if options.format is Format.DOCKER else _whole
        found = await each(wanted, lambda image: choose(source, *image, options.platform), _AT_ONCE)
        async with _writing(archive, options) as sink:
            copies = [Copy(source, sink, image.graph, image.name, image.root) for image in found]
            plan = await copy.survey(copies, jobs=1, retry=ONCE, progress=progress)
            await copy.move(plan, jobs=1, retry=ONCE, progress=progress)
    return TransferReport(
        verb="export",
        images=tuple(image.result() for image in found),
        moved=Amount.of(plan.missing),
        reused=Amount(),
        seconds=time.monotonic() - started,
        warnings=tuple(
            f"{image.name} has no tag, so docker loads it without a name."
            for image in found
            if options.format is Format.DOCKER and not Reference.parse(image.name).tag
        ),
    )


def _named(source: Layout, images: Sequence[str], options: ExportOptions) -> list[tuple[str, Entry]]:
    """What to export, and what to call it, in the order of the layout: that in which it is asked for does not show.

    Raises:
        UsageError: a name is missing, or stands for two images.
    """
    chosen = index.called(source.find(images), options.name, str(source.path))
    for name, entry in chosen:
        if options.format is Format.DOCKER and not (entry.reference or options.name):
            raise UsageError(
                f"The layout does not say which repository {name!r} is from, and docker would make one up.",
                hint="Export it alone, and say what to call it: --as registry.internal/team/app:v1.",
            )
    places = {entry: place for place, entry in enumerate(source.entries())}
    return sorted(chosen, key=lambda pair: places[pair[1]])


async def _whole(source: Layout, name: str, entry: Entry, _: Platform | None) -> _Image:
    """An image as it is in the layout; foreign layers too, where they are there."""
    graph = await walk(source, entry.root, keep=lambda child: not entry.lacks(child))
    for digest, layer in graph.foreign.items():
        if source.blobs.size(digest) is not None:
            graph.blobs[digest] = layer
    return _Image(entry, name, entry.root, graph, await platforms_there(source, graph))


async def _for_docker(source: Layout, name: str, entry: Entry, platform: Platform | None) -> _Image:
    """The one image of it that docker is going to load.

    Raises:
        NotFound: there is none for this platform.
        UsageError: docker cannot load it.
    """
    chosen = await _choose(source, entry, platform)
    graph = await walk(source, chosen)
    image = graph.nodes[chosen.digest]
    config = await read_config(source, image)
    if config is None or graph.foreign:
        what = "has layers that live elsewhere" if config else "is no image"
        raise UsageError(f"{name} {what}, so docker cannot load it.", hint="Export it with --format oci-archive.")
    layers, diff_ids = image.document.layers, diff_ids_of(config, f"the config of {name}")
    if len(layers) != len(diff_ids):
        raise InvalidContent(f"{name} has {len(layers)} layers, and {len(diff_ids)} diff_ids in its config.")
    offered = chosen.platform or platform_of(config)
    if platform and not platforms.fits(platform, offered):
        raise platforms.absent(platform, [offered], name)
    kept = {key: text for key, text in entry.root.annotations.items() if key != naming.SPARSE}
    if chosen.digest != entry.root.digest:
        kept[INDEX] = entry.root.digest
    root = replace(chosen, annotations=kept)
    return _Image(entry, name, root, graph, (str(offered),) if offered else ())


async def _choose(source: Layout, entry: Entry, platform: Platform | None) -> Descriptor:
    """The manifest for a platform: of several, this host's where none is named."""
    if not entry.root.is_index:
        return entry.root
    indexes = await leaves(source, entry.root)
    children = [child for node in indexes.nodes.values() for child in node.document.manifests]
    there = [child for child in children if not (child.is_index or child.attests or entry.lacks(child))]
    if len(there) == 1 and not platform:
        return there[0]
    return platforms.select(there, [platform or Platform.host()], entry.name)[0]


def _writing(archive: Path | str, options: ExportOptions) -> AbstractAsyncContextManager[ArchiveWriter]:
    for_docker = options.format is Format.DOCKER
    if archive == "-":
        return ArchiveWriter.to_pipe(sys.stdout.fileno(), for_docker=for_docker)
    return ArchiveWriter.to_file(Path(archive), for_docker=for_docker)
