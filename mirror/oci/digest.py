"""A digest: the name of some bytes that only those bytes have.

Grammar: OCI image-spec, descriptor.md, "Digests". A digest becomes a path and a URL, so nothing else in this package
builds either from text that has not passed through `Digest.parse`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from mirror.errors import InvalidDigest

# fullmatch, because `$` accepts a trailing newline. The encoded part has no dot and no slash: no traversal.
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_REGISTERED = {
    "sha256": re.compile(r"[a-f0-9]{64}"),
    "sha384": re.compile(r"[a-f0-9]{96}"),
    "sha512": re.compile(r"[a-f0-9]{128}"),
}
_LONGEST = 256  # characters; a file name may have 255


class Hasher(Protocol):
    """What `hashlib` gives: feed it bytes, ask it for the hexadecimal digest."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digest(str):
    """A validated digest, `algorithm:encoded`. It is its text, so it sorts, hashes and prints as such."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Validate `text`.

        Raises:
            InvalidDigest: it is no string, breaks the grammar, or has the wrong length or case for its algorithm.
        """
        if not isinstance(text, str) or len(text) > _LONGEST or not _GRAMMAR.fullmatch(text):
            raise InvalidDigest(f"{_shown(text)} is no digest.")
        algorithm, _, encoded = text.partition(":")
        form = _REGISTERED.get(algorithm)
        if form and not form.fullmatch(encoded):
            raise InvalidDigest(f"{_shown(text)} is no {algorithm} digest.")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """The SHA-256 digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        return self.partition(":")[2]

    @property
    def hashable(self) -> bool:
        """Whether we can compute this algorithm, and so say anything about content named by it."""
        return self.algorithm in _REGISTERED

    @property
    def short(self) -> str:
        """The first twelve characters, as people quote them. For display only."""
        return self.encoded[:12]

    def hasher(self) -> Hasher:
        """A fresh hash of this digest's own algorithm.

        Raises:
            InvalidDigest: the algorithm is none that we can compute.
        """
        if not self.hashable:
            raise InvalidDigest(
                f"{self} uses {self.algorithm}, which mirror cannot compute.",
                hint="Only sha256, sha384 and sha512 can be verified; unverified content is never stored.",
            )
        return hashlib.new(self.algorithm, usedforsecurity=True)

    def matches(self, hasher: Hasher) -> bool:
        return hasher.hexdigest() == self.encoded


def _shown(text: object) -> str:
    return repr(text if not isinstance(text, str) or len(text) <= _LONGEST else text[:_LONGEST] + "…")
