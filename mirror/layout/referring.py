"""Entries that refer to others, and what to, judging by the entries alone (docs/adr/0012)."""

from __future__ import annotations

from mirror.errors import InvalidDigest
from mirror.layout import names
from mirror.layout.index import Entry
from mirror.oci.digest import Digest
from mirror.oci.platforms import INDEX
from mirror.oci.referrers import is_about, is_referrers_tag


def is_list(entry: Entry) -> bool:
    """Return whether an entry is a list of referrers, judging by its tag and type."""
    return entry.root.is_index and is_referrers_tag(entry.tag)


def can_refer(entry: Entry) -> bool:
    """Return whether an entry can refer to another one, judging by its tag, type and kind."""
    return entry.attachment is not None or is_list(entry) or (is_about(entry.tag) and not is_referrers_tag(entry.tag))


def images_of(entries: list[Entry]) -> list[Entry]:
    """Return the entries that cannot refer to others; all entries if there are none."""
    return [entry for entry in entries if not can_refer(entry)] or entries


def chosen_from(entry: Entry) -> list[Digest]:
    """Return the recorded digests of the image before some of its platforms were selected."""
    return [digest for digest in (_digest(entry.root.annotations.get(INDEX, "")), published(entry)) if digest]


def published(entry: Entry) -> Digest | None:
    """Return the recorded digest of the image where it was pulled from, if any."""
    return _digest(entry.root.annotations.get(names.ORIGIN, "").rpartition("@")[2])


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def home(entry: Entry) -> str | None:
    """Return the recorded repository of an entry, if any."""
    return entry.reference.name if entry.reference else None
