"""The texts of findings: what is wrong, and what to do about it. All of them are here (docs/reference/findings.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mirror.content.kinds import Kind, Place, Severity
from mirror.oci.digest import Digest
from mirror.text import size as in_units

if TYPE_CHECKING:
    from mirror.content.finding import Finding

Fact = int | str | tuple[int | str, ...] | None  # an int is a number of bytes; None: nothing is there


def fact(value: Fact) -> str:
    """Return a fact as text."""
    if value is None:
        return "nothing"
    if isinstance(value, int):
        return f"{value} bytes"
    return value if isinstance(value, str) else ", ".join(map(fact, value))


def message(finding: Finding) -> str:
    """Return what is wrong with the subject of a finding, as part of a sentence."""
    text = _MESSAGES[finding.kind]
    if callable(text):
        return text(finding)
    return text.format(expected=fact(finding.expected), found=fact(finding.found))


def hint(kind: Kind, place: Place) -> str:
    """Return what to do about a kind of finding; `LAYOUT` stands for the path of the layout."""
    other = {Place.ARCHIVE: ARCHIVE_HINTS, Place.REGISTRY: REGISTRY_HINTS}.get(place, HINTS)
    return other.get(kind, HINTS[kind])


# --- what is wrong -----------------------------------------------------------------------------------------------


def _missing(finding: Finding) -> str:
    if finding.found is not None:
        return f"the list of referrers {finding.found} does not include {finding.expected}"
    if isinstance(finding.expected, str):
        return f"there is no such tag; it was pushed as {finding.expected}"
    what = "the registry does not have it" if finding.place is Place.REGISTRY else "the file is not there"
    return what if finding.expected is None else f"{what} ({fact(finding.expected)})"


def _too_short(finding: Finding) -> str:
    found, expected = finding.found, finding.expected
    missing = f"; {expected - found} are missing" if isinstance(expected, int) and isinstance(found, int) else ""
    return f"{found} of {expected} bytes{missing}"


def _too_long(finding: Finding) -> str:
    found = "more" if finding.found is None else f"{finding.found} bytes, more"
    return f"{found} than the {finding.expected} that it should have"


def _broken_layout(finding: Finding) -> str:
    if finding.found is None:
        return f"the {finding.expected} is not there"
    return fact(finding.found) if finding.expected is None else f"not a {finding.expected} but {finding.found}"


def _broken_index(finding: Finding) -> str:
    return "the file is not there" if finding.found is None else f"not a valid index: {finding.found}"


def _ambiguous_archive(finding: Finding) -> str:
    if finding.expected is None:
        return f"cannot be compared with index.json: {finding.found}"
    return f"docker would load another image as {finding.expected} than index.json has"


def _size_conflict(finding: Finding) -> str:
    sizes = finding.found if isinstance(finding.found, tuple) else ()
    return f"two manifests disagree about its size: {' and '.join(map(str, sizes))} bytes"


def _name_conflict(finding: Finding) -> str:
    return f"the name stands for {_several(finding.found)}"


def _ambiguous_name(finding: Finding) -> str:
    return f"the tag of {_several(finding.found)}"


def _several(value: Fact) -> str:
    names = value if isinstance(value, tuple) else ()
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return f"{len(names)} images: {', '.join(map(str, names[:_MANY]))}{more}"


_MANY = 10  # names or digests that a message lists


def _moved(finding: Finding) -> str:
    if isinstance(finding.found, Digest):
        return f"now points to {finding.found} (was {finding.expected})"
    return f"no longer points to {finding.expected}: {finding.found}"


def _not_pushed(finding: Finding) -> str:
    what = "the push failed" if finding.severity is Severity.ERROR else "some of its referrers may not have been pushed"
    return f"{what}: {finding.found}"


def _not_expected(finding: Finding) -> str:
    if isinstance(finding.found, tuple):
        root, published = finding.found
        claim = f"has {root}, which claims to be one platform of {published}"
        return f"{claim}; pull all platforms (or --sparse) to compare"
    return f"has {finding.found}, not {finding.expected}" if isinstance(finding.found, Digest) else fact(finding.found)


def _record_mismatch(finding: Finding) -> str:
    if finding.expected is None:
        return f"cannot be written as a record: {finding.found}"
    return f"the record has {fact(finding.expected)}, the image {fact(finding.found)}"


def _bad_name(finding: Finding) -> str:
    if finding.expected is None:
        return f"image name contains control characters ({finding.found})"
    return f"the name should be {finding.expected}"


def _wrong_platform(finding: Finding) -> str:
    if isinstance(finding.found, tuple):
        return f"two indexes disagree about its platform: {' and '.join(map(str, finding.found))}"
    return f"the index says {finding.expected}, the config {finding.found}"


def _absent(finding: Finding) -> str:
    what = "a foreign layer, which is not kept here" if finding.found else "left out on purpose"
    return f"{what} ({fact(finding.expected)})"


def _unhashable(finding: Finding) -> str:
    text = f"digest algorithm {finding.found} is not supported"
    return text if finding.expected is None else f"{text}, so its diff_id {finding.expected} cannot be checked"


def _orphan(finding: Finding) -> str:
    return f"no image uses it ({in_units(finding.found)})" if isinstance(finding.found, int) else "no image uses it"


def _bomb(finding: Finding) -> str:
    return f"unpacks to more than {in_units(finding.expected) if isinstance(finding.expected, int) else 'is allowed'}"


_MESSAGES: Mapping[Kind, str | Callable[[Finding], str]] = {
    Kind.MISSING: _missing,
    Kind.TOO_SHORT: _too_short,
    Kind.TOO_LONG: _too_long,
    Kind.CORRUPT: "content hashes to {found}",
    Kind.NOT_A_FILE: "not a file but {found}",
    Kind.BROKEN_LAYOUT: _broken_layout,
    Kind.BROKEN_INDEX: _broken_index,
    Kind.BROKEN_ARCHIVE: "{found}",
    Kind.AMBIGUOUS_ARCHIVE: _ambiguous_archive,
    Kind.NO_IMAGES: "names no images",
    Kind.BROKEN_MANIFEST: "not a valid manifest: {found}",
    Kind.SIZE_CONFLICT: _size_conflict,
    Kind.TYPE_CONFLICT: "two manifests disagree about its type: {found}",
    Kind.NAME_CONFLICT: _name_conflict,
    Kind.MOVED: _moved,
    Kind.NOT_PUSHED: _not_pushed,
    Kind.NOT_EXPECTED: _not_expected,
    Kind.RECORD_MISMATCH: _record_mismatch,
    Kind.RECORD_MISSING: "no image has this name, or the digest {expected}",
    Kind.BAD_NAME: _bad_name,
    Kind.TOO_MANY: "{found}",
    Kind.BROKEN_CONFIG: "not a valid image config: {found}",
    Kind.WRONG_PLATFORM: _wrong_platform,
    Kind.LAYER_COUNT: "the manifest has {expected}, the config {found}",
    Kind.WRONG_DIFF_ID: "unpacks to {found}, but the config says {expected}",
    Kind.BROKEN_LAYER: "cannot be unpacked: {found}",
    Kind.BOMB: _bomb,
    Kind.NOT_COMPARED: "not compared: {expected}: {found}",
    Kind.UNREADABLE: "cannot be read: {found}",
    Kind.CHANGED: "was written to while it was read",
    Kind.UNHASHABLE: _unhashable,
    Kind.UNKNOWN_COMPRESSION: "cannot be unpacked: {found}",
    Kind.ABSENT: _absent,
    Kind.ORPHAN: _orphan,
    Kind.STRAY: "not a blob: file name is not a digest",
    Kind.LEFTOVER: "unfinished or running download",
    Kind.AMBIGUOUS_NAME: _ambiguous_name,
    Kind.DANGLING_SUBJECT: "refers to {expected}, which is not here",
    Kind.UNKNOWN_TYPE: "neither a manifest nor an index but {found}",
    Kind.NOT_RECORDED: "no record or --expect for this image",
    Kind.VARIANT: "the index says {expected}, the config {found}",
    Kind.HISTORY_COUNT: "the manifest has {expected}, the history of the config {found}",
    Kind.NOT_A_TAR: "not a tar archive: {found}",
    Kind.DUPLICATE_PATH: "has paths more than once: {found}",
    Kind.DANGEROUS_PATH: "has paths that lead outside of the image: {found}",
}

# --- what to do about it -----------------------------------------------------------------------------------------

_REPAIR = "Run mirror verify LAYOUT --repair --from SOURCE, or pull the image again if there is a network."
_PUBLISHED = "This is how it was published; report it to the publisher."
_HARMLESS = "Harmless."
_WHICH = "Do not use the image before you know which of the two is right."

HINTS: Mapping[Kind, str] = {
    Kind.MISSING: _REPAIR,
    Kind.TOO_SHORT: _REPAIR,
    Kind.TOO_LONG: _REPAIR,
    Kind.CORRUPT: _REPAIR,
    Kind.NOT_A_FILE: f"Find out who put it there. {_REPAIR}",
    Kind.BROKEN_LAYOUT: "If there are blobs: pull an image into a new directory, and copy its oci-layout file.",
    Kind.BROKEN_INDEX: "Restore index.json from a backup, or pull into a new directory.",
    Kind.BROKEN_ARCHIVE: "Fetch or export the archive again.",
    Kind.AMBIGUOUS_ARCHIVE: "Do not load it into docker; export it again.",
    Kind.NO_IMAGES: "Is this the right directory?",
    Kind.BROKEN_MANIFEST: _PUBLISHED,
    Kind.SIZE_CONFLICT: _PUBLISHED,
    Kind.TYPE_CONFLICT: _PUBLISHED,
    Kind.NAME_CONFLICT: "Remove one of them with mirror rm LAYOUT DIGEST, or pull the name again.",
    Kind.MOVED: "Find out who has pushed to this tag since. Then push again, or make a new receipt.",
    Kind.NOT_PUSHED: "Push it again, and make a new receipt.",
    Kind.NOT_EXPECTED: _WHICH,
    Kind.RECORD_MISMATCH: _WHICH,
    Kind.RECORD_MISSING: "Is this the right layout, and the right record?",
    Kind.BAD_NAME: "Rename it.",
    Kind.TOO_MANY: "No genuine image looks like this: do not trust where it came from.",
    Kind.BROKEN_CONFIG: _PUBLISHED,
    Kind.WRONG_PLATFORM: _PUBLISHED,
    Kind.LAYER_COUNT: _PUBLISHED,
    Kind.WRONG_DIFF_ID: _PUBLISHED,
    Kind.BROKEN_LAYER: _PUBLISHED,
    Kind.BOMB: "Do not run the image: unpacking it would fill the disk.",
    Kind.NOT_COMPARED: "Fix the other findings first; platforms left out on purpose are fine.",
    Kind.UNREADABLE: "Verify again as a user who may read it, or on another machine.",
    Kind.CHANGED: "Wait until the other program has finished, and verify again.",
    Kind.UNHASHABLE: "Only sha256, sha384 and sha512 can be verified.",
    Kind.UNKNOWN_COMPRESSION: "The bytes are right; what is in them was not checked.",
    Kind.ABSENT: _HARMLESS,
    Kind.ORPHAN: "Harmless; mirror prune LAYOUT --delete removes it.",
    Kind.STRAY: _HARMLESS,
    Kind.LEFTOVER: "Harmless: the next pull resumes it or removes it.",
    Kind.AMBIGUOUS_NAME: "Other tools find these images only by this tag, and cannot tell them apart.",
    Kind.DANGLING_SUBJECT: _HARMLESS,
    Kind.UNKNOWN_TYPE: _HARMLESS,
    Kind.NOT_RECORDED: "Give a record of it, too, or name the images to verify.",
    Kind.VARIANT: _HARMLESS,
    Kind.HISTORY_COUNT: _HARMLESS,
    Kind.NOT_A_TAR: "This is how it was published; a runtime may refuse to unpack it.",
    Kind.DUPLICATE_PATH: "Harmless: runtimes keep the last one.",
    Kind.DANGEROUS_PATH: "Unpack the layer only with a tool that keeps paths inside the target directory.",
}

_AGAIN = "Fetch or export the archive again."
ARCHIVE_HINTS: Mapping[Kind, str] = {
    Kind.MISSING: _AGAIN,
    Kind.TOO_SHORT: _AGAIN,
    Kind.TOO_LONG: _AGAIN,
    Kind.CORRUPT: _AGAIN,
    Kind.NOT_A_FILE: _AGAIN,
    Kind.BROKEN_LAYOUT: _AGAIN,
    Kind.BROKEN_INDEX: _AGAIN,
    Kind.NO_IMAGES: "Is this the right archive?",
    Kind.ORPHAN: _HARMLESS,
    Kind.NAME_CONFLICT: "Import them one by one, each under another name (--as).",
}

_DELETE = (
    "Have the registry's administrator delete it there, then push the image again from its layout: "
    "a push does not replace what the registry says it has."
)
REGISTRY_HINTS: Mapping[Kind, str] = {
    Kind.MISSING: "Push the image again from its layout.",
    Kind.TOO_SHORT: _DELETE,
    Kind.TOO_LONG: _DELETE,
    Kind.CORRUPT: _DELETE,
    Kind.UNREADABLE: "Is the registry reachable and healthy? Verify again when it answers.",
}
