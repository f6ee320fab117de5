"""The content of the embedded registry, in memory.

Content is stored once by digest, and repositories link to it. A blob that was uploaded to one repository is unknown
in another one until it is mounted or uploaded there, as in every real registry.
"""

import hashlib
import re
from dataclasses import dataclass, field

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Spool:
    """Content that is being uploaded, and its hash so far."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.data += data
        self._sha256.update(data)

    def matches(self, digest: str) -> bool:
        algorithm, _, encoded = digest.partition(":")
        found = self._sha256 if algorithm == "sha256" else hashlib.new(algorithm, self.data)
        return found.hexdigest() == encoded


@dataclass
class Repository:
    """The content that one repository links to."""

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, str] = field(default_factory=dict)  # digest → media type
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, reference: str) -> str | None:
        """Return the digest of a manifest by its tag or digest."""
        digest = self.tags.get(reference, reference)
        return digest if digest in self.manifests else None


class Store:
    """Content and the repositories that link to it."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.repositories: dict[str, Repository] = {}

    def repository(self, name: str) -> Repository | None:
        return self.repositories.get(name)

    def change(self, name: str) -> Repository:
        """Return a repository that is going to be changed, and create it if necessary."""
        return self.repositories.setdefault(name, Repository())

    def link_blob(self, name: str, digest: str) -> None:
        self.change(name).blobs.add(digest)

    def link_manifest(self, name: str, digest: str, media_type: str, tag: str | None) -> None:
        repository = self.change(name)
        repository.manifests[digest] = media_type
        if tag is not None:
            repository.tags[tag] = digest

    def has_blob(self, name: str, digest: str) -> bool:
        repository = self.repository(name)
        return repository is not None and digest in repository.blobs and digest in self.contents
