"""Options for verifying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mirror.content.finding import Severity
from mirror.errors import UsageError
from mirror.oci.digest import Digest
from mirror.report.findings import VerifyLevel

if TYPE_CHECKING:
    from mirror.records import Record
    from mirror.registry.options import RegistryOptions  # its package loads the HTTP client
    from mirror.report.verify_parts import Sample
    from mirror.retry import RetryPolicy

T = TypeVar("T", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options for verifying.

    `verify_layout` and `Verification` use all but `retry` and `registries`. `verify_image` uses `fail_on`, `expect`,
    `records`, `retry` and `registries`; `verify_receipt` uses `fail_on`, `retry` and `registries`. Those two always
    hash every byte.

    Attributes:
        level: how thoroughly to check: `structure`, `content` or `layers`.
        sample: the part of the blobs to hash, as `n/t`; the structure is verified completely.
        fail_on: the lowest severity that makes the verdict `not ok`: `error` or `warning`.
        expect: digests that images must have, by image name.
        records: digest records that images must agree with; see `parse_records`.
        threads: how many files to read at once; None: one per CPU.
        retry: how often to try each request. None: the default.
        registries: how to connect to registries; `jobs` is how many blobs to read at once. None: the defaults.
    """

    level: VerifyLevel | str = VerifyLevel.CONTENT
    sample: Sample | str | None = None
    fail_on: Severity | str = Severity.ERROR
    expect: Mapping[str, str] = field(default_factory=dict)
    records: Sequence[Record] = ()
    threads: int | None = None
    retry: RetryPolicy | None = None
    registries: RegistryOptions | None = None


class Expectations(NamedTuple):
    """The expected digests of images, by name, and the records that they must agree with."""

    digests: Mapping[str, Digest]
    records: Sequence[Record]

    @classmethod
    def of(cls, expect: Mapping[str, str], records: Sequence[Record]) -> Expectations:
        return cls({name: Digest.parse(text) for name, text in expect.items()}, records)

    def __bool__(self) -> bool:
        return bool(self.digests or self.records)


def one_of(kind: type[T], text: str) -> T:
    """Return the member of an enumeration with this value. If there is none, raise UsageError."""
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{text!r} is not one of {', '.join(kind)}.") from None
