"""Everything that a store names or holds, in few bytes each: a million blobs are a normal layout.

A blob is a number, and what is known of it stands in arrays at that place: about 200 bytes, most of them for finding
the number by the digest. Who needs a blob is a chain of uses; blobs that the same images share, share the chain too.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.content.hashing import BlobCheck, BlobFault
from mirror.oci.descriptor import CONFIG_TYPES, MANIFEST_TYPES, Descriptor, Platform
from mirror.oci.digest import Digest

# What is known of a blob, as bits: what it is called by those who name it, and how far it has been verified.
INDEX, FOREIGN, CONFIG, TAR, DONE = (1 << bit for bit in range(5))

_TYPES = [None, *sorted(MANIFEST_TYPES)]  # None: the type of a blob, which is only a label (`graph.same_kind`)
_TYPE_NUMBERS = {media_type: number for number, media_type in enumerate(_TYPES)}
_TAR = re.compile(r"\btar\b")  # in the types of layers; other content of an image may be anything
_SHA256 = "sha256:"
_NOBODY = -1  # as a size: nobody says
_SHORT = 31  # bytes of a digest that are a key: such an object takes 64 bytes, one of 32 takes 80


@dataclass(frozen=True, slots=True)
class Use:
    """Who needs something: an image (its position), for one platform or for all; `optional`: it does without."""

    image: int
    platform: str | None
    optional: bool


class BlobTable:
    """The blobs by number, from 0 on in the order in which they were noted.

    `files` were found, `size` bytes of them hashed.
    """

    def __init__(self) -> None:
        self.marks = bytearray()
        self.sizes = array("q")
        self.size_conflicts: dict[int, dict[int, None]] = {}
        self.type_conflicts: dict[int, dict[str, None]] = {}
        self.files = self.size = 0
        self._numbers: dict[bytes | str, int] = {}
        self._keys: list[bytes | str] = []
        self._last = bytearray()  # byte of a SHA-256, which its key lacks
        self._use = array("I")  # of each blob, the end of its chain; 0: no use
        self._platform = array("I")  # 0: none
        self._types = bytearray()  # 0: no manifest
        self._platforms: list[Platform] = []
        self._positions: dict[Platform, int] = {}
        self._chain_use, self._chain_before = array("I", [0]), array("I", [0])
        self._uses: list[Use] = []
        self._extended: dict[int, int] = {}  # of the current use: from the end of a chain to that chain with it
        self._wanted = bytearray()
        self._odd: dict[int, list[Digest]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def note(self, digest: Digest) -> int:
        """The number of a digest, a new one where it is new."""
        key, last = self._key(digest)
        number = self._numbers.setdefault(key, len(self._keys))
        if number == len(self._keys):
            self._keys.append(key)
            self._last.append(last)
            self.marks.append(0)
            self.sizes.append(_NOBODY)
            self._use.append(0)
            self._platform.append(0)
            self._types.append(0)
        return number

    def named(self, digest: Digest) -> bool:
        """Whether somebody names it, as a manifest or an index."""
        key, last = self._key(digest)
        number = self._numbers.get(key)
        return number is not None and self._last[number] == last and self.media_type(number) is not None

    def _key(self, digest: Digest) -> tuple[bytes | str, int]:
        if not digest.startswith(_SHA256):
            return str(digest), 0
        raw = bytes.fromhex(digest[len(_SHA256) :])
        short, last = raw[:_SHORT], raw[_SHORT]
        namesake = self._numbers.get(short)  # nobody finds two such digests, but anybody can write them down
        return (short if namesake is None or self._last[namesake] == last else raw), last

    def digest(self, number: int) -> Digest:
        key = self._keys[number]
        if isinstance(key, str):
            return Digest(key)
        return Digest(f"{_SHA256}{key[:_SHORT].hex()}{self._last[number]:02x}")

    def bucket(self, number: int, buckets: int) -> int:
        """Which part of a sample the blob belongs to: the same in every run, and nearly as many in each."""
        key = self._keys[number]
        return (zlib.crc32(key.encode()) if isinstance(key, str) else int.from_bytes(key[:8])) % buckets

    # --- what is said of a blob ----------------------------------------------------------------------------------

    def claim(self, node: Descriptor) -> int:
        """Somebody names a blob, and says how large it is and what. Of two who disagree, the first is believed.

        Returns:
            Its number.
        """
        number = self.note(node.digest)
        self.marks[number] |= _mark(node)
        if node.platform:
            self._place(number, node.platform)
        said, kind = self.sizes[number], _TYPE_NUMBERS.get(node.media_type, 0)
        if said == _NOBODY:
            self.sizes[number], self._types[number] = node.size, kind
            return number
        if said != node.size:
            self.size_conflicts.setdefault(number, {said: None})[node.size] = None
        known = self._types[number]
        if known != kind:
            types = self.type_conflicts.setdefault(number, {_TYPES[known] or "a blob": None})
            types[_TYPES[kind] or "a blob"] = None
            self._types[number] = known or kind
        return number

    def announced(self) -> int:
        """The bytes that all blobs should have, as far as anybody says."""
        return sum(size for size in self.sizes if size != _NOBODY)

    def said(self, number: int) -> int | None:
        """The bytes that it should have."""
        said = self.sizes[number]
        return None if said == _NOBODY else said

    def media_type(self, number: int) -> str | None:
        """The type of a manifest or an index; None for everything else."""
        return _TYPES[self._types[number]]

    def place(self, number: int) -> int:
        """The number of its platform, from 1 on; 0: nobody names one."""
        return self._platform[number]

    def platform(self, number: int) -> Platform | None:
        """What an index says that a manifest runs on."""
        position = self._platform[number]
        return self._platforms[position - 1] if position else None

    def _place(self, number: int, platform: Platform) -> None:
        position = self._positions.setdefault(platform, len(self._platforms))
        if position == len(self._platforms):
            self._platforms.append(platform)
        self._platform[number] = self._platform[number] or position + 1

    def settle(self, number: int, verdict: BlobCheck) -> bool:
        """Note that a blob has been looked at as closely as it is going to be; False where it had been before."""
        if self.marks[number] & DONE:
            return False
        self.marks[number] |= DONE
        self.files += verdict.flaw is not BlobFault.MISSING
        self.size += verdict.hashed
        return True

    # --- who needs it --------------------------------------------------------------------------------------------

    def new_use(self, image: int, platform: str | None, optional: bool = False) -> int:
        self._uses.append(Use(image, platform, optional))
        return len(self._uses) - 1

    def add_use(self, number: int, use: int) -> None:
        """Say that a blob is needed. All blobs of one use are best added in turn: then they share their chains."""
        end = self._use[number]
        if end and self._chain_use[end] == use:
            return
        key = end << 32 | use
        if key not in self._extended:
            self._extended[key] = len(self._chain_use)
            self._chain_use.append(use)
            self._chain_before.append(end)
        self._use[number] = self._extended[key]

    def forget_chains(self) -> None:
        """No use that was made so far is going to be added to another blob."""
        self._extended.clear()

    def used(self, number: int) -> bool:
        return self._use[number] != 0

    def uses(self, number: int) -> Iterator[Use]:
        """The uses of a blob, the last first; some may come twice."""
        end = self._use[number]
        while end:
            yield self._uses[self._chain_use[end]]
            end = self._chain_before[end]

    # --- what should be in it ------------------------------------------------------------------------------------

    def want(self, number: int, diff_id: Digest) -> None:
        """A config says what the layer should unpack to."""
        wanted = list(self.wanted(number))
        if diff_id in wanted:
            return
        raw = bytes.fromhex(diff_id[len(_SHA256) :]) if diff_id.startswith(_SHA256) else b""
        if wanted or not any(raw):
            self._odd.setdefault(number, []).append(diff_id)
            return
        missing = (number + 1) * len(raw) - len(self._wanted)
        self._wanted += bytes(max(missing, 0))
        self._wanted[number * len(raw) : (number + 1) * len(raw)] = raw

    def wanted(self, number: int) -> Iterator[Digest]:
        raw = self._wanted[number * 32 : number * 32 + 32]
        if any(raw):
            yield Digest(_SHA256 + raw.hex())
        yield from self._odd.get(number, ())


def _mark(node: Descriptor) -> int:
    if node.is_manifest:
        return INDEX if node.is_index else 0
    if node.media_type in CONFIG_TYPES:
        return CONFIG
    return (FOREIGN if node.is_foreign else 0) | (TAR if _TAR.search(node.media_type) else 0)
