"""Push: from a layout into a registry, digests preserved.

1. decide where each image goes, and refuse what would collide; nothing has moved yet
2. walk every image, and ask the registry for every blob
3. copy: blobs, manifests, indexes, tags
4. read every tag back and compare
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mirror import copy
from mirror.concurrency import each
from mirror.content import Progress
from mirror.copy import Copy
from mirror.errors import TransferError, UsageError, WrongDigest
from mirror.graph import Graph, walk
from mirror.layout import Entry, Layout
from mirror.overlay import DryRun
from mirror.reference import Reference, is_host, is_repository
from mirror.registry import Client, Options, Repository
from mirror.report.transfers import Amount, Transferred, TransferReport
from mirror.retry import Retry
from mirror.selection import names

_AT_ONCE = 4  # images walked, and tags read back, together


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push: how stubbornly, and how to talk to the registry (and how many blobs at once)."""

    dry_run: bool = False
    retry: Retry = field(default_factory=Retry)
    registries: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Target:
    """`REGISTRY[/PREFIX]`: where the images of a layout go."""

    registry: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read a target as a person types it.

        Raises:
            UsageError: it is no registry host, with or without a path.
        """
        registry, _, prefix = text.removeprefix("docker://").rstrip("/").partition("/")
        if not is_host(registry) or (prefix and not is_repository(prefix)):
            raise UsageError(
                f"{text!r} is no registry.",
                hint="Registries look like registry.internal:5000 or registry.internal:5000/mirror.",
            )
        return cls(registry, prefix)

    def place(self, entry: Entry) -> Reference:
        """Where an image goes: below the prefix, its path without its registry, its own tag.

        Raises:
            UsageError: the layout does not say which repository it is from, and there is no prefix to stand in.
        """
        if entry.reference:
            path = f"{self.prefix}/{entry.reference.repository}".lstrip("/")
            digest = None if entry.reference.tag else entry.root.digest
            return Reference(self.registry, path, entry.reference.tag, digest)
        if not self.prefix:
            raise UsageError(
                f"The layout does not say which repository {entry.name!r} is from.",
                hint=f"Name the repository: {self.registry}/some/repository.",
            )
        return Reference(self.registry, self.prefix, entry.tag, None if entry.tag else entry.root.digest)


@dataclass(frozen=True, slots=True)
class _Image:
    """One image on its way: what it is in the layout, where it goes, and the repository there."""

    entry: Entry
    place: Reference
    sink: Repository


async def push_layout(
    layout: Path | str,
    target: str,
    images: Sequence[str] = (),
    options: PushOptions | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Push images of a layout to a registry, verifying every byte on its way and every tag at the end.

    Args:
        layout: the layout's folder; it is only read.
        target: `REGISTRY[/PREFIX]`.
        images: which ones, all of them where none is named.
        options: how.
        progress: who wants to know how it goes.

    Raises:
        UsageError: no such image, no such layout, or two images that would land on one name.
        ContentError: the layout or what the registry gave back is not what it should be.
        TransferError: the registry could not be reached or refused.
    """
    options = options or PushOptions()
    started = time.monotonic()
    where = Target.parse(target)
    with Layout.open(Path(layout)) as source:
        places = _places(source.find(images), where)
        async with Client(options.registries) as client:
            found = _sinks(client, places, options.registries.jobs)
            graphs = await each(found, lambda image: _walk(source, image.entry), _AT_ONCE)
            copies = [
                Copy(
                    source,
                    DryRun(image.sink) if options.dry_run else image.sink,
                    graph,
                    image.place.target,
                    image.entry.root,
                )
                for image, graph in zip(found, graphs, strict=True)
            ]
            jobs = options.registries.jobs
            plan = await copy.survey(copies, jobs=jobs, retry=options.retry, progress=progress)
            if not options.dry_run:
                with _explained(found):
                    await copy.move(plan, jobs=jobs, retry=options.retry, progress=progress)
                await each(found, lambda image: _read_back(image, options.retry), _AT_ONCE)
    return TransferReport(
        verb="push",
        images=tuple(_result(image, graph) for image, graph in zip(found, graphs, strict=True)),
        moved=Amount.of(plan.missing),
        reused=Amount.of(plan.reused),
        seconds=time.monotonic() - started,
        dry_run=options.dry_run,
    )


def _places(entries: Sequence[Entry], target: Target) -> dict[Reference, Entry]:
    """Step 1.

    Raises:
        UsageError: two different images would land on one name.
    """
    places: dict[Reference, Entry] = {}
    for entry in entries:
        place = target.place(entry)
        other = places.setdefault(place, entry)
        if other.root.digest != entry.root.digest:
            raise UsageError(
                f"{other.name} and {entry.name} would both become {place}.",
                hint="Push them one at a time, naming the image, each to a prefix of its own.",
            )
    return places


def _sinks(client: Client, places: dict[Reference, Entry], jobs: int) -> list[_Image]:
    """The images to push; those that go to one repository share one sink."""
    repositories: dict[str, Repository] = {}
    images = []
    for place, entry in places.items():
        repository = Repository(client.registry(place.registry), place.repository, jobs=jobs, push=True)
        images.append(_Image(entry, place, repositories.setdefault(place.name, repository)))
    return images


async def _walk(source: Layout, entry: Entry) -> Graph:
    """Step 2 for one image. Where it is sparse, the children that are absent on purpose are not looked for."""
    return await walk(source, entry.root, keep=lambda child: not entry.lacks(child))


@contextmanager
def _explained(images: Sequence[_Image]) -> Iterator[None]:
    """A registry that wants all children of an index refuses a sparse one in words that help nobody."""
    try:
        yield
    except TransferError as error:
        sparse = [image.entry.name for image in images if image.entry.kept is not None]
        if sparse and error.status in (400, 404):
            error.hint = (
                f"{', '.join(sparse)} is sparse: platforms are absent on purpose, and this registry wants all of them. "
                "Pull it without --sparse, or with --all-platforms."
            )
        raise


async def _read_back(image: _Image, retry: Retry) -> None:
    """Step 4 for one image.

    Raises:
        WrongDigest: the registry serves something else than what it was given.
    """
    want = image.entry.root.digest
    got = await retry.run(lambda: image.sink.resolve(image.place.target))
    if got.digest != want:
        raise WrongDigest(f"{image.place}, read back after the push,", want=want, got=got.digest)


def _result(image: _Image, graph: Graph) -> Transferred:
    digest = image.entry.root.digest
    pinned = f"{image.place.name}{':' + image.place.tag if image.place.tag else ''}@{digest}"
    return Transferred(image.entry.name, pinned, digest, names(graph))
