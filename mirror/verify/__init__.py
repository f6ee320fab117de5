"""Verify: is every byte of this layout what its name says, and every link whole?

Nothing here is repaired, and nothing stops at the first fault: all findings come out of one run.

    `structure`  1. the layout's own files
                 2. from every image down, each manifest: there, right, parsed; what it names is noted with its size
    `content`    3. every blob that is named, and every other file below `blobs/`: hashed, on all cores, largest first
    `judge`      4. what was found, as findings

A layout can prove only that it agrees with itself. Whether it is what was published, a digest from elsewhere tells.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mirror.archive import ArchiveInventory
from mirror.content import Inventory, Progress, Silence
from mirror.layout.folder import exists, is_folder
from mirror.layout.inventory import FolderInventory
from mirror.report.findings import VerifyReport
from mirror.verify.content import hash_all
from mirror.verify.judge import judge
from mirror.verify.structure import Structure

__all__ = ["verify_layout"]


async def verify_layout(
    path: Path | str, images: Sequence[str] = (), *, progress: Progress | None = None, threads: int | None = None
) -> VerifyReport:
    """Verify a layout, or an archive of one: structure and content.

    Args:
        path: the layout's folder, or the file of an archive, in whichever form; it is only read.
        images: which images; where none is named, all of them, and everything else below `blobs/` too.
        progress: who wants to know how it goes.
        threads: how many files are hashed at once; one for each core where it is None.

    Returns:
        All findings. A broken layout is a finding, not an error.

    Raises:
        NotFound: there is no such folder or file, or no such image in it.
        BrokenArchive: the file is no archive of images.
        StorageError: the folder or the file itself cannot be read.
    """
    started = time.monotonic()
    with closing(await asyncio.to_thread(_open, Path(path))) as store:
        structure = Structure(store)
        await asyncio.to_thread(structure.survey, images)
        await hash_all(structure, threads or os.cpu_count() or 1, progress or Silence())
    findings = judge(structure)
    return VerifyReport(
        path=store.name,
        images=tuple(structure.images),
        findings=tuple(findings),
        files=sum(piece.files for piece in structure.pieces.values()),
        size=sum(piece.hashed for piece in structure.pieces.values()),
        seconds=time.monotonic() - started,
    )


def _open(path: Path) -> Inventory:
    return ArchiveInventory(path) if exists(path) and not is_folder(path) else FolderInventory(path)
