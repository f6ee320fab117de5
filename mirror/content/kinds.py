"""Kinds of findings, how bad they are, and where they can be. Programs rely on these words."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """The severity of a finding. `unverified`: could not be checked, which is not the same as fine."""

    ERROR = "error"
    UNVERIFIED = "unverified"
    WARNING = "warning"


class StoreKind(StrEnum):
    """The kind of store that was verified. It decides which advice applies."""

    LAYOUT = "layout"
    ARCHIVE = "archive"
    REGISTRY = "registry"


class FindingKind(StrEnum):
    """The kinds of findings."""

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
    UNSUPPORTED_TYPE = "unsupported-type"
    NOT_UNPACKED = "not-unpacked"
    NOT_AN_IMAGE = "not-an-image"
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
    UNUSUAL_CONFIG = "unusual-config"
    NOT_A_TAR = "not-a-tar"
    DUPLICATE_PATH = "duplicate-path"
    DANGEROUS_PATH = "dangerous-path"


Kind = FindingKind  # its name inside the package
