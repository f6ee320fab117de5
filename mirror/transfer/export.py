"""Export: from a layout to an archive that docker, podman, skopeo and containerd read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from mirror.content.select import PlatformSelection
from mirror.content.store import Progress
from mirror.report.transfers import TransferReport
from mirror.stores.images import StoreImage
from mirror.stores.local import open_local
from mirror.stores.location import Location, Transport
from mirror.stores.outputs import refuse_overwrite
from mirror.transfer.archive_target import ArchiveTarget, DockerArchiveTarget
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.referrers import left_out
from mirror.transfer.target import FILES_AT_ONCE


class ArchiveFormat(StrEnum):
    """The kinds of archives, named as in skopeo and podman."""

    OCI = "oci-archive"
    DOCKER = "docker-archive"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Options for exporting.

    Attributes:
        format: the kind of archive.
        platforms: which platforms; all by default. A docker-archive has only one: this host's by default.
        name: the new name of the one image that is exported.
        referrers: export the referrers of the images too.
    """

    format: ArchiveFormat = ArchiveFormat.OCI
    platforms: PlatformSelection = field(default_factory=lambda: PlatformSelection(all=True))
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
        archive: the file; `-` is stdout.
        images: which images, with their referrers; everything in the layout if empty.
        options: how to export.
        progress: is told about the progress.

    Raises:
        UsageError: an image, a platform or the layout does not exist, or docker cannot load an image.
        ContentError: the layout is broken; no archive was written.
        StorageError: the disk refused, or the reader of the pipe has exited.
    """
    options = options or ExportOptions()
    for_docker = options.format is ArchiveFormat.DOCKER
    file = Location.of_kind(archive, Transport(options.format)).where
    source = Location.of_kind(layout, Transport.LAYOUT)
    refuse_overwrite(file, [source.where])
    target = DockerArchiveTarget(file, options.name) if for_docker else ArchiveTarget(file, options.name)
    with_referrers = options.referrers and bool(images or for_docker or options.name)
    transfer = TransferOptions(selection=options.platforms, referrers=with_referrers, jobs=FILES_AT_ONCE)
    async with AsyncExitStack() as stack:
        target.check(options.platforms, stack)
        store = await open_local(source, stack)
        if not images and (for_docker or options.name or not options.referrers):
            chosen = store.images()  # without entries that refer to others
        else:
            chosen = [StoreImage.of(entry) for entry in store.entries(images)]
        # In the order of the layout, so that the bytes of the archive do not depend on the order of the arguments.
        positions = {entry: position for position, entry in enumerate(store.known())}
        chosen.sort(key=lambda image: positions[image.entry] if image.entry else 0)
        engine = Engine("export", store, target, transfer, progress)
        await engine.run(stack, target.place(chosen, store.name))
        warnings = left_out(store, engine.referring) if with_referrers and not (images or for_docker) else []
    report = engine.report()
    report = replace(report, warnings=(*report.warnings, *warnings))
    if len(report.images) != 1 or not (report.images[0].referrers and report.images[0].referrers.count):
        return report
    warning = (
        "podman and skopeo load only an oci-archive with one entry, and each referrer of the image is another entry. "
        "To load it with them, export it with --no-referrers."
    )
    return replace(report, warnings=(*report.warnings, warning))
