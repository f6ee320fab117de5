"""Reading back what a registry should have: names are resolved, and every byte is fetched and hashed.

What a registry says that it has is its word; this is the proof. All findings come out of one run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from mirror import stream
from mirror.concurrency import each
from mirror.content import Progress, Silence, Source
from mirror.descriptor import Descriptor
from mirror.digest import Digest
from mirror.errors import ContentError, MirrorError, NotFound, TransferError, WrongSize
from mirror.finding import Finding, Kind, Severity
from mirror.retry import Retry


@dataclass(frozen=True, slots=True)
class Expected:
    """An image as it should be: the tag or digest (`target`) by which `source` knows it, its root and its content.

    Where `target` is None, what it stands for is known already.
    """

    name: str
    source: Source
    target: str | None
    digest: Digest
    content: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """One piece of content in one source, and the images that need it."""

    node: Descriptor
    source: Source
    images: list[str] = field(default_factory=list)


async def read_back(
    images: Sequence[Expected], *, jobs: int, retry: Retry, progress: Progress | None = None
) -> list[Finding]:
    """Resolve every name and hash every byte; what several images of one source share is read once.

    Returns:
        What is not as it should be: `error` where it is wrong or missing, `unverified` where nobody could tell.
    """
    progress = progress or Silence()
    found: dict[tuple[int, Digest, int], _Piece] = {}
    for image in images:
        for node in image.content:
            piece = found.setdefault((id(image.source), node.digest, node.size), _Piece(node, image.source))
            piece.images.append(image.name)
    largest_first = sorted(found.values(), key=lambda piece: -piece.node.size)
    progress.plan("verifying", len(found), sum(piece.node.size for piece in largest_first))
    names = await each(images, partial(_resolve, retry=retry), jobs)
    contents = await each(largest_first, partial(_examine, retry=retry, jobs=jobs, progress=progress), jobs)
    return [finding for finding in (*names, *contents) if finding]


async def _resolve(image: Expected, retry: Retry) -> Finding | None:
    if image.target is None:
        return None
    try:
        root = await retry.run(partial(image.source.resolve, image.target))
    except MirrorError as error:
        return finding_of(error, image.target, image.digest, (image.name,))
    if root.digest == image.digest:
        return None
    return Finding(Kind.MOVED, Severity.ERROR, image.target, image.digest, root.digest, (image.name,))


async def _examine(piece: _Piece, retry: Retry, jobs: int, progress: Progress) -> Finding | None:
    progress.begin(piece.node)
    try:
        await retry.run(partial(_hash, piece.node, piece.source, stream.batch_size(jobs), progress))
    except MirrorError as error:
        images = tuple(dict.fromkeys(piece.images))
        return finding_of(error, piece.node.digest, f"{piece.node.size} bytes", images, piece.node.size)
    finally:
        progress.end(piece.node)
    return None


async def _hash(node: Descriptor, source: Source, size: int, progress: Progress) -> None:
    done, check = 0, stream.Check(node)

    async def counted(batches: AsyncIterator[stream.Batch]) -> AsyncIterator[stream.Batch]:
        nonlocal done
        async for batch in batches:
            count = sum(map(len, batch))
            done += count
            progress.advance(node, count)
            yield batch

    try:
        async with source.open_blob(node) as body:
            await stream.overlap(counted(stream.batches(body, node, size)), check.update)
        check.finish(body.called(node))
    except BaseException:
        progress.advance(node, -done)
        raise


def finding_of(
    error: MirrorError, subject: str, expected: str, images: tuple[str, ...], size: int | None = None
) -> Finding:
    """What an error comes to where something should have been read."""
    kind, severity, found = Kind.UNREADABLE, Severity.UNVERIFIED, str(error)
    if isinstance(error, NotFound) or (isinstance(error, TransferError) and error.status == 404):
        kind, severity, found = Kind.MISSING, Severity.ERROR, "nothing"
    elif isinstance(error, WrongSize):
        short = error.got is not None and error.got < error.want
        kind, severity = Kind.TOO_SHORT if short else Kind.TOO_LONG, Severity.ERROR
    elif isinstance(error, ContentError):
        kind, severity = Kind.CORRUPT, Severity.ERROR
    return Finding(kind, severity, subject, expected, found, images, size=size)
