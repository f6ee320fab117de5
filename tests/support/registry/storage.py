"""Where the embedded registry keeps content: in memory, or in a folder that outlives the process.

Content is stored once by digest; a repository only links to it. So a blob that was uploaded to one repository
is unknown in another until it is mounted or uploaded there, as in every real registry.
"""

import hashlib
import io
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from tests.support.registry.messages import Body, FilePart

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Spool:
    """Content on its way in: a file, which has a path if it is on disk, and its hash so far."""

    def __init__(self, file: IO[bytes], path: Path | None = None) -> None:
        self.file = file
        self.path = path
        self.size = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self.file.write(data)
        self._sha256.update(data)
        self.size += len(data)

    def matches(self, digest: str) -> bool:
        algorithm, _, encoded = digest.partition(":")
        if algorithm == "sha256":
            return self._sha256.hexdigest() == encoded
        self.file.seek(0)
        return hashlib.file_digest(self.file, algorithm).hexdigest() == encoded  # type: ignore[arg-type]

    def discard(self) -> None:
        self.file.close()
        if self.path:
            self.path.unlink(missing_ok=True)


class Contents(Protocol):
    """Bytes by digest."""

    def __contains__(self, digest: str) -> bool: ...
    def body(self, digest: str) -> Body: ...
    def read(self, digest: str) -> bytes: ...
    def put(self, digest: str, data: bytes) -> None: ...
    def spool(self) -> Spool: ...
    def keep(self, digest: str, spool: Spool) -> None: ...


class MemoryContents:
    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def __contains__(self, digest: str) -> bool:
        return digest in self._data

    def body(self, digest: str) -> Body:
        return self._data[digest]

    def read(self, digest: str) -> bytes:
        return self._data[digest]

    def put(self, digest: str, data: bytes) -> None:
        self._data[digest] = data

    def spool(self) -> Spool:
        return Spool(io.BytesIO())

    def keep(self, digest: str, spool: Spool) -> None:
        spool.file.seek(0)
        self._data[digest] = spool.file.read()
        spool.discard()


class FolderContents:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def _path(self, digest: str) -> Path:
        return self._root / digest.replace(":", "-")

    def __contains__(self, digest: str) -> bool:
        return self._path(digest).exists()

    def body(self, digest: str) -> Body:
        path = self._path(digest)
        return FilePart(path, 0, path.stat().st_size)

    def read(self, digest: str) -> bytes:
        return self._path(digest).read_bytes()

    def put(self, digest: str, data: bytes) -> None:
        # A new file, not a write into the old one: somebody may be reading that.
        spool = self.spool()
        spool.write(data)
        self.keep(digest, spool)

    def spool(self) -> Spool:
        path = self._root / f"upload-{secrets.token_hex(8)}"
        return Spool(path.open("x+b"), path)

    def keep(self, digest: str, spool: Spool) -> None:
        spool.file.close()
        assert spool.path is not None
        spool.path.replace(self._path(digest))


@dataclass
class Repository:
    """What one repository links to."""

    blobs: set[str] = field(default_factory=set)
    manifests: dict[str, str] = field(default_factory=dict)  # digest → media type
    tags: dict[str, str] = field(default_factory=dict)

    def find(self, reference: str) -> str | None:
        """The digest of a manifest by tag or digest."""
        digest = self.tags.get(reference, reference)
        return digest if digest in self.manifests else None

    def to_json(self) -> dict[str, Any]:
        return {"blobs": sorted(self.blobs), "manifests": self.manifests, "tags": self.tags}


class Store:
    """Content and the repositories that link to it."""

    def __init__(self, root: Path | None = None) -> None:
        self.contents: Contents = FolderContents(root / "blobs") if root else MemoryContents()
        self.repositories: dict[str, Repository] = {}
        self._state = root / "repositories.json" if root else None
        if self._state and self._state.exists():
            saved = json.loads(self._state.read_text())
            self.repositories = {
                name: Repository(set(links["blobs"]), links["manifests"], links["tags"])
                for name, links in saved.items()
            }

    def repository(self, name: str) -> Repository | None:
        return self.repositories.get(name)

    def change(self, name: str, how: Callable[[Repository], object]) -> None:
        """Change a repository, which comes to be by its first change, and save what has to outlive us."""
        how(self.repositories.setdefault(name, Repository()))
        if self._state:
            text = json.dumps({name: links.to_json() for name, links in self.repositories.items()}, indent=1)
            self._state.write_text(text)

    def link_blob(self, name: str, digest: str) -> None:
        self.change(name, lambda repository: repository.blobs.add(digest))

    def link_manifest(self, name: str, digest: str, media_type: str, tag: str | None) -> None:
        def link(repository: Repository) -> None:
            repository.manifests[digest] = media_type
            if tag is not None:
                repository.tags[tag] = digest

        self.change(name, link)

    def has_blob(self, name: str, digest: str) -> bool:
        repository = self.repository(name)
        return repository is not None and digest in repository.blobs and digest in self.contents
