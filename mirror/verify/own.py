"""Step 1: the layout's own files, and how its images are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.store import VerifiableStore
from mirror.errors import BrokenLayout, StorageError
from mirror.layout import Entry, index, names

Report = Callable[[Finding], None]

_MANY = 10  # digests of one name that are shown


def check_layout_file(store: VerifiableStore, report: Report) -> None:
    """`oci-layout`, and what the store says of itself."""
    try:
        index.check_layout_file(store.read("oci-layout", index.LAYOUT_CAP))
    except FileNotFoundError:
        report(Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, "oci-layout", "a file", "nothing"))
    except StorageError as error:
        report(unreadable("oci-layout", error))
    except BrokenLayout as error:
        expected = f"imageLayoutVersion {index.VERSION}"
        report(Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, "oci-layout", expected, str(error)))
    for finding in store.faults():
        report(finding)


def read_entries(store: VerifiableStore, report: Report) -> list[Entry]:
    """The images that `index.json` names."""
    try:
        entries = index.entries(store.read("index.json", index.CAP))
    except FileNotFoundError:
        report(Finding(Kind.BROKEN_INDEX, Severity.ERROR, "index.json", "a file", "nothing"))
    except StorageError as error:
        report(unreadable("index.json", error))
    except BrokenLayout as error:
        report(Finding(Kind.BROKEN_INDEX, Severity.ERROR, "index.json", "a valid index", str(error)))
    else:
        if not entries:
            report(Finding(Kind.NO_IMAGES, Severity.ERROR, "index.json", "at least one image", "none"))
        return entries
    return []


def check_names(entries: Iterable[Entry], report: Report) -> None:
    """One full name with two digests is an error; one bare ref.name twice is legal, and confuses many tools.

    What moves a cursor or hides text has no place in a name, and whoever put it there wants to deceive somebody.
    """
    full: dict[str, dict[str, None]] = {}
    bare: dict[str, dict[str, None]] = {}
    for entry in entries:
        texts = (entry.name, *names.given(entry.root.annotations).values())
        if not all(text.isprintable() for text in texts):
            expected = "a name that can be shown"
            report(Finding(Kind.BAD_NAME, Severity.ERROR, entry.name, expected, "control characters", (entry.name,)))
        if entry.reference:
            full.setdefault(entry.name, {})[entry.root.digest] = None
        if names.REF_NAME in entry.root.annotations:
            bare.setdefault(entry.root.annotations[names.REF_NAME], {})[entry.root.digest] = None
    for name, digests in full.items():
        if len(digests) > 1:
            found = _few(list(digests))
            report(Finding(Kind.NAME_CONFLICT, Severity.ERROR, name, "one digest", found, (name,)))
    for name, digests in bare.items():
        if len(digests) > 1 and name not in full:
            found = _few(list(digests))
            report(Finding(Kind.AMBIGUOUS_NAME, Severity.WARNING, name, "one image of this ref.name", found))


def unreadable(subject: str, error: StorageError) -> Finding:
    return Finding(Kind.UNREADABLE, Severity.UNVERIFIED, subject, "a readable file", str(error))


def _few(digests: Sequence[str]) -> str:
    more = f" and {len(digests) - _MANY} more" if len(digests) > _MANY else ""
    return ", ".join(digests[:_MANY]) + more
