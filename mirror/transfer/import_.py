"""Import: from an archive of any tool into a layout."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from mirror.content.store import Progress
from mirror.report.transfers import TransferReport
from mirror.stores.images import StoreImage
from mirror.stores.local import open_local
from mirror.stores.location import Location, Transport
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.layout_target import LayoutTarget
from mirror.transfer.referrers import left_out
from mirror.transfer.target import FILES_AT_ONCE


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options for importing.

    Attributes:
        name: the new name of the one image that is imported.
        replace: drop the platforms that the layout has of an image, and that the archive lacks.
    """

    name: str | None = None
    replace: bool = False


async def import_archive(
    archive: Path | str,
    layout: Path | str,
    images: Sequence[str] = (),
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Read images from an archive into a layout, verifying every byte.

    Blobs that the layout already has are not copied again, so a second call continues where the first was interrupted.

    Args:
        archive: the file, of either format; `-` is stdin.
        layout: the layout's directory, created if it does not exist.
        images: which images, with their referrers; everything in the archive if empty.
        options: how to import.
        progress: is told about the progress.

    Raises:
        UsageError: the file or an image does not exist, or the directory is not a layout.
        ContentError: the archive is broken, or content does not match its digest; none of it was kept.
        StorageError: the disk is full or refused.
    """
    options, path = options or ImportOptions(), Location.of_kind(layout, Transport.LAYOUT).directory
    location = Location.of_kind(archive, Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE)
    target = LayoutTarget(path, options.name, replace_images=options.replace)
    transfer = TransferOptions(referrers=bool(images or options.name), jobs=FILES_AT_ONCE)
    async with AsyncExitStack() as stack:
        target.check(transfer.selection, stack)
        store = await open_local(location, stack, near=path)
        engine = Engine("import", store, target, transfer, progress)
        everything = [StoreImage.of(entry) for entry in store.entries(images)]
        chosen = store.images() if options.name and not images else everything
        await engine.run(stack, target.place(chosen, store.name))
        warnings = left_out(store, engine.referring) if options.name and not images else []
    report = engine.report()
    return replace(report, warnings=(*report.warnings, *warnings))
