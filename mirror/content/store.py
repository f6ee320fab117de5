"""Where content comes from and where it goes: the roles that registries, layouts and archives play.

`copy` knows only these. A store may play several roles; none of them knows who is on the other side.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mirror.content.finding import Finding
    from mirror.content.hashing import BlobCheck, Reader
    from mirror.content.stream import BlobReader, Fetch
    from mirror.oci.descriptor import Descriptor
    from mirror.oci.digest import Digest


class Source(Protocol):
    """Somewhere that content can be read from. Nothing that it says is checked yet."""

    async def resolve(self, name: str) -> Descriptor:
        """The root that `name` (a tag or a digest) stands for, its own bytes embedded where they were read anyway.

        Raises:
            NotFound: there is no such name.
        """
        ...

    def open_blob(self, node: Descriptor, start: int = 0) -> AbstractAsyncContextManager[BlobReader]:
        """The content of `node` from the byte `start` on; all of it where the store cannot begin in the middle.

        Raises:
            MirrorError: it is not there, or cannot be read; during iteration too.
        """
        ...


class Dated(Source, Protocol):
    """A source that can be asked when content was made, without giving the content."""

    async def modified(self, node: Descriptor) -> float | None:
        """When the blob `node` was made, in seconds since the epoch; None where nobody says.

        Raises:
            MirrorError: it could not be asked.
        """
        ...


class BlobChecker(Protocol):
    """Somewhere that can be asked what it holds."""

    async def has(self, node: Descriptor) -> bool:
        """Whether `node` need not be put: a layout has hashed it, a registry gives its word."""
        ...


class Sink(BlobChecker, Protocol):
    """Somewhere that content can be put. It becomes visible only when it is whole and has been verified."""

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """Take the content of `node`, verifying size and digest on the way.

        Args:
            node: what to take.
            fetch: opens the content, at the offset from which on it is wanted; called where the content is needed.

        Raises:
            ContentError: the bytes are not what the descriptor says; nothing of them is kept.
            MirrorError: the store refused.
        """
        ...

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """Make `name` stand for `root`, whose bytes are `data` and whose graph is there already.

        Returns:
            What the name stood for before, where the store knows.
        """
        ...


class VerifiableStore(Protocol):
    """A store that can be verified: all that it holds can be listed, and read in the form of an OCI image layout.

    Calls block, and several threads call at once. Nothing is repaired, and nothing that is wrong with the content
    raises: it is an answer.
    """

    @property
    def name(self) -> str:
        """What a person calls the store, for messages."""
        ...

    def read(self, name: str, cap: int) -> bytes:
        """The whole of a small file at the top: `oci-layout`, `index.json`.

        Raises:
            FileNotFoundError: it is not there.
            BrokenLayout: something else than a file has its name, or it has more than `cap` bytes.
            StorageError: it cannot be read.
        """
        ...

    def open(self, digest: Digest) -> Reader | BlobCheck:
        """The blob of this name, or what stands in its place. Links are never followed."""
        ...

    def stored(self) -> Iterator[tuple[str, str]]:
        """All names below `blobs/`, as (algorithm, encoded). Anything may stand there.

        Raises:
            StorageError: a directory cannot be read.
        """
        ...

    def faults(self) -> Iterator[Finding]:
        """What is wrong with the store itself, whichever of its images is asked about."""
        ...

    def docker_manifest(self) -> bytes | None:
        """The `manifest.json` of an archive, from which docker loads images; None if there is none.

        Raises:
            ContentError: it is too large.
            StorageError: it cannot be read.
        """
        ...

    def leftovers(self) -> Iterator[Finding]:
        """What is there beside the layout and has no use."""
        ...

    def close(self) -> None: ...


class Progress(Protocol):
    """Who wants to know how a copy goes. Sizes are bytes; all calls come from the event loop's thread."""

    def plan(self, phase: str, blobs: int, size: int) -> None:
        """A phase begins, over so many blobs and bytes: `checking`, `copying`, `verifying`, `surveying` (of images)."""
        ...

    def begin(self, node: Descriptor) -> None:
        """A blob starts, or starts again."""
        ...

    def advance(self, node: Descriptor | None, count: int) -> None:
        """`count` bytes more of it (None: of anything) are done; fewer than none when a blob has to start again."""
        ...

    def end(self, node: Descriptor) -> None:
        """It is done, or has failed."""
        ...


class NoProgress:
    """Progress for nobody."""

    def plan(self, phase: str, blobs: int, size: int) -> None: ...
    def begin(self, node: Descriptor) -> None: ...
    def advance(self, node: Descriptor | None, count: int) -> None: ...
    def end(self, node: Descriptor) -> None: ...
