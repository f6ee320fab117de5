"""Reading of stored manifests that may relate to others, before anything says that they are manifests."""

from __future__ import annotations

import re
from contextlib import closing, suppress

from mirror.content.hashing import BlobCheck, Reader
from mirror.errors import InvalidDigest
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP
from mirror.oci.digest import Digest

_HEAD = 64 * 1024  # bytes: most manifests are smaller, so one read is enough
_MENTIONS = (b'"subject"', b'"manifests"')  # a manifest that relates to others has one of these keys
_SUBJECT = rb'"subject"\s*:\s*\{[^{}]*?"digest"\s*:\s*"([a-z0-9]+:[0-9a-f]+)"'  # compiled on first use, which is rare


def read_document(opened: Reader | BlobCheck, digest: Digest) -> bytes | None:
    """Read and close a blob; return its verified content if it may be a manifest that relates to others, else None."""
    data = read_related(opened)
    with suppress(InvalidDigest):
        return data if data is not None and digest.compute(data) == digest else None
    return None


def read_related(opened: Reader | BlobCheck) -> bytes | None:
    """As `read_document`, but without a check of the content."""
    data = read_object(opened)
    return data if data is not None and any(key in data for key in _MENTIONS) else None


def read_object(opened: Reader | BlobCheck) -> bytes | None:
    """Read and close a blob; return its content, unverified, if it is no larger than a manifest, and begins like one.

    Otherwise only its beginning is read.
    """
    if isinstance(opened, BlobCheck):
        return None
    with closing(opened), suppress(OSError):
        if opened.size <= MANIFEST_CAP and manifest.may_be_manifest(data := _read(opened, min(opened.size, _HEAD))):
            return data + _read(opened, opened.size - len(data))
    return None


def shown_subject(data: bytes) -> Digest | None:
    """Return the digest in the `subject` of a damaged manifest, which need not be JSON any more; None if there is none.

    If it has become another one, the manifest refers to nothing that is known.
    """
    found = re.search(_SUBJECT, data)
    try:
        return Digest.parse(found[1].decode()) if found else None
    except InvalidDigest:
        return None


def _read(reader: Reader, size: int) -> bytes:
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while count := reader.readinto(view[done:]) if done < size else 0:
        done += count
    return bytes(buffer[:done])
