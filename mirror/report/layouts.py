"""Content removed from a layout: results of `rm` and `prune`. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mirror.report.transfers import Amount


@dataclass(frozen=True, slots=True)
class RemovedImage:
    """An image that was removed.

    Attributes:
        deleted: its blobs that no other image needs, manifests included.
        kept: the number of its blobs that other images still need.
        referrers: the names of its referrers, which were removed too.
    """

    schema: ClassVar[str] = "mirror.rm/2"

    name: str
    digest: str
    deleted: Amount
    kept: int
    referrers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrunedBlob:
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class PrunedFile:
    """A file: its path inside the layout, and its size."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Everything in a layout that no image needs.

    Attributes:
        deleted: whether orphans and unfinished files were deleted.
        orphans: blobs that no image references.
        unfinished: partial downloads.
        quarantined: files that a repair moved to quarantine; they are never deleted.
    """

    schema: ClassVar[str] = "mirror.prune/1"

    path: str
    deleted: bool
    orphans: tuple[PrunedBlob, ...]
    unfinished: tuple[PrunedFile, ...]
    quarantined: tuple[PrunedFile, ...]
