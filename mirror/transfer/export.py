"""Export: from a layout into an archive that docker, podman, skopeo and containerd read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mirror.content.select import PlatformSelection
from mirror.content.store import Progress
from mirror.oci.descriptor import Platform
from mirror.report.transfers import TransferReport
from mirror.stores.images import StoreImage
from mirror.stores.local import LocalImages, open_local
from mirror.stores.location import Location, Transport
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.target import FILES_AT_ONCE, ArchiveTarget, DockerArchiveTarget


class ArchiveFormat(StrEnum):
    """The kinds of archives, called as skopeo and podman call them."""

    OCI = "oci-archive"
    DOCKER = "docker-archive"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export.

    `platform`: which image of an index goes into a docker-archive; None: this host's. `name`: what to call the one
    image that is exported. `referrers`: whether to export the referrers of the images too.
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
    """Write images of a layout to an archive, verifying every byte.

    Args:
        layout: the layout's directory; it is only read.
        archive: the file; the text `-` is stdout.
        images: which images, with their referrers; everything if none is named.
        options: how.
        progress: is told.

    Raises:
        UsageError: no such image, platform or layout, or an image that docker cannot load.
        ContentError: the layout is not what it should be. There is no archive then.
        StorageError: the disk refused, or the reader of the pipe has gone.
    """
    options = options or ExportOptions()
    for_docker = options.format is ArchiveFormat.DOCKER
    target = DockerArchiveTarget(archive, options.name) if for_docker else ArchiveTarget(archive, options.name)
    transfer = TransferOptions(
        selection=PlatformSelection((options.platform,) if options.platform else (), all=not options.platform),
        referrers=options.referrers and bool(images or for_docker),
        jobs=FILES_AT_ONCE,
    )
    async with AsyncExitStack() as stack:
        store = await open_local(Location(Transport.LAYOUT, str(layout)), stack)
        engine = Engine("export", store, target, transfer, progress)
        heads_only = for_docker or not options.referrers
        await engine.run(stack, target.place(_chosen(store, images, heads_only=heads_only), store.name))
    report = engine.report()
    return replace(report, warnings=(*report.warnings, *_loadable_alone(report)))


def _chosen(store: LocalImages, images: Sequence[str], *, heads_only: bool) -> list[StoreImage]:
    """Return the images in the order of the layout: the order of the request does not show in the archive."""
    chosen = store.images() if heads_only and not images else [StoreImage.of(one) for one in store.entries(images)]
    positions = {entry: position for position, entry in enumerate(store.store.entries())}
    return sorted(chosen, key=lambda image: positions[image.entry] if image.entry else 0)


def _loadable_alone(report: TransferReport) -> list[str]:
    """Return a warning for a user who wants to load one image, and does not get it alone."""
    if len(report.images) != 1 or not (report.images[0].referrers and report.images[0].referrers.count):
        return []
    return [
        "podman and skopeo load only an oci-archive with one entry, and each referrer of the image is another entry. "
        "To load it with them, export it with --no-referrers."
    ]
