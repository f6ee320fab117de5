"""What a pull, a push, an export or an import did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror.errors import MirrorError, PartialFailure, StorageError
from mirror.oci.descriptor import Descriptor
from mirror.ratelimit import Usage
from mirror.strictjson import JsonObject
from mirror.text import count, seconds, size


def pinned(name: str, digest: str) -> str:
    """The result line of an image that is called `name`, which may end with a digest of its own."""
    repository = name.partition("@")[0]
    return digest if repository == digest else f"{repository}@{digest}"


@dataclass(frozen=True, slots=True)
class ReferrerSummary:
    """What refers to an image and went with it: so many manifests, with so many bytes of blobs.

    `failure` says why there may be more: the image itself is whole all the same.
    """

    count: int = 0
    size: int = 0
    failure: MirrorError | None = None

    def to_json(self) -> JsonObject:
        return {"count": self.count, "size": self.size, "error": str(self.failure) if self.failure else None}


@dataclass(frozen=True, slots=True)
class Transferred:
    """One image: `pinned` is its result line, `replaced` the other digest that its name stood for before.

    `source` is what was read in the layout or the archive; for a pull it is the name that was asked for. `referrers` is
    None where nobody asked for them. `referring`: it has a name of its own, and so many manifests that are about
    another of these images.
    """

    source: str
    pinned: str
    digest: str
    platforms: tuple[str, ...]
    replaced: str | None = None
    failure: MirrorError | None = None
    referrers: ReferrerSummary | None = None
    referring: int = 0

    def to_json(self) -> JsonObject:
        return {
            "source": self.source,
            "image": self.pinned,
            "digest": self.digest,
            "platforms": list(self.platforms),
            "replaced": self.replaced,
            "error": str(self.failure) if self.failure else None,
            "referrers": self.referrers.to_json() if self.referrers else None,
        }


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of blobs and their bytes."""

    blobs: int = 0
    size: int = 0

    @classmethod
    def of(cls, blobs: Sequence[Descriptor]) -> Amount:
        return cls(len(blobs), sum(blob.size for blob in blobs))

    def __str__(self) -> str:
        return f"{count(self.blobs, 'blob')} ({size(self.size)})" if self.blobs else "0"

    def to_json(self) -> JsonObject:
        return {"blobs": self.blobs, "size": self.size}


@dataclass(frozen=True, slots=True)
class TransferReport:
    """The result of a transfer (`verb`: pull, push, export, import, copy), or what it would be (`dry_run`).

    `moved` has gone over, `reused` was there already; `healed` are the stored blobs that were bad or lacking and
    have been fetched again; `resumed` are bytes of `moved` that an earlier attempt had brought; `aside` where things
    that were no files have gone. `quotas` is what was used of those of the registries that count pulls.
    `warnings` are sentences.
    """

    verb: str
    images: tuple[Transferred, ...]
    moved: Amount
    reused: Amount
    seconds: float
    dry_run: bool = False
    healed: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    resumed: int = 0
    warnings: tuple[str, ...] = field(default=())
    quotas: tuple[Usage, ...] = ()

    @property
    def failures(self) -> list[MirrorError]:
        return [image.failure for image in self.images if image.failure]

    @property
    def incomplete(self) -> list[tuple[Transferred, MirrorError]]:
        """The images that are whole and may lack referrers, and why."""
        done = [image for image in self.images if not image.failure]
        return [(image, image.referrers.failure) for image in done if image.referrers and image.referrers.failure]

    def raise_failures(self) -> None:
        """What the command ends with: nothing, or how many have failed; why is said by `complaints`.

        Raises:
            PartialFailure: some images are not done, or not all of their referrers.
        """
        failed, all_of_them = self.failures, len(self.images)
        if failed:
            text = f"{len(failed)} of {count(all_of_them, 'image')} failed."
            raise PartialFailure(text, failed, nothing_done=len(failed) == all_of_them)
        lacking = [error for _, error in self.incomplete]
        if lacking:
            raise PartialFailure(f"{count(len(lacking), 'image')} may lack referrers.", lacking)

    def to_json(self) -> JsonObject:
        return {
            "schema": f"mirror.{self.verb}/1",
            "dryRun": self.dry_run,
            "images": [image.to_json() for image in self.images],
            "moved": self.moved.to_json(),
            "reused": self.reused.to_json(),
            "healed": list(self.healed),
            "resumed": self.resumed,
            "movedAside": list(self.aside),
            "warnings": list(self.warnings),
            "quotas": [used.to_json() for used in self.quotas],
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> list[str]:
        """A line for each image that is done; of a push that is only tried, where each image would go."""
        done = [image for image in self.images if not image.failure]
        tried = self.dry_run and self.verb == "push"
        return [f"{image.source} -> {image.pinned}" if tried else image.pinned for image in done]

    def remarks(self) -> list[str]:
        """What a person should know besides the result."""
        moves = [
            f"{image.source} has moved: it was {image.replaced} and is now {image.digest}."
            for image in self.images
            if image.replaced and image.replaced != image.digest
        ]
        kept = [f"What stood in the place of a blob and was no file is now at {path}." for path in self.aside]
        counted = [
            f"{used.registry} counts pulls: this plan costs {used.cost} at most, as the dry run did, and {used.quota}."
            for used in self.quotas
            if self.dry_run
        ]
        return [*self.warnings, *moves, *kept, *counted]

    def complaints(self) -> list[tuple[str, str | None]]:
        """Return what failed, image by image, each with a hint: errors that even the quietest command shows."""
        failed = [(f"{image.source}: {image.failure}", image.failure.hint) for image in self.images if image.failure]
        lacking = [
            (f"{image.source} is complete, but may lack referrers: {error}", error.hint)
            for image, error in self.incomplete
        ]
        return failed + lacking

    def summary(self) -> str:
        done = [image for image in self.images if not image.failure]
        images = sum(not image.referring for image in done)
        platforms = sum(len(image.platforms) for image in done)
        past = "copied" if self.verb == "copy" else f"{self.verb}ed"
        notes = [f"{len(self.healed)} healed"] if self.healed else []
        notes += [f"{size(self.resumed)} of it from an earlier attempt"] if self.resumed else []
        moved = f"{self.moved} moved" + (f" ({', '.join(notes)})" if notes else "")
        along = sum(image.referrers.count for image in done if image.referrers)
        referrers = along or sum(image.referring for image in done)  # what goes along is what has been named, too
        what = count(images, "image") + (f", {count(platforms, 'platform')}" if platforms else "")
        what += f", {count(referrers, 'referrer')}" if referrers else ""
        if self.dry_run:
            return f"would have {past} {what}: {self.moved} to move, {self.reused} there already."
        return f"{past} {what}: {moved}, {self.reused} reused, in {seconds(self.seconds)}."


def check_room(path: Path, free: int, missing: int) -> None:
    """Whether what is missing fits on the disk: better known now than after an hour. Sizes are bytes.

    Raises:
        StorageError: it does not.
    """
    if missing > free:
        raise StorageError(
            f"{path} has {size(free)} free, and {size(missing)} are missing.",
            hint="Free some space, choose less (a pull: fewer platforms with --platform), or name another folder.",
        )
