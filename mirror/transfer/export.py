"""Export: from a layout into an archive that docker, podman, skopeo and containerd read.

1. decide what each image is called, and for docker which platform of it goes; walk it
2. where some were chosen, find what refers to them
3. copy: blobs, manifests, indexes, the list of images last
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from mirror.archive.writer import writing
from mirror.concurrency import map_concurrently
from mirror.content.store import Progress
from mirror.layout import Entry, Layout, index
from mirror.layout.referrers import images_of
from mirror.oci.descriptor import Platform
from mirror.report.transfers import TransferReport
from mirror.transfer.attachments import ReferrerCopies
from mirror.transfer.docker_load import check_names, for_docker, remarks_on_names, stay_out
from mirror.transfer.outgoing import AT_ONCE, FILES_AT_ONCE, SelectedSourceImage, company, offer, transfer, whole


class ArchiveFormat(StrEnum):
    """What archives there are, called as skopeo and podman call them."""

    OCI = "oci-archive"
    DOCKER = "docker-archive"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    `platform` says which image of an index goes into a docker-archive, this host's where it is None; `name` is what to
    call the one image that is exported; `referrers`, whether what refers to the images goes with them.
    """

    format: ArchiveFormat = ArchiveFormat.OCI
    platform: Platform | None = None
    name: str | None = None
    referrers: bool = True


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
        images: which ones, and what refers to them; all of them where none is named.
        options: how.
        progress: who wants to know how it goes.

    Raises:
        UsageError: no such image or platform, no such layout, or an image that docker cannot load.
        ContentError: the layout is not what it should be. There is no archive then.
        StorageError: the disk refused, or nobody reads what is written.
    """
    options = options or ExportOptions()
    started = time.monotonic()
    for_them = options.format is ArchiveFormat.DOCKER
    with Layout.open(Path(layout)) as source:
        wanted = _named(source, images, options)
        offers = await map_concurrently(wanted, lambda one: offer(source, *one), AT_ONCE)
        choose = partial(for_docker, platform=options.platform) if for_them else whole
        found = await map_concurrently(offers, choose, AT_ONCE)
        others = await company(source, found) if options.referrers and (images or for_them) else []
        async with writing(archive, for_docker=for_them) as sink:
            warnings = [*remarks_on_names(found), *stay_out(found, others)] if for_them else _one_alone(found, others)
            report = await transfer(
                "export",
                found,
                sink,
                jobs=FILES_AT_ONCE,
                company=() if for_them else others,
                archive=sink,
                progress=progress,
                warnings=warnings,
            )
    return replace(report, seconds=time.monotonic() - started)


def _one_alone(found: Sequence[SelectedSourceImage], others: Sequence[ReferrerCopies]) -> list[str]:
    """What a person should know who wants to load one image, and does not get it alone."""
    along = sum(len(delivery.found) for delivery in others)
    if len(found) != 1 or not along:
        return []
    return [
        "podman and skopeo load an oci-archive with one entry, and what refers to the image has entries of its own: "
        "for them, export it with --no-referrers."
    ]


def _named(source: Layout, images: Sequence[str], options: ExportOptions) -> list[tuple[str, Entry]]:
    """What to export, and what to call it, in the order of the layout: that in which it is asked for does not show.

    Raises:
        UsageError: a name is missing, or stands for two images.
    """
    entries = source.find(images)
    if not images and (options.format is ArchiveFormat.DOCKER or not options.referrers):
        entries = images_of(entries)
    chosen = index.called(entries, options.name, str(source.path))
    if options.format is ArchiveFormat.DOCKER:
        check_names(chosen, str(source.path), given=options.name is not None)
    places = {entry: place for place, entry in enumerate(source.entries())}
    return sorted(chosen, key=lambda pair: places[pair[1]])
