"""A tag and what it points to, as receipts have it."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag and its digest. Receipts have it in JSON, so it is not a named tuple, which would become a list."""

    tag: str
    digest: Digest
    members: tuple[Digest, ...] = ()  # must be in it if it is a list of referrers; an added one changes the digest
