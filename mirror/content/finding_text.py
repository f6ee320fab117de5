"""The texts of findings: what is wrong, and what to do about it. All of them are here (docs/reference/findings.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mirror.content.kinds import Kind, Severity, StoreKind
from mirror.errors import BrokenLayout, DigestMismatch, SizeMismatch
from mirror.oci.digest import Digest
from mirror.text import brief
from mirror.text import size as in_units

if TYPE_CHECKING:
    from mirror.content.finding import Finding

Fact = int | str | tuple[int | str, ...] | None  # an int is a number of bytes; None: nothing is there

_MOST_LISTED = 10  # names or digests that a message lists


def fact(value: Fact) -> str:
    """Return a fact as text."""
    if value is None:
        return "nothing"
    if isinstance(value, int):
        return f"{value} bytes"
    return value if isinstance(value, str) else ", ".join(map(fact, value))


def hint(kind: Kind, place: StoreKind) -> str:
    """Return what to do about a kind of finding; `LAYOUT` stands for the path of the layout."""
    other = {StoreKind.ARCHIVE: ARCHIVE_HINTS, StoreKind.REGISTRY: REGISTRY_HINTS}.get(place, HINTS)
    return other.get(kind, HINTS[kind])


def link_hint(found: str, path: str = "LAYOUT") -> str | None:
    """Return what to do about links, which are never followed, if `found` says that one was found; else None."""
    if "a symbolic link" not in found:
        return None
    import shlex  # few layouts have links

    return _LINKS.replace("LAYOUT", shlex.quote(path))


@contextmanager
def advising(path: str, *, is_archive: bool = False) -> Iterator[None]:
    """Give errors about the content of a layout or an archive that is read the hint that a verification gives."""
    try:
        yield
    except (DigestMismatch, SizeMismatch, BrokenLayout) as error:
        if isinstance(error, BrokenLayout) and error.hint:  # its own
            raise
        import shlex  # few layouts are damaged

        again = f"To list all that is wrong: mirror verify LAYOUT. {_AGAIN}" if is_archive else _REPAIR
        error.hint = again.replace("LAYOUT", shlex.quote(path))
        raise


def message(finding: Finding) -> str:  # noqa: PLR0911, PLR0912 - a table of texts that depend on more than the kind
    """Return what is wrong with the subject of a finding, as part of a sentence."""
    expected, found = fact(finding.expected), fact(finding.found)
    match finding.kind, finding.expected, finding.found:
        case Kind.MISSING, str(), None:
            return f"there is no such tag; it was pushed as {expected}"
        case Kind.MISSING, size, None:
            what = "the registry does not have it" if finding.place is StoreKind.REGISTRY else "the file is not there"
            return what if size is None else f"{what} ({expected})"
        case Kind.TOO_SHORT, int(size), int(stored):
            return f"{stored} of {size} bytes; {size - stored} are missing"
        case Kind.TOO_LONG, size, stored:
            return f"{'more' if stored is None else f'{found}, more'} than the {size} that it should have"
        case Kind.BROKEN_LAYOUT, _, None:
            return f"the {expected} is not there"
        case Kind.BROKEN_LAYOUT, None, _:
            return found
        case Kind.BROKEN_INDEX, _, None:
            return "the file is not there"
        case Kind.AMBIGUOUS_ARCHIVE, None, _:
            return f"cannot be compared with index.json: {found}"
        case Kind.SIZE_CONFLICT, _, tuple(sizes):
            return f"two manifests disagree about its size: {' and '.join(map(str, sizes))} bytes"
        case Kind.NAME_CONFLICT, _, tuple(digests):
            return f"the name stands for {_images(digests)}"
        case Kind.AMBIGUOUS_NAME, _, tuple(names):
            return f"the tag of {_images(names)}"
        case Kind.MOVED, _, Digest():
            return f"now points to {found} (was {expected})"
        case Kind.NOT_PUSHED, _, _ if finding.severity is not Severity.ERROR:
            return f"some of its referrers may not have been pushed: {found}"
        case Kind.NOT_EXPECTED, _, tuple((root, published)):
            claim = f"has {root}, which claims to be one platform of {published}"
            return f"{claim}; pull all platforms (or --sparse) to compare"
        case Kind.NOT_EXPECTED, _, Digest():
            return f"has {found}, not {expected}"
        case Kind.RECORD_MISMATCH, None, _:
            return f"cannot be written as a record: {found}"
        case Kind.BAD_NAME, None, _:
            return f"image name contains control characters ({found})"
        case Kind.WRONG_PLATFORM, _, tuple(platforms):
            return f"two indexes disagree about its platform: {' and '.join(map(str, platforms))}"
        case Kind.ABSENT, str(), None:
            return f"{expected} is not here, except for its manifest"
        case Kind.ABSENT, _, None:
            return f"left out on purpose ({expected})"
        case Kind.UNHASHABLE, diff_id, _ if diff_id is not None:
            return f"digest algorithm {found} is not supported, so its diff_id {expected} cannot be checked"
        case Kind.ORPHAN, _, int(size):
            return f"no image uses it ({in_units(size)})"
        case Kind.BOMB, int(limit), _:
            return f"unpacks to more than {in_units(limit)}"
    return _MESSAGES[finding.kind].format(expected=expected, found=found, place=finding.place)


def _images(names: tuple[int | str, ...]) -> str:
    return f"{len(names)} images: {brief(list(map(str, names)), _MOST_LISTED)}"


_MESSAGES: Mapping[Kind, str] = {
    Kind.MISSING: "the list of referrers {found} does not include {expected}",
    Kind.TOO_SHORT: "{found} of {expected}",
    Kind.TOO_LONG: "{found}, more than {expected}",
    Kind.CORRUPT: "content hashes to {found}",
    Kind.NOT_A_FILE: "not a file but {found}",
    Kind.BROKEN_LAYOUT: "not a {expected} but {found}",
    Kind.BROKEN_INDEX: "not a valid index: {found}",
    Kind.BROKEN_ARCHIVE: "{found}",
    Kind.AMBIGUOUS_ARCHIVE: "docker would load another image as {expected} than index.json has",
    Kind.NO_IMAGES: "names no images",
    Kind.BROKEN_MANIFEST: "not a valid manifest: {found}",
    Kind.SIZE_CONFLICT: "two manifests disagree about its size: {found}",
    Kind.TYPE_CONFLICT: "two manifests disagree about its type: {found}",
    Kind.NAME_CONFLICT: "the name stands for several images: {found}",
    Kind.MOVED: "no longer points to {expected}: {found}",
    Kind.NOT_PUSHED: "the push failed: {found}",
    Kind.NOT_EXPECTED: "{found}",
    Kind.RECORD_MISMATCH: "the record has {expected}, the image {found}",
    Kind.RECORD_MISSING: "no image has this name, or the digest {expected}",
    Kind.BAD_NAME: "the name should be {expected}",
    Kind.TOO_MANY: "{found}",
    Kind.BROKEN_CONFIG: "not a valid image config: {found}",
    Kind.WRONG_PLATFORM: "the index says {expected}, the config {found}",
    Kind.LAYER_COUNT: "the manifest has {expected}, the config {found}",
    Kind.WRONG_DIFF_ID: "unpacks to {found}, but the config says {expected}",
    Kind.BROKEN_LAYER: "cannot be unpacked: {found}",
    Kind.BOMB: "unpacks to more than is allowed",
    Kind.NOT_COMPARED: "not compared: {expected}: {found}",
    Kind.UNREADABLE: "cannot be read: {found}",
    Kind.CHANGED: "was written to while it was read",
    Kind.UNHASHABLE: "digest algorithm {found} is not supported",
    Kind.UNKNOWN_COMPRESSION: "cannot be unpacked: {found}",
    Kind.UNSUPPORTED_TYPE: "manifests of the type {found} are not supported",
    Kind.NOT_UNPACKED: "content not checked: {found}",
    Kind.NOT_AN_IMAGE: "its config is not that of an image ({found}), so its layers were not checked",
    Kind.ABSENT: "{found} ({expected})",
    Kind.ORPHAN: "no image uses it",
    Kind.STRAY: "not a blob: file name is not a digest",
    Kind.LEFTOVER: "temporary file of a running or interrupted command",
    Kind.AMBIGUOUS_NAME: "the tag of several images: {found}",
    Kind.DANGLING_SUBJECT: "refers to {expected}, which is not in this {place}",
    Kind.UNKNOWN_TYPE: "neither a manifest nor an index but {found}",
    Kind.NOT_RECORDED: "no record or --expect for this image",
    Kind.VARIANT: "the index says {expected}, the config {found}",
    Kind.UNUSUAL_CONFIG: "unusual image config: {found}",
    Kind.HISTORY_COUNT: "the manifest has {expected}, the history of the config {found}",
    Kind.NOT_A_TAR: "not a tar archive: {found}",
    Kind.DUPLICATE_PATH: "has paths more than once: {found}",
    Kind.DANGEROUS_PATH: "has paths that lead outside the image: {found}",
}

_REPAIR = "Repair it from a good copy: mirror verify LAYOUT --repair --from SOURCE"
_PUBLISHED = "This is how it was published; report it to the publisher."
_HARMLESS = "Harmless."
_LINKS = (
    "If the links are intentional, as in another tool's cache, copy the files: tar -chC LAYOUT . | mirror import - COPY"
)
_OPAQUE = "The bytes are right; what is in them was not checked."
_WHICH = "Do not use the image before you know which of the two is right."
_AGAIN = "Fetch or export the archive again."
_DELETE = (
    "Have the registry's administrator delete it there, then push the image again from its layout: "
    "a push does not replace what the registry says it has."
)
_DAMAGE = (Kind.TOO_SHORT, Kind.TOO_LONG, Kind.CORRUPT)
_MISTAKES = (Kind.BROKEN_MANIFEST, Kind.SIZE_CONFLICT, Kind.TYPE_CONFLICT, Kind.BROKEN_CONFIG, Kind.WRONG_PLATFORM)
_PEDANTRY = (Kind.VARIANT, Kind.HISTORY_COUNT, Kind.UNUSUAL_CONFIG)
_TRIFLES = (Kind.DANGLING_SUBJECT, Kind.UNKNOWN_TYPE, *_PEDANTRY)

HINTS: Mapping[Kind, str] = {
    **dict.fromkeys((Kind.MISSING, *_DAMAGE), _REPAIR),
    **dict.fromkeys((*_MISTAKES, Kind.LAYER_COUNT, Kind.WRONG_DIFF_ID, Kind.BROKEN_LAYER), _PUBLISHED),
    **dict.fromkeys((Kind.NOT_EXPECTED, Kind.RECORD_MISMATCH), _WHICH),
    **dict.fromkeys(_TRIFLES, _HARMLESS),
    Kind.NOT_A_FILE: f"Find out who put it there. {_REPAIR}",
    Kind.BROKEN_LAYOUT: "If there are blobs: pull an image into a new directory, and copy its oci-layout file.",
    Kind.BROKEN_INDEX: "Restore index.json from a backup, or pull into a new directory.",
    Kind.BROKEN_ARCHIVE: _AGAIN,
    Kind.AMBIGUOUS_ARCHIVE: "Do not load it into docker; export it again.",
    Kind.NO_IMAGES: "Is this the right directory?",
    Kind.NAME_CONFLICT: "Remove one of them with mirror rm LAYOUT DIGEST, or pull the name again.",
    Kind.MOVED: "Find out who has pushed to this tag since. Then push again, or make a new receipt.",
    Kind.NOT_PUSHED: "Push it again, and make a new receipt.",
    Kind.RECORD_MISSING: "Is this the right layout, and the right record?",
    Kind.BAD_NAME: "Rename the file; for an image: mirror rm LAYOUT DIGEST.",
    Kind.TOO_MANY: "No genuine image looks like this: do not trust where it came from.",
    Kind.BOMB: "Do not run the image: unpacking it would fill the disk.",
    Kind.NOT_COMPARED: "Fine for platforms left out on purpose; otherwise fix the other findings, and verify again.",
    Kind.UNREADABLE: "Verify again as a user who may read it, or on another machine.",
    Kind.CHANGED: "Wait until the other program has finished, and verify again.",
    Kind.UNHASHABLE: "Only sha256, sha384 and sha512 can be verified.",
    **dict.fromkeys((Kind.UNKNOWN_COMPRESSION, Kind.NOT_UNPACKED), _OPAQUE),
    Kind.NOT_AN_IMAGE: "Artifacts look like this. The bytes are right; a runtime cannot run them.",
    Kind.UNSUPPORTED_TYPE: "Its references were not checked: use a tool that supports this type.",
    Kind.ABSENT: "Harmless, unless it is needed here.",
    Kind.ORPHAN: "Harmless; mirror prune LAYOUT --delete removes it.",
    Kind.STRAY: "Harmless; delete the file if you do not need it.",
    Kind.LEFTOVER: "Harmless: the next command that writes to the layout removes it.",
    Kind.AMBIGUOUS_NAME: "Other tools find these images only by this tag, and cannot tell them apart.",
    Kind.NOT_RECORDED: "Pass a record for it as well, or name the images to verify.",
    Kind.NOT_A_TAR: "This is how it was published; a runtime may refuse to unpack it.",
    Kind.DUPLICATE_PATH: "Harmless: runtimes keep the last one.",
    Kind.DANGEROUS_PATH: "Unpack the layer only with a tool that keeps paths inside the target directory.",
}

ARCHIVE_HINTS: Mapping[Kind, str] = {
    **dict.fromkeys((Kind.MISSING, *_DAMAGE, Kind.NOT_A_FILE, Kind.BROKEN_LAYOUT, Kind.BROKEN_INDEX), _AGAIN),
    Kind.NO_IMAGES: "Is this the right archive?",
    Kind.ORPHAN: _HARMLESS,
    Kind.NAME_CONFLICT: "Import them one by one, each under another name (--as).",
}

REGISTRY_HINTS: Mapping[Kind, str] = {
    Kind.MISSING: "Push the image again from its layout.",
    **dict.fromkeys(_DAMAGE, _DELETE),
    Kind.UNREADABLE: "Is the registry reachable and healthy? Verify again when it answers.",
}
