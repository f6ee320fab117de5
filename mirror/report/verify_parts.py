"""Parts of the result of a verification that few verifications have: a sample, agreements, a repair."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.errors import UsageError


@dataclass(frozen=True, slots=True)
class Sample:
    """One part of the blobs: number `part` of `of`, counted from 1. Together, the parts cover every blob."""

    part: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Sample:
        """Parse `n/t`.

        Raises:
            UsageError: the text has another form, or n is not between 1 and t.
        """
        part, _, of = text.partition("/")
        if not (part.isascii() and part.isdigit() and of.isascii() and of.isdigit() and len(text) < 20):
            raise UsageError(
                f"{text!r} is not a valid sample.", hint="Samples look like 2/7: the second of seven parts."
            )
        sample = cls(int(part), int(of))
        if not 1 <= sample.part <= sample.of:
            raise UsageError(f"{text!r} is not a valid sample: its parts are 1/{of} to {of}/{of}.")
        return sample

    def takes(self, bucket: int) -> bool:
        """Return whether a blob of this bucket belongs to the part."""
        return bucket == self.part - 1

    def __str__(self) -> str:
        return f"{self.part}/{self.of}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """An image that agrees with a digest or record that was received separately."""

    by: str  # what the image was compared with
    image: str
    agreed: str  # the values that are equal
    whole: bool = True  # nothing differs


@dataclass(frozen=True, slots=True)
class RepairReport:
    """The result of a repair."""

    source: str  # where blobs were fetched from
    healed: tuple[str, ...] = ()  # digests of the blobs that were damaged or missing, and are correct now
    moved_aside: tuple[str, ...] = ()  # where the damaged files were moved to
    failures: tuple[str, ...] = ()  # sentences about images that could not be repaired
