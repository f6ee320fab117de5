"""Refusals to write to a directory that contains other things than a layout."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from mirror.errors import BrokenLayout, UsageError
from mirror.fs.directory import Directory, exists, is_directory
from mirror.layout.reader import Layout

_LAYOUT_NAMES = {".mirror", "blobs", "index.json", "lost+found"}  # all that an interrupted creation can leave


def refuse_foreign(path: Path) -> None:
    """Raise UsageError if a directory contains other things than a layout, or is a file; it need not exist.

    If it was a layout once, raise BrokenLayout: writing to it would lose the names of its images.
    """
    refuse_file(path)
    if exists(path):
        with Directory.open(path) as root:
            refuse_other_content(root)


def refuse_file(path: Path) -> None:
    """Raise UsageError if a path is not that of a directory; it need not exist."""
    if exists(path) and not is_directory(path):
        raise UsageError(f"{path} is not a directory.", hint="Choose a new or empty directory, or a layout.")


def refuse_other_content(root: Directory, near: Layout | None = None) -> None:
    """As `refuse_foreign`, of an open directory, which is open for reading as `near`, too."""
    found, existing = Layout(root), set(root.names())
    with closing(found.blobs):
        if "oci-layout" in existing:
            (near or found).check()
            return
        if existing - _LAYOUT_NAMES:
            raise UsageError(
                f"{root.path} is not empty and not an OCI image layout.",
                hint="Choose a new or empty directory, or a layout.",
            )
        used = any(name for _, name in found.blobs.stored()) or ("index.json" in existing and found.entries())
        # Checked again: another process that creates the layout may have written oci-layout, and then blobs, meanwhile.
        if used and root.kind("oci-layout") is None:
            raise BrokenLayout(
                f"{root.path} is not an OCI image layout: it has no oci-layout file.",
                hint=f'If it was one: printf \'{{"imageLayoutVersion":"1.0.0"}}\' > {root.path}/oci-layout',
            )
