"""Step 1: `oci-layout`, `index.json`, and the names of the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.content.finding_text import link_hint
from mirror.content.store import VerifiableStore
from mirror.errors import BrokenLayout, StorageError
from mirror.layout import Entry, index, names
from mirror.text import printable

Report = Callable[[Finding], None]


def check_layout_file(store: VerifiableStore, report: Report) -> None:
    """Check `oci-layout`, and report the faults of the store itself."""
    name = "oci-layout"
    try:
        index.check_layout_file(store.read(name, index.LAYOUT_CAP))
    except FileNotFoundError:
        if not _is_cut(store):
            report(Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, name, "file"))
    except StorageError as error:
        report(unreadable(name, error))
    except BrokenLayout as error:
        found = reason(error, name)
        report(Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, name, found=found, advice=link_hint(found)))
    for finding in store.faults():
        report(finding)


def read_entries(store: VerifiableStore, report: Report) -> list[Entry]:
    """Return the entries of `index.json`; none if it is broken."""
    name = "index.json"
    try:
        entries = index.entries(store.read(name, index.CAP))
    except FileNotFoundError:
        if not _is_cut(store):
            report(Finding(Kind.BROKEN_INDEX, Severity.ERROR, name, "a valid index"))
    except StorageError as error:
        report(unreadable(name, error))
    except BrokenLayout as error:
        found = reason(error, name)
        report(Finding(Kind.BROKEN_INDEX, Severity.ERROR, name, "a valid index", found, advice=link_hint(found)))
    else:
        if not entries:
            report(Finding(Kind.NO_IMAGES, Severity.ERROR, name, "at least one image"))
        return entries
    return []


def check_names(entries: Iterable[Entry], report: Report) -> None:
    """Report misleading and ambiguous names.

    A name with control characters is an error, and so is a full name with two digests. Two images may share a bare
    `ref.name`, but many tools find images only by it, so this is a warning.
    """
    full: dict[str, dict[str, None]] = {}
    bare: dict[str, dict[str, str]] = {}
    for entry in entries:
        digest, annotations = entry.root.digest, entry.root.annotations
        unprintable = [text for text in (entry.name, *names.given(annotations).values()) if not text.isprintable()]
        if unprintable:
            shown = f'"{printable(unprintable[0])}"'
            advice = f"Remove it with mirror rm LAYOUT {digest}, or copy it with --as."
            report(Finding(Kind.BAD_NAME, Severity.ERROR, entry.name, None, shown, (entry.name,), advice=advice))
        if entry.reference:
            full.setdefault(entry.name, {})[digest] = None
        if names.REF_NAME in names.given(annotations):
            bare.setdefault(annotations[names.REF_NAME], {})[digest] = entry.name if entry.reference else digest
    for name, digests in full.items():
        if len(digests) > 1:
            report(Finding(Kind.NAME_CONFLICT, Severity.ERROR, name, "one digest", tuple(digests), images=(name,)))
    for name, images in bare.items():
        if len(images) > 1 and name not in full:
            report(Finding(Kind.AMBIGUOUS_NAME, Severity.WARNING, name, "one image", tuple(images.values())))


def _is_cut(store: VerifiableStore) -> bool:
    """Return whether an archive cannot be read to its end, so that it may have more than was found."""
    return any(fault.kind is Kind.BROKEN_ARCHIVE for fault in store.faults())


def unreadable(subject: str, error: StorageError) -> Finding:
    """Return the finding for a file that cannot be read."""
    return Finding(Kind.UNREADABLE, Severity.UNVERIFIED, subject, "a readable file", reason(error, subject))
