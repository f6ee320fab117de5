"""The protocols of stores: the roles that registries, layouts and archives play. A store may play several roles.

A copy knows only these protocols, and a store does not know the other side of a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol, TypeGuard, runtime_checkable

if TYPE_CHECKING:
    from mirror.content.finding import Finding
    from mirror.content.hashing import BlobCheck, Reader
    from mirror.content.known import KnownContent
    from mirror.content.stream import BlobReader, Fetch
    from mirror.oci.descriptor import Descriptor
    from mirror.oci.digest import Digest


class Source(Protocol):
    """A store that content can be read from. Nothing that it returns has been verified."""

    async def resolve(self, name: str) -> Descriptor:
        """Return the root that `name` (a tag or a digest) points to, with its bytes embedded if they were read anyway.

        Raises:
            NotFound: there is no such name.
        """
        ...

    def open_blob(self, node: Descriptor, start: int = 0) -> AbstractAsyncContextManager[BlobReader]:
        """Open the content of `node` at the offset `start`, or at 0 if the store cannot seek.

        Raises:
            MirrorError: it is not there, or cannot be read; also during iteration.
        """
        ...


class PeekingSource(Source, Protocol):
    """A source that can resolve a name without sending the manifest."""

    async def peek(self, name: str) -> Descriptor | None:
        """Return the root that a name is said to point to; None if that is not known."""
        ...


def peeks(source: Source) -> TypeGuard[PeekingSource]:
    """Return whether a source is a `PeekingSource`; see `checks_batches`."""
    return hasattr(source, "peek")


class RememberingSource(Source, Protocol):
    """A source whose small content is read, verified and parsed once, although several steps of a copy need it."""

    @property
    def known(self) -> KnownContent:
        """The content that has been read."""
        ...


def remembers(source: Source) -> TypeGuard[RememberingSource]:
    """Return whether a source is a `RememberingSource`; see `checks_batches`."""
    return hasattr(source, "known")


class Dated(Source, Protocol):
    """A source that knows when content was created."""

    async def modified(self, node: Descriptor) -> float | None:
        """Return the time of the blob `node` in seconds since the epoch, or None if it is unknown."""
        ...


class BlobChecker(Protocol):
    """A store that can be asked for a blob."""

    async def has(self, node: Descriptor) -> bool:
        """Return True if `node` need not be put: a layout has hashed it, a registry claims to have it."""
        ...


class BatchChecker(BlobChecker, Protocol):
    """A store that can be asked for several small blobs at once, in less time than one by one."""

    async def has_all(self, nodes: Sequence[Descriptor]) -> list[bool]:
        """Return, for each of `nodes`, what `has` returns."""
        ...


def checks_batches(store: BlobChecker) -> TypeGuard[BatchChecker]:
    """Return whether a store is a `BatchChecker`; `isinstance` of a protocol would take longer than the question."""
    return hasattr(store, "has_all")


class Sink(BlobChecker, Protocol):
    """A store that content can be put into. It becomes visible only when it is complete and verified."""

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """Store the content of `node`, and verify its size and digest on the way.

        Args:
            node: the descriptor.
            fetch: opens the content at an offset; not called if the store needs no content.

        Raises:
            ContentError: the content does not match the descriptor; nothing of it is kept.
            MirrorError: the store refused.
        """
        ...

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """Make `name` point to `root`, whose bytes are `data` and whose graph is there already.

        Returns:
            The digest that the name pointed to before, if the store knows.
        """
        ...


class VerifiableStore(Protocol):
    """A store that can be verified: its content can be listed, and read in the form of an OCI image layout.

    Calls block, and come from several threads at once. Faulty content is neither repaired nor raised, but returned.
    """

    @property
    def name(self) -> str:
        """The name of the store, for messages."""
        ...

    @property
    def is_archive(self) -> bool:
        """Return True for an archive, which other tools may have written, and False for a directory."""
        ...

    def read(self, name: str, cap: int) -> bytes:
        """Return the content of a small file at the top: `oci-layout`, `index.json`.

        Raise FileNotFoundError if it is not there, and BrokenLayout if it is not a regular file of at most `cap` bytes.
        """
        ...

    def open(self, digest: Digest) -> Reader | BlobCheck:
        """Open the blob of this digest, or return the fault. Links are never followed."""
        ...

    def stored(self) -> Iterator[tuple[str, str]]:
        """Yield all names below `blobs/`, as (algorithm, encoded). They need not be digests."""
        ...

    def faults(self) -> Iterator[Finding]:
        """Yield what is wrong with the store itself, whichever images are verified."""
        ...

    def docker_manifest(self) -> bytes | None:
        """Return the `manifest.json` of an archive, from which docker loads images; None if there is none.

        Raise ContentError if it is too large.
        """
        ...

    def leftovers(self) -> Iterator[Finding]:
        """Yield files beside the layout that have no use."""
        ...

    def close(self) -> None: ...


class Progress(Protocol):
    """A receiver of progress reports. Sizes are bytes; all calls come from the event loop's thread."""

    def plan(self, phase: str, blobs: int, size: int) -> None:
        """Begin a phase of so many blobs and bytes: `checking`, `copying`, `verifying`, `walking` (images)."""
        ...

    def begin(self, node: Descriptor) -> None:
        """Begin a blob, or begin it again."""
        ...

    def advance(self, node: Descriptor | None, count: int) -> None:
        """Count bytes of a blob (None: of anything) as done; a negative count means that it starts again."""
        ...

    def end(self, node: Descriptor) -> None:
        """End a blob, which is done or has failed."""
        ...


@runtime_checkable
class ImageProgress(Progress, Protocol):
    """`Progress` that is told about images too. A receiver without these calls is only told about blobs."""

    def skip(self, node: Descriptor, count: int) -> None:
        """Say that the next call of `advance` counts bytes that are not transferred now, but are there already.

        They belong to what is done, but not to a rate.
        """
        ...

    def expect_images(self, count: int) -> None:
        """Expect so many more images."""
        ...

    def locate(self, node: Descriptor, image: str, host: str) -> None:
        """Say for which image a blob is copied or hashed, and from or to which registry; empty if none."""
        ...

    def end_image(self) -> None:
        """End an image, which has got its name or has failed."""
        ...

    def result(self, line: str) -> None:
        """Take the result line of an image that is complete, named and durable; lines have the order of the images."""
        ...


def image_progress(progress: Progress | None) -> ImageProgress:
    """Return a receiver of all calls about images; if `progress` is none, one that does nothing."""
    return progress if isinstance(progress, ImageProgress) else NoProgress()


class NoProgress:
    """Progress that is not shown."""

    def plan(self, phase: str, blobs: int, size: int) -> None: ...
    def begin(self, node: Descriptor) -> None: ...
    def advance(self, node: Descriptor | None, count: int) -> None: ...
    def end(self, node: Descriptor) -> None: ...
    def skip(self, node: Descriptor, count: int) -> None: ...
    def expect_images(self, count: int) -> None: ...
    def locate(self, node: Descriptor, image: str, host: str) -> None: ...
    def end_image(self) -> None: ...
    def result(self, line: str) -> None: ...
