"""Import: from an archive, whoever wrote it, into a layout.

1. read the headers of the archive, walk every image, and what refers to those that were chosen; nothing has moved yet
2. ask the layout for every blob, and the disk for room
3. copy: what is there and right is skipped, so a second call goes on where the first was cut
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mirror.archive.spool import opened
from mirror.concurrency import map_concurrently
from mirror.content.store import Progress
from mirror.layout import LayoutWriter, index
from mirror.layout.writer import refuse_foreign
from mirror.report.transfers import TransferReport
from mirror.transfer.outgoing import AT_ONCE, FILES_AT_ONCE, company, offer, transfer, whole


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
        images: which ones, and what refers to them; all of them where none is named.
        name: what to call the one image that is imported.
        progress: who wants to know how it goes.

    Raises:
        UsageError: no such file or image, or a folder that is no layout.
        ContentError: the archive, or something in it, is not what it should be; nothing of that was kept.
        StorageError: the disk is full or refused.
    """
    started, path = time.monotonic(), Path(layout)
    refuse_foreign(path)
    with await opened(archive, path) as source:
        wanted = index.called(source.find(images), name, str(source.path))
        offers = await map_concurrently(wanted, lambda one: offer(source, *one), AT_ONCE)
        found = await map_concurrently(offers, whole, AT_ONCE)
        others = await company(source, found) if images else ()
        async with LayoutWriter.writing(path, jobs=FILES_AT_ONCE) as sink:
            report = await transfer(
                "import",
                found,
                sink,
                jobs=FILES_AT_ONCE,
                company=others,
                layout=sink,
                progress=progress,
                warnings=[text for image in found for text in image.warnings("the archive")],
            )
    return replace(report, seconds=time.monotonic() - started)
