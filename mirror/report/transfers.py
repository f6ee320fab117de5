"""The result of a pull, a push, an export, an import or a copy. Sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror.errors import MirrorError, PartialFailure, StorageError, UnsupportedManifest
from mirror.quota import QuotaUsage
from mirror.text import count, size

# The past tense of each verb.
PAST = {"pull": "pulled", "push": "pushed", "copy": "copied", "export": "exported", "import": "imported"}


def pinned(name: str, digest: str) -> str:
    """Return NAME@DIGEST; `name` may end with a digest already, or be one."""
    repository = name.partition("@")[0]
    return digest if repository == digest else f"{repository}@{digest}"


@dataclass(frozen=True, slots=True)
class ReferrerSummary:
    """The referrers that were transferred with an image: number of manifests, and bytes of their blobs.

    `error` is why some may be missing, although the image itself is complete.
    """

    count: int = 0
    size: int = 0
    error: MirrorError | None = None


@dataclass(frozen=True, slots=True)
class TransferredImage:
    """One image."""

    source: str  # its name at the source; for a pull, the name that was requested
    image: str  # its result line, NAME@DIGEST
    digest: str
    platforms: tuple[str, ...]
    replaced: str | None = None  # the other digest that the name stood for before
    error: MirrorError | None = None  # why it was not transferred
    referrers: ReferrerSummary | None = None  # None if they were not requested
    left_behind: MirrorError | None = None  # why manifests in its index, and what they need, were not transferred
    # The number of referrers that it consists of, if it refers to another of the images; else 0.
    as_referrer: int = field(default=0, metadata={"json": False})


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of blobs and their bytes."""

    blobs: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The space that a transfer needs on the disk of `path`, and that is free there, in bytes."""

    path: str
    needed: int
    free: int

    def check(self) -> None:
        """Raise StorageError if there is not enough space."""
        if self.needed > self.free:
            raise StorageError(
                f"{self.path} has {size(self.free)} free, but {size(self.needed)} are needed.",
                hint="Free some space, choose fewer images or platforms, or choose another place.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferReport:
    """The result of a transfer, or with `dry_run` what it would be.

    Attributes:
        verb: pull, push, export, import or copy.
        moved: the blobs that were transferred.
        reused: the blobs that were there already.
        healed: digests of stored blobs that were damaged or missing, and have been fetched again.
        resumed: the bytes of `moved` that an earlier attempt had transferred.
        moved_aside: where things were moved to that were in the place of a blob, but were not files.
        disk: of a dry run, the space that the transfer needs; None if it does not write to a disk.
        warnings: sentences.
        quotas: the usage of registries that limit pulls.
    """

    verb: str = field(metadata={"json": False})
    dry_run: bool = False
    images: tuple[TransferredImage, ...]
    moved: Amount
    reused: Amount
    healed: tuple[str, ...] = ()
    resumed: int = 0
    moved_aside: tuple[str, ...] = ()
    disk: DiskSpace | None = None
    warnings: tuple[str, ...] = ()
    quotas: tuple[QuotaUsage, ...] = ()
    seconds: float

    @property
    def schema(self) -> str:
        return f"mirror.{self.verb}/1"

    @property
    def done(self) -> list[TransferredImage]:
        """The images that were transferred."""
        return [image for image in self.images if not image.error]

    @property
    def incomplete(self) -> list[tuple[TransferredImage, MirrorError]]:
        """The images that were transferred, but may lack referrers, and why."""
        return [(image, image.referrers.error) for image in self.done if image.referrers and image.referrers.error]

    def raise_failures(self) -> None:
        """Raise an error if anything failed; the report says what.

        Raises:
            PartialFailure: some images, or some of their manifests or referrers, were not transferred.
            StorageError: after a dry run, there is not enough disk space for the transfer.
        """
        failed = [image.error for image in self.images if image.error]
        if failed:
            nothing = f"Nothing was {PAST[self.verb]}; {count(len(failed), 'image')} failed."
            text = f"{len(failed)} of {count(len(self.images), 'image')} failed." if self.done else nothing
            left_behind = all(isinstance(error, UnsupportedManifest) for error in failed)
            raise PartialFailure(text, failed, nothing_done=not (self.done or left_behind))
        left = [image.left_behind for image in self.done if image.left_behind]
        if left:
            raise PartialFailure(f"Parts of {count(len(left), 'image')} were left behind.", left)
        lacking = [error for _, error in self.incomplete]
        if lacking:
            raise PartialFailure(f"{count(len(lacking), 'image')} may lack referrers.", lacking)
        if self.disk:
            self.disk.check()
