"""Read images back from a registry: resolve every tag, fetch and hash every byte, and report all findings.

A HEAD response is only the registry's claim; this is the proof, for receipts and `verify docker://IMAGE`. Every push
reads its tags back in `mirror.transfer.registry_target`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

from mirror.concurrency import map_concurrently
from mirror.content import stream
from mirror.content.finding import Finding, Kind, Severity, StoreKind, reason
from mirror.content.finding_text import Fact
from mirror.content.store import NoProgress, Progress, Source
from mirror.errors import (
    ContentError,
    DigestMismatch,
    InvalidDigest,
    MirrorError,
    NotFound,
    SizeMismatch,
    TransferError,
)
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import raw_children
from mirror.oci.tagged import Tagged
from mirror.retry import RetryPolicy

_REFUSED = (None, 401, 403, 407)  # no response, or no permission: further requests would fail, too


@dataclass(frozen=True, slots=True)
class Expected:
    """An image that a registry should have: the digest of its root, all of its content, and the tags of its referrers.

    `target` is its tag or digest in `source`; None if it was resolved before.
    """

    name: str
    source: Source
    target: str | None
    digest: Digest
    content: tuple[Descriptor, ...]
    tags: tuple[Tagged, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """A manifest or blob in one source, and the images that need it."""

    node: Descriptor
    source: Source
    images: list[str] = field(default_factory=list)


async def read_back(
    images: Sequence[Expected], *, jobs: int, retry: RetryPolicy, progress: Progress | None = None
) -> ReadBack:
    """Resolve every tag and hash every byte. Content that images of one source share is read once.

    If a registry cannot be reached, or refuses access to an image, there is one finding for the whole image.
    """
    progress = progress or NoProgress()
    found: dict[tuple[int, Digest, int], _Part] = {}
    for image in images:
        for node in image.content:
            part = found.setdefault((id(image.source), node.digest, node.size), _Part(node, image.source))
            part.images.append(image.name)
    largest_first = sorted(found.values(), key=lambda part: -part.node.size)
    progress.plan("verifying", len(found), sum(part.node.size for part in largest_first))
    reading = ReadBack(jobs, retry, progress)
    names = await map_concurrently(images, reading.resolve, jobs)
    contents = await map_concurrently(largest_first, reading.check, jobs)
    reading.findings = in_registry(*chain.from_iterable(names), *(finding for finding in contents if finding))
    return reading


class ReadBack:
    """The findings, the number of blobs that were checked, and the bytes that were hashed."""

    def __init__(self, jobs: int, retry: RetryPolicy, progress: Progress) -> None:
        self.findings: tuple[Finding, ...] = ()
        self.files = self.size = 0
        self._given_up: set[str] = set()
        self._retry, self._progress, self._batch = retry, progress, stream.batch_size(jobs)

    async def resolve(self, image: Expected) -> list[Finding]:
        """Check the tags of an image and of its referrers."""
        first = [Tagged(image.target, image.digest)] if image.target else []
        findings = []
        for tag in (*first, *image.tags):
            try:
                root = await self._retry.run(partial(image.source.resolve, tag.tag))
            except MirrorError as error:
                if isinstance(error, ContentError) and not isinstance(error, DigestMismatch):  # not a manifest any more
                    found = reason(error)
                    findings.append(Finding(Kind.MOVED, Severity.ERROR, tag.tag, tag.digest, found, (image.name,)))
                else:
                    findings.append(finding_of(error, tag.tag, tag.digest, (image.name,)))
                if isinstance(error, TransferError) and error.status in _REFUSED:
                    self._given_up.add(image.name)
                    break
            else:
                findings += _moved(root, tag, image.name)
        return findings

    async def check(self, part: _Part) -> Finding | None:
        """Check that content is there and hashes to its digest."""
        node, images = part.node, self._pending_images(part)
        if not images:
            return None
        self._progress.begin(node)
        try:
            await self._retry.run(partial(_hash, node, part.source, self._batch, self._progress))
        except MirrorError as error:
            return self._failed(error, part)
        finally:
            self._progress.end(node)
        self._count(node.size)
        return None

    def _failed(self, error: MirrorError, part: _Part) -> Finding | None:
        images = tuple(dict.fromkeys(part.images))
        is_offline = isinstance(error, TransferError) and error.status is None and not error.transient
        if is_offline:  # the registry cannot be reached at all
            images = self._pending_images(part)
            self._given_up.update(images)
        finding = finding_of(error, part.node.digest, part.node.size, images, part.node.size)
        if finding.severity is Severity.ERROR:
            self._count(part.node.size if isinstance(error, DigestMismatch) else 0)
        return finding if images else None

    def _pending_images(self, part: _Part) -> tuple[str, ...]:
        """Return the images that need the content and were not given up."""
        return tuple(name for name in dict.fromkeys(part.images) if name not in self._given_up)

    def _count(self, size: int) -> None:
        self.files += 1
        self.size += size


def _moved(root: Descriptor, tag: Tagged, image: str) -> Iterator[Finding]:
    """Yield findings for a tag with another digest. A list of referrers may have gained members, but not lost any."""
    if root.digest == tag.digest:
        return
    if not tag.members:
        yield Finding(Kind.MOVED, Severity.ERROR, tag.tag, tag.digest, root.digest, (image,))
        return
    listed = raw_children(root.data, tag.tag) if root.is_index and root.data else []
    present = {child["digest"] for child in listed}
    for digest in tag.members:
        if digest not in present:
            yield Finding(Kind.MISSING, Severity.ERROR, tag.tag, digest, root.digest, (image,))


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
    error: MirrorError, subject: str, expected: Fact, images: tuple[str, ...], size: int | None = None
) -> Finding:
    """Return the finding for content or a tag that could not be read from a registry.

    `expected` is the size of the content, or the digest of the tag.
    """
    severity, advice = Severity.ERROR, None
    found: Fact = None
    if isinstance(error, NotFound) or (isinstance(error, TransferError) and error.status == 404):
        kind = Kind.MISSING
    elif isinstance(error, SizeMismatch):
        kind = Kind.TOO_SHORT if error.got is not None and error.got < error.want else Kind.TOO_LONG
        found = error.got
    elif isinstance(error, DigestMismatch):
        kind, expected, found = Kind.CORRUPT, error.want, error.got
    elif isinstance(error, InvalidDigest) and isinstance(subject, Digest):
        kind, severity, expected, found = Kind.UNHASHABLE, Severity.UNVERIFIED, None, subject.algorithm
    else:
        kind, severity, found, advice = Kind.UNREADABLE, Severity.UNVERIFIED, reason(error), error.hint
    return Finding(kind, severity, subject, expected, found, images, size=size, advice=advice)


def in_registry(*findings: Finding) -> tuple[Finding, ...]:
    """Mark findings as those of a registry, which get other hints than those of a layout."""
    return tuple(replace(finding, place=StoreKind.REGISTRY) for finding in findings)
