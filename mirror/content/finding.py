"""A finding is a value: what, where, what was expected and found, whom it hurts, and what to do.

Every kind is documented in docs/reference/findings.md; programs rely on the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mirror.strictjson import JsonObject

NAMED = 50  # images of a finding, or platforms of an image, that JSON names; a base layer can belong to thousands


class Severity(StrEnum):
    """How bad a finding is. `unverified` means: nobody can say, and that is not the same as well."""

    ERROR = "error"
    UNVERIFIED = "unverified"
    WARNING = "warning"


class Kind(StrEnum):
    """What can be found."""

    MISSING = "missing"
    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    CORRUPT = "corrupt"
    NOT_A_FILE = "not-a-file"
    BROKEN_LAYOUT = "broken-layout"
    BROKEN_INDEX = "broken-index"
    BROKEN_ARCHIVE = "broken-archive"
    AMBIGUOUS_ARCHIVE = "ambiguous-archive"
    NO_IMAGES = "no-images"
    BROKEN_MANIFEST = "broken-manifest"
    SIZE_CONFLICT = "size-conflict"
    TYPE_CONFLICT = "type-conflict"
    NAME_CONFLICT = "name-conflict"
    MOVED = "moved"
    NOT_PUSHED = "not-pushed"
    NOT_EXPECTED = "not-expected"
    RECORD_MISMATCH = "record-mismatch"
    RECORD_MISSING = "record-missing"
    BAD_NAME = "bad-name"
    TOO_MANY = "too-many"
    BROKEN_CONFIG = "broken-config"
    WRONG_PLATFORM = "wrong-platform"
    LAYER_COUNT = "layer-count"
    WRONG_DIFF_ID = "wrong-diff-id"
    BROKEN_LAYER = "broken-layer"
    BOMB = "bomb"
    NOT_COMPARED = "not-compared"
    UNREADABLE = "unreadable"
    CHANGED = "changed"
    UNHASHABLE = "unhashable"
    UNKNOWN_COMPRESSION = "unknown-compression"
    ABSENT = "absent"
    ORPHAN = "orphan"
    STRAY = "stray"
    LEFTOVER = "leftover"
    AMBIGUOUS_NAME = "ambiguous-name"
    DANGLING_SUBJECT = "dangling-subject"
    UNKNOWN_TYPE = "unknown-type"
    NOT_RECORDED = "not-recorded"
    VARIANT = "variant"
    HISTORY_COUNT = "history-count"
    NOT_A_TAR = "not-a-tar"
    DUPLICATE_PATH = "duplicate-path"
    DANGEROUS_PATH = "dangerous-path"


_AGAIN = "Pull the image again: only what is bad is fetched."
_PUBLISHER = "The publisher has to fix it; the bytes are those that the digest names."
_NOTHING = "Nothing needs to be done."
_WHICH = "Do not use the image before you know which of the two is right."

HINTS: Mapping[Kind, str] = {
    Kind.MISSING: _AGAIN,
    Kind.TOO_SHORT: _AGAIN,
    Kind.TOO_LONG: _AGAIN,
    Kind.CORRUPT: "Pull the image again: only what is bad is fetched. A file that no image needs can be deleted.",
    Kind.NOT_A_FILE: "Find out who put it there, then pull the image again.",
    Kind.BROKEN_LAYOUT: "If the blobs are there, a pull into a new folder shows what the files at the top should be.",
    Kind.BROKEN_INDEX: "Take index.json from a backup, or pull into a new folder.",
    Kind.BROKEN_ARCHIVE: "Get the archive again.",
    Kind.AMBIGUOUS_ARCHIVE: "Do not load it into docker; export it again.",
    Kind.NO_IMAGES: "This may be the wrong folder.",
    Kind.BROKEN_MANIFEST: _PUBLISHER,
    Kind.SIZE_CONFLICT: _PUBLISHER,
    Kind.TYPE_CONFLICT: _PUBLISHER,
    Kind.NAME_CONFLICT: "Remove one of the images by its digest with mirror rm, or pull the name again.",
    Kind.MOVED: "Find out who has pushed to this name since; push again, or make another receipt.",
    Kind.NOT_PUSHED: "Push it again, and make another receipt.",
    Kind.NOT_EXPECTED: _WHICH,
    Kind.RECORD_MISMATCH: _WHICH,
    Kind.RECORD_MISSING: "This may be the wrong layout, or the wrong record.",
    Kind.BAD_NAME: "Rename it.",
    Kind.TOO_MANY: "No genuine image looks like this: do not trust where it came from.",
    Kind.BROKEN_CONFIG: _PUBLISHER,
    Kind.WRONG_PLATFORM: _PUBLISHER,
    Kind.LAYER_COUNT: _PUBLISHER,
    Kind.WRONG_DIFF_ID: _PUBLISHER,
    Kind.BROKEN_LAYER: _PUBLISHER,
    Kind.BOMB: "Do not unpack it: it would fill the disk of whoever runs the image.",
    Kind.NOT_COMPARED: "What the other findings say may be mended; what was left out on purpose is no fault.",
    Kind.UNREADABLE: "Read it as another user, or on another machine.",
    Kind.CHANGED: "Wait until whoever writes to it is done, and verify again.",
    Kind.UNHASHABLE: "Nobody can tell here: only sha256, sha384 and sha512 can be computed.",
    Kind.UNKNOWN_COMPRESSION: "The bytes are right; what is in them was not looked at.",
    Kind.ABSENT: "Nothing needs to be done: it was left out on purpose.",
    Kind.ORPHAN: "Nothing needs to be done; another tool may have its reasons.",
    Kind.STRAY: _NOTHING,
    Kind.LEFTOVER: "Nothing needs to be done: the next pull clears it.",
    Kind.AMBIGUOUS_NAME: "Give the images full names; skopeo, umoci and oras cannot tell them apart.",
    Kind.DANGLING_SUBJECT: _NOTHING,
    Kind.UNKNOWN_TYPE: _NOTHING,
    Kind.NOT_RECORDED: "Give a record of it too, or name the images that are to be verified.",
    Kind.VARIANT: _NOTHING,
    Kind.HISTORY_COUNT: _NOTHING,
    Kind.NOT_A_TAR: "The bytes are those that were published; a runtime may refuse to unpack them.",
    Kind.DUPLICATE_PATH: "Nothing needs to be done: runtimes keep the last one.",
    Kind.DANGEROUS_PATH: "Unpack the layer only with a tool that keeps paths inside the target folder.",
}

# What to do about the content of a registry. A push asks by HEAD, and keeps what is there, whatever its bytes.
_DELETE = (
    "Have the registry's administrator delete it there, then push the image again from its layout: "
    "a push leaves alone what the registry says it has."
)
REGISTRY_HINTS: Mapping[Kind, str] = {
    Kind.MISSING: "Push the image again from its layout.",
    Kind.TOO_SHORT: _DELETE,
    Kind.TOO_LONG: _DELETE,
    Kind.CORRUPT: _DELETE,
    Kind.UNREADABLE: "Is the registry reachable, and well? Verify again when it answers.",
}
LOG_IN = "It needs credentials, or others: mirror login keeps them where mirror finds them."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    `kind` is a stable word; `subject` a digest, a name or a path inside the store; `size` the bytes
    that the subject should have, where that is known; `images` the names of the images that need it, and `platforms`
    those of their platforms that do, where an index tells them apart. `advice` is a hint that fits better than that of
    its kind.
    """

    kind: Kind
    severity: Severity
    subject: str
    expected: str
    found: str
    images: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    size: int | None = None
    advice: str | None = None

    @property
    def hint(self) -> str:
        """What a person can do about it."""
        return self.advice or HINTS[self.kind]

    def to_json(self) -> JsonObject:
        return {
            "kind": str(self.kind),
            "severity": str(self.severity),
            "subject": self.subject,
            "size": self.size,
            "expected": self.expected,
            "found": self.found,
            "images": list(self.images[:NAMED]),
            "moreImages": max(0, len(self.images) - NAMED),
            "platforms": list(self.platforms[:NAMED]),
            "morePlatforms": max(0, len(self.platforms) - NAMED),
            "hint": self.hint,
        }
