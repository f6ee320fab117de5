"""Layouts as a whole: results of `rm`, `prune` and `serve`. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mirror.report.transfers import Amount


@dataclass(frozen=True, slots=True)
class RemovedImage:
    """An image that was removed."""

    name: str
    digest: str
    referrers: tuple[str, ...] = ()  # the names of its referrers, which were removed too


@dataclass(frozen=True, slots=True)
class RemoveReport:
    """The images that were removed from a layout."""

    schema: ClassVar[str] = "mirror.rm/3"

    path: str
    images: tuple[RemovedImage, ...]
    deleted: Amount  # their blobs that no other image needs, manifests included
    kept: int  # their blobs that other images still need


@dataclass(frozen=True, slots=True)
class PrunedBlob:
    """A blob that no image references: its digest, and its size."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class PrunedFile:
    """A file: its path inside the layout, and its size."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Everything in a layout that no image needs."""

    schema: ClassVar[str] = "mirror.prune/1"

    path: str
    deleted: bool  # orphans and unfinished files were deleted
    orphans: tuple[PrunedBlob, ...]  # blobs that no image references
    unfinished: tuple[PrunedFile, ...]  # partial downloads
    quarantined: tuple[PrunedFile, ...]  # files that a repair moved to quarantine; they are never deleted


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A running server. `address` is HOST:PORT, `images` the number of images without referrers."""

    schema: ClassVar[str] = "mirror.serve/1"

    address: str
    url: str
    layouts: tuple[str, ...]
    repositories: tuple[str, ...]
    images: int
