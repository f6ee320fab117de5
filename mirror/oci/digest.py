"""Digests (OCI image-spec, descriptor.md, "Digests").

Digests become parts of paths and URLs, so paths and URLs must only be built from digests that `Digest.parse` returned.
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from mirror.errors import InvalidDigest
from mirror.text.redaction import excerpt

# For fullmatch, since `$` accepts a trailing newline. The encoded part has no dot or slash: no path traversal.
_GRAMMAR = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_HEX = re.compile(r"[a-f0-9]+")
_REGISTERED = {"sha256": 64, "sha384": 96, "sha512": 128}  # characters of the encoded part
_HASHERS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
_LONGEST = 256  # characters; a file name may have 255


class Hasher(Protocol):
    """A hash object of `hashlib`."""

    def update(self, data: bytes | memoryview, /) -> None: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> Hasher: ...


class Digest(str):
    """A validated digest, `algorithm:encoded`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: object) -> Digest:
        """Validate `text`.

        Raises:
            InvalidDigest: not a string, outside the grammar, or of the wrong length or case for its algorithm.
        """
        if not isinstance(text, str) or len(text) > _LONGEST or not _GRAMMAR.fullmatch(text):
            raise InvalidDigest(f"{_shown(text)} is not a valid digest.")
        algorithm, _, encoded = text.partition(":")
        length = _REGISTERED.get(algorithm)
        if length and not (len(encoded) == length and _HEX.fullmatch(encoded)):
            raise InvalidDigest(f"{_shown(text)} is not a valid {algorithm} digest.")
        return cls(text)

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the SHA-256 digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    def compute(self, data: bytes) -> Digest:
        """Return the digest of `data` by the same algorithm; raises as `hasher`."""
        hasher = self.hasher()
        hasher.update(data)
        return Digest(f"{self.algorithm}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        return self.partition(":")[2]

    @property
    def hashable(self) -> bool:
        """True if the algorithm is supported, so that content can be verified."""
        return self.algorithm in _REGISTERED

    @property
    def short(self) -> str:
        """The first twelve characters, for display only."""
        return self.encoded[:12]

    def hasher(self) -> Hasher:
        """Return a new hash object for the algorithm.

        Raises:
            InvalidDigest: the algorithm is not supported.
        """
        if not self.hashable:
            raise InvalidDigest(
                f"{self}: digest algorithm {self.algorithm} is not supported.",
                hint="Supported are sha256, sha384 and sha512. Content that cannot be verified is never stored.",
            )
        return _HASHERS[self.algorithm]()

    def matches(self, hasher: Hasher) -> bool:
        """Return whether this is the digest of the data that `hasher`, of this algorithm, was updated with."""
        return hasher.hexdigest() == self.encoded


def _shown(text: object) -> str:
    return repr(text if not isinstance(text, str) or len(text) <= _LONGEST else excerpt(text, _LONGEST) + "…")
