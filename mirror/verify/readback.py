"""Reading back what a registry should have: names are resolved, and every byte is fetched and hashed.

What a registry says that it has is its word; this is the proof. All findings come out of one run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

from mirror.concurrency import map_concurrently
from mirror.content import stream
from mirror.content.finding import LOG_IN, REGISTRY_HINTS, Finding, Kind, Severity
from mirror.content.store import NoProgress, Progress, Source
from mirror.errors import (
    ContentError,
    DigestMismatch,
    InvalidDigest,
    MirrorError,
    NotFound,
    SizeMismatch,
    TransferError,
    Unauthorized,
)
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import raw_children
from mirror.oci.referrers import Tagged
from mirror.retry import RetryPolicy

_SHUT = (None, 401, 403, 407)  # no answer, or none to us: what is asked next would come to the same


@dataclass(frozen=True, slots=True)
class Expected:
    """An image as it should be: the tag or digest (`target`) by which `source` knows it, its root and its content.

    Where `target` is None, what it stands for is known already. `tags` are those of what refers to it.
    """

    name: str
    source: Source
    target: str | None
    digest: Digest
    content: tuple[Descriptor, ...]
    tags: tuple[Tagged, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What is not as it should be: `error` where it is wrong or missing, `unverified` where nobody could tell.

    Of `files` pieces of content it is known how they are; `size` bytes were hashed.
    """

    findings: list[Finding]
    files: int
    size: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """One piece of content in one source, and the images that need it."""

    node: Descriptor
    source: Source
    images: list[str] = field(default_factory=list)


async def read_back(
    images: Sequence[Expected], *, jobs: int, retry: RetryPolicy, progress: Progress | None = None
) -> ReadBack:
    """Resolve every name and hash every byte; what several images of one source share is read once.

    Where a registry cannot be reached, or refuses us an image by its name, one finding says so for the whole image.
    """
    progress = progress or NoProgress()
    found: dict[tuple[int, Digest, int], _Piece] = {}
    for image in images:
        for node in image.content:
            piece = found.setdefault((id(image.source), node.digest, node.size), _Piece(node, image.source))
            piece.images.append(image.name)
    largest_first = sorted(found.values(), key=lambda piece: -piece.node.size)
    progress.plan("verifying", len(found), sum(piece.node.size for piece in largest_first))
    reading = _Reading(jobs, retry, progress)
    names = await map_concurrently(images, reading.resolve, jobs)
    contents = await map_concurrently(largest_first, reading.examine, jobs)
    findings = [*chain.from_iterable(names), *(finding for finding in contents if finding)]
    return ReadBack(findings, reading.files, reading.size)


class _Reading:
    """One reading back: what it has come to, and the images of which nothing more is asked."""

    def __init__(self, jobs: int, retry: RetryPolicy, progress: Progress) -> None:
        self.files = self.size = 0
        self._given_up: set[str] = set()
        self._retry, self._progress, self._batch = retry, progress, stream.batch_size(jobs)

    async def resolve(self, image: Expected) -> list[Finding]:
        """Whether the name of an image and the tags of what refers to it stand for what they should."""
        own = [Tagged(image.target, image.digest)] if image.target else []
        findings = []
        for tag in (*own, *image.tags):
            try:
                root = await self._retry.run(partial(image.source.resolve, tag.tag))
            except MirrorError as error:
                findings.append(_unresolved(error, tag, image.name))
                if isinstance(error, TransferError) and error.status in _SHUT:
                    self._given_up.add(image.name)
                    break
            else:
                findings += _moved(root, tag, image.name)
        return findings

    async def examine(self, piece: _Piece) -> Finding | None:
        """Whether a piece of content is there, and is what it should be."""
        node, images = piece.node, self._hopeful(piece)
        if not images:
            return None
        self._progress.begin(node)
        try:
            await self._retry.run(partial(_hash, node, piece.source, self._batch, self._progress))
        except MirrorError as error:
            return self._failed(error, piece)
        finally:
            self._progress.end(node)
        self._count(node.size)
        return None

    def _failed(self, error: MirrorError, piece: _Piece) -> Finding | None:
        images = tuple(dict.fromkeys(piece.images))
        if isinstance(error, TransferError) and error.status is None and not error.transient:  # no connection at all
            images = self._hopeful(piece)
            self._given_up.update(images)
        finding = finding_of(error, piece.node.digest, f"{piece.node.size} bytes", images, piece.node.size)
        if finding.severity is Severity.ERROR:
            self._count(piece.node.size if isinstance(error, DigestMismatch) else 0)
        return finding if images else None

    def _hopeful(self, piece: _Piece) -> tuple[str, ...]:
        """The images that need a piece, but for those whose one finding says already that nobody could tell."""
        return tuple(name for name in dict.fromkeys(piece.images) if name not in self._given_up)

    def _count(self, size: int) -> None:
        self.files += 1
        self.size += size


def _unresolved(error: MirrorError, tag: Tagged, image: str) -> Finding:
    if isinstance(error, ContentError) and not isinstance(error, DigestMismatch):  # it is no manifest any more
        return Finding(Kind.MOVED, Severity.ERROR, tag.tag, tag.digest, str(error).rstrip("."), (image,))
    return finding_of(error, tag.tag, tag.digest, (image,))


def _moved(root: Descriptor, tag: Tagged, image: str) -> Iterator[Finding]:
    """A list of referrers may have got more members, and no fewer."""
    if root.digest == tag.digest:
        return
    if not tag.members:
        yield Finding(Kind.MOVED, Severity.ERROR, tag.tag, tag.digest, root.digest, (image,))
        return
    listed = raw_children(root.data, tag.tag) if root.is_index and root.data else []
    there = {child["digest"] for child in listed}
    for digest in tag.members:
        if digest not in there:
            found = f"{root.digest} without it"
            yield _finding(Kind.MISSING, Severity.ERROR, tag.tag, f"a list with {digest}", found, (image,))


async def _hash(node: Descriptor, source: Source, size: int, progress: Progress) -> None:
    done, check = 0, stream.Verifier(node)

    async def counted(batches: AsyncIterator[stream.Batch]) -> AsyncIterator[stream.Batch]:
        nonlocal done
        async for batch in batches:
            count = sum(map(len, batch))
            done += count
            progress.advance(node, count)
            yield batch

    try:
        async with source.open_blob(node) as body:
            await stream.pipeline(counted(stream.batches(body, node, size)), check.update)
        check.finish(body.called(node))
    except BaseException:
        progress.advance(node, -done)
        raise


def finding_of(
    error: MirrorError, subject: str, expected: str, images: tuple[str, ...], size: int | None = None
) -> Finding:
    """What an error comes to where something should have been read from a registry."""
    if isinstance(error, NotFound) or (isinstance(error, TransferError) and error.status == 404):
        return _finding(Kind.MISSING, Severity.ERROR, subject, expected, "nothing", images, size)
    if isinstance(error, SizeMismatch):
        kind = Kind.TOO_SHORT if error.got is not None and error.got < error.want else Kind.TOO_LONG
        found = "more" if error.got is None else f"{error.got} bytes"
        return _finding(kind, Severity.ERROR, subject, expected, found, images, size)
    if isinstance(error, DigestMismatch):
        return _finding(Kind.CORRUPT, Severity.ERROR, subject, error.want, error.got, images, size)
    if isinstance(error, InvalidDigest):
        return Finding(Kind.UNHASHABLE, Severity.UNVERIFIED, subject, expected, str(error), images, size=size)
    found = str(error).rstrip(".")
    finding = _finding(Kind.UNREADABLE, Severity.UNVERIFIED, subject, expected, found, images, size)
    return replace(finding, advice=LOG_IN if isinstance(error, Unauthorized) else error.hint or finding.advice)


def _finding(
    kind: Kind,
    severity: Severity,
    subject: str,
    expected: str,
    found: str,
    images: tuple[str, ...],
    size: int | None = None,
) -> Finding:
    """One with the advice that is right for a registry."""
    return Finding(kind, severity, subject, expected, found, images, size=size, advice=REGISTRY_HINTS[kind])
