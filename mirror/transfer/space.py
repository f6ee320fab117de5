"""The disk space that a transfer needs, compared with what is free before anything is written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mirror.archive.member_writer import length
from mirror.fs.directory import Directory, is_directory
from mirror.oci.descriptor import Descriptor
from mirror.report.transfers import DiskSpace


def space_for(path: Path, needed: int) -> DiskSpace:
    """Return the free space at a path, which need not exist: that of the nearest directory above it."""
    nearest = next(folder for folder in (path, *path.absolute().parents) if is_directory(folder))
    with Directory.open(nearest) as directory:
        return DiskSpace(str(path), needed, directory.free())


def size_in_archive(nodes: Iterable[Descriptor]) -> int:
    """Return the bytes of the members of an archive that hold this content, each once."""
    return sum(map(length, {node.digest: node for node in nodes}.values()))
