"""Import: from an archive, whichever tool wrote it, into a layout."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mirror.content.store import Progress
from mirror.report.transfers import TransferReport
from mirror.stores.images import StoreImage
from mirror.stores.local import open_archive
from mirror.stores.location import Location
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.target import FILES_AT_ONCE, LayoutTarget


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How to import: `name` is what to call the one image that is imported."""

    name: str | None = None


async def import_archive(
    archive: Path | str,
    layout: Path | str,
    images: Sequence[str] = (),
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Read images from an archive into a layout, verifying every byte.

    What is there and right is not copied again, so a second call continues where the first was interrupted.

    Args:
        archive: the file, whichever tool wrote it; the text `-` is stdin.
        layout: the layout's directory, created if it does not exist.
        images: which images, with their referrers; all of them if none is named.
        options: how.
        progress: is told.

    Raises:
        UsageError: no such file or image, or a directory that is not a layout.
        ContentError: the archive, or something in it, is not what it should be; nothing of that was kept.
        StorageError: the disk is full or refused.
    """
    options, path = options or ImportOptions(), Path(layout)
    target = LayoutTarget(path, options.name)
    transfer = TransferOptions(referrers=bool(images), jobs=FILES_AT_ONCE)
    target.check(transfer.selection)
    async with AsyncExitStack() as stack:
        store = await open_archive(Location.archive(archive), stack, near=path)
        engine = Engine("import", store, target, transfer, progress)
        await engine.run(stack, target.place([StoreImage.of(entry) for entry in store.entries(images)], store.name))
    return engine.report()
