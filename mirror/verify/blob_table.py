"""All blobs of a store, in few bytes each: a normal layout may have a million.

A blob is a number, the index of its facts in several arrays. It takes about 200 bytes, most of them to find the number
of a digest. The uses of a blob form a linked chain; blobs that are used by the same images share one chain.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from mirror.content.hashing import BlobCheck, BlobFault
from mirror.oci.descriptor import CONFIG_TYPES, MANIFEST_TYPES, Descriptor, Platform
from mirror.oci.digest import Digest

# Flags of a blob: its kind according to the descriptors that name it, and whether it has been checked.
INDEX, FOREIGN, CONFIG, TAR, DONE = (1 << bit for bit in range(5))

_TYPES = [None, *sorted(MANIFEST_TYPES)]  # None: not a manifest; other types are only labels (`graph.same_kind`)
_TYPE_NUMBERS = {media_type: number for number, media_type in enumerate(_TYPES)}
_SHA256 = "sha256:"
_UNKNOWN = -1  # the size of a blob that no descriptor names
_SHORT = 31  # bytes of a digest in its key: a bytes object of length 31 takes 64 bytes, of length 32 it takes 80


class Use(NamedTuple):
    """A use of a blob by an image, for one platform or all. `optional`: the image is complete without it."""

    image: int
    platform: str | None
    optional: bool


class BlobTable:
    """The blobs of a store by number: 0, 1, … in the order in which they were added.

    `files` counts those that were found, `hashed` the bytes that were hashed.
    """

    def __init__(self) -> None:
        self.flags = bytearray()
        self.sizes = array("q")
        self.size_conflicts: dict[int, dict[int, None]] = {}
        self.type_conflicts: dict[int, dict[str, None]] = {}
        self.files = self.hashed = 0
        self._numbers: dict[bytes | str, int] = {}
        self._keys: list[bytes | str] = []
        self._last = bytearray()  # the last byte of each SHA-256, which is not in its key
        self._use = array("I")  # the end of the chain of each blob; 0: not used
        self._platform = array("I")  # 0: none
        self._types = bytearray()  # 0: not a manifest
        self._platforms: list[Platform] = []
        self._positions: dict[Platform, int] = {}
        self._chain_use, self._chain_before = array("I", [0]), array("I", [0])
        self._uses: list[Use] = []
        self._extended: dict[int, int] = {}  # (end of a chain, use) → end of the chain with that use
        self._diff_ids = bytearray()
        self._other_diff_ids: dict[int, list[Digest]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def number(self, digest: Digest) -> int:
        """Return the number of a digest, a new one if the digest is new."""
        key, last = self._key(digest)
        number = self._numbers.setdefault(key, len(self._keys))
        if number == len(self._keys):
            self._keys.append(key)
            self._last.append(last)
            self.flags.append(0)
            self.sizes.append(_UNKNOWN)
            self._use.append(0)
            self._platform.append(0)
            self._types.append(0)
        return number

    def find(self, digest: Digest) -> int | None:
        """Return the number of a digest; None if it has not been added."""
        key, last = self._key(digest)
        number = self._numbers.get(key)
        return number if number is not None and self._last[number] == last else None

    def has_manifest(self, digest: Digest) -> bool:
        """Return whether a descriptor names the digest as a manifest or an index."""
        number = self.find(digest)
        return number is not None and self.media_type(number) is not None

    def _key(self, digest: Digest) -> tuple[bytes | str, int]:
        if not digest.startswith(_SHA256):
            return str(digest), 0
        raw = bytes.fromhex(digest[len(_SHA256) :])
        short, last = raw[:_SHORT], raw[_SHORT]
        other = self._numbers.get(short)  # a manifest may name two digests that differ only in the last byte
        return (short if other is None or self._last[other] == last else raw), last

    def digest(self, number: int) -> Digest:
        key = self._keys[number]
        if isinstance(key, str):
            return Digest(key)
        return Digest(f"{_SHA256}{key[:_SHORT].hex()}{self._last[number]:02x}")

    def bucket(self, number: int, buckets: int) -> int:
        """Return the part of a sample that the blob belongs to: the same in every run, in parts of about equal size."""
        key = self._keys[number]
        return (zlib.crc32(key.encode()) if isinstance(key, str) else int.from_bytes(key[:8])) % buckets

    # --- descriptors --------------------------------------------------------------------------------------------

    def add(self, node: Descriptor) -> int:
        """Add the blob of a descriptor, and return its number. If two descriptors disagree, the first one counts."""
        number = self.number(node.digest)
        self.flags[number] |= _flags(node)
        if node.platform and not self._platform[number]:
            position = self._positions.setdefault(node.platform, len(self._platforms))
            if position == len(self._platforms):
                self._platforms.append(node.platform)
            self._platform[number] = position + 1
        size, kind = self.sizes[number], _TYPE_NUMBERS.get(node.media_type, 0)
        if size == _UNKNOWN:
            self.sizes[number], self._types[number] = node.size, kind
            return number
        if size != node.size:
            self.size_conflicts.setdefault(number, {size: None})[node.size] = None
        known = self._types[number]
        if known != kind:
            types = self.type_conflicts.setdefault(number, {_TYPES[known] or "a blob": None})
            types[_TYPES[kind] or "a blob"] = None
            self._types[number] = known or kind
        return number

    def total_size(self) -> int:
        """Return the bytes of all blobs according to their descriptors."""
        return sum(size for size in self.sizes if size != _UNKNOWN)

    def size(self, number: int) -> int | None:
        """Return the bytes of a blob according to its descriptor; None if no descriptor names it."""
        size = self.sizes[number]
        return None if size == _UNKNOWN else size

    def media_type(self, number: int) -> str | None:
        """Return the type of a manifest or an index; None for other blobs."""
        return _TYPES[self._types[number]]

    def platform(self, number: int) -> Platform | None:
        """Return the platform that an index gives a manifest."""
        position = self._platform[number]
        return self._platforms[position - 1] if position else None

    def finish(self, number: int, check: BlobCheck) -> bool:
        """Count a checked blob; return False if it was checked before."""
        if self.flags[number] & DONE:
            return False
        self.flags[number] |= DONE
        self.files += check.fault is not BlobFault.MISSING
        self.hashed += check.hashed
        return True

    # --- uses ---------------------------------------------------------------------------------------------------

    def new_use(self, image: int, platform: str | None, optional: bool = False) -> int:
        self._uses.append(Use(image, platform, optional))
        return len(self._uses) - 1

    def add_use(self, number: int, use: int) -> None:
        """Add a use of a blob. Blobs with the same uses in the same order share a chain."""
        end = self._use[number]
        if end and self._chain_use[end] == use:
            return
        key = end << 32 | use
        if key not in self._extended:
            self._extended[key] = len(self._chain_use)
            self._chain_use.append(use)
            self._chain_before.append(end)
        self._use[number] = self._extended[key]

    def seal_uses(self) -> None:
        """Free the memory that is needed only to add the existing uses to more blobs."""
        self._extended.clear()

    def is_used(self, number: int) -> bool:
        return self._use[number] != 0

    def uses(self, number: int) -> Iterator[Use]:
        """Yield the uses of a blob in reverse order; some may occur twice."""
        end = self._use[number]
        while end:
            yield self._uses[self._chain_use[end]]
            end = self._chain_before[end]

    # --- diff_ids -----------------------------------------------------------------------------------------------

    def add_diff_id(self, number: int, diff_id: Digest) -> None:
        """Add a diff_id that a config gives a layer."""
        known = list(self.diff_ids(number))
        if diff_id in known:
            return
        raw = bytes.fromhex(diff_id[len(_SHA256) :]) if diff_id.startswith(_SHA256) else b""
        if known or not any(raw):
            self._other_diff_ids.setdefault(number, []).append(diff_id)
            return
        missing = (number + 1) * len(raw) - len(self._diff_ids)
        self._diff_ids += bytes(max(missing, 0))
        self._diff_ids[number * len(raw) : (number + 1) * len(raw)] = raw

    def diff_ids(self, number: int) -> Iterator[Digest]:
        raw = self._diff_ids[number * 32 : number * 32 + 32]
        if any(raw):
            yield Digest(_SHA256 + raw.hex())
        yield from self._other_diff_ids.get(number, ())


def _flags(node: Descriptor) -> int:
    if node.is_manifest:
        return INDEX if node.is_index else 0
    if node.media_type in CONFIG_TYPES:
        return CONFIG
    return (FOREIGN if node.is_foreign else 0) | (TAR if node.is_tar else 0)
