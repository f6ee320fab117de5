"""What was removed from a layout: results of `rm` and `prune`. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mirror.report.transfers import Amount


@dataclass(frozen=True, slots=True)
class RemovedImage:
    """An image that was removed.

    Attributes:
        deleted: the blobs that no other image needs, manifests included.
        kept: how many blobs other images still need.
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
    """A file by its path inside the layout."""

    file: str
    size: int


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What no image of a layout needs.

    Attributes:
        deleted: whether orphans and unfinished files were deleted.
        orphans: blobs that no image references.
        unfinished: partial downloads.
        quarantined: what a repair has moved to quarantine; it is never deleted.
    """

    schema: ClassVar[str] = "mirror.prune/1"

    path: str
    deleted: bool
    orphans: tuple[PrunedBlob, ...]
    unfinished: tuple[PrunedFile, ...]
    quarantined: tuple[PrunedFile, ...]
