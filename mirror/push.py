"""Push: from a layout into a registry, digests preserved.

1. decide where each image goes, and refuse what would collide; nothing has moved yet
2. walk every image, and ask the registry for every blob
3. copy: blobs, manifests, indexes, tags; of what refers to the images first
4. read every tag back and compare; list under tags what the registry does not list itself
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mirror import copy
from mirror.concurrency import each
from mirror.content import Progress, Sink
from mirror.copy import Copy
from mirror.deliver import Delivery, list_referrers, named, read_tags_back
from mirror.errors import TransferError, UsageError, WrongDigest
from mirror.graph import Graph
from mirror.layout import Entry, Layout
from mirror.layout.attached import Attachments, is_attachable, is_list, walk_entry
from mirror.overlay import DryRun
from mirror.reference import Reference, is_host, is_repository
from mirror.registry import Client, Options, Repository, push_target
from mirror.report.transfers import Amount, Transferred, TransferReport
from mirror.retry import Retry
from mirror.selection import names

_AT_ONCE = 4  # images walked, and tags read back, together


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push: how stubbornly, and how to talk to the registry (and how many blobs at once).

    `referrers`: whether what refers to the images goes with them.
    """

    referrers: bool = True
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
class _Chosen:
    """One image of the layout, all below it, and what goes with it."""

    entry: Entry
    graph: Graph
    delivery: Delivery | None = None


@dataclass(frozen=True, slots=True)
class _Image:
    """One image on its way: where it goes, and the repository there."""

    chosen: _Chosen
    place: Reference
    sink: Repository

    @property
    def entry(self) -> Entry:
        return self.chosen.entry

    def to(self, source: Layout, sink: Sink) -> Copy:
        name, graph, root = named(self.entry, self.chosen.graph)
        return Copy(source, sink, graph, name if is_list(self.entry) else self.place.target, root)

    def warnings(self) -> list[str]:
        """Foreign layers stay where they are (OCI image-spec, layer.md, "Non-Distributable Layers")."""
        foreign = len(self.chosen.graph.foreign)
        return (
            [f"{self.entry.name}: {foreign} foreign layers stay where they live; they were not pushed."]
            if foreign
            else []
        )

    def result(self) -> Transferred:
        digest, delivery = self.entry.root.digest, self.chosen.delivery
        pinned = f"{self.place.name}{':' + self.place.tag if self.place.tag else ''}@{digest}"
        referrers = delivery.result() if delivery else None
        return Transferred(self.entry.name, pinned, digest, names(self.chosen.graph), referrers=referrers)


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
    where, jobs = Target.parse(target), options.registries.jobs
    with Layout.open(Path(layout)) as source:
        chosen = await _choose(source, images, options)
        _places([one.entry for one in chosen], where)
        async with Client(options.registries) as client:
            found = _images(client, chosen, where)
            plan = await copy.survey(
                _copies(source, found, options.dry_run), jobs=jobs, retry=options.retry, progress=progress
            )
            if not options.dry_run:
                with _explained(found):
                    await copy.move(plan, jobs=jobs, retry=options.retry, progress=progress)
                await each(found, lambda image: _read_back(image, options.retry), _AT_ONCE)
                await _finish(found, options.retry)
    return TransferReport(
        verb="push",
        images=tuple(image.result() for image in found),
        moved=Amount.of(plan.missing),
        reused=Amount.of(plan.reused),
        seconds=time.monotonic() - started,
        dry_run=options.dry_run,
        warnings=tuple(warning for image in found for warning in image.warnings()),
    )


async def _choose(source: Layout, images: Sequence[str], options: PushOptions) -> list[_Chosen]:
    """What a person means: images, each with what is attached to it; and what is attached to nothing, by itself."""
    entries, known = source.find(images), Attachments(source, source.entries())
    heads = [entry for entry in entries if not is_attachable(entry)]
    graphs = await each(heads, lambda entry: walk_entry(source, entry, foreign=False), _AT_ONCE)
    attached = [await known.of(entry, graph) for entry, graph in zip(heads, graphs, strict=True)]
    deliveries = [Delivery.of(*one) if options.referrers else None for one in zip(heads, graphs, attached, strict=True)]
    covered = {other.entry.name for some in attached for other in some}
    by_name = bool(images) and not options.referrers  # what is named is meant
    loose = [entry for entry in entries if is_attachable(entry) and (by_name or entry.name not in covered)]
    return [
        *(_Chosen(*one) for one in zip(heads, graphs, deliveries, strict=True)),
        *[_Chosen(entry, await walk_entry(source, entry, foreign=False)) for entry in loose],
    ]


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


def _images(client: Client, chosen: Sequence[_Chosen], target: Target) -> list[_Image]:
    """The images to push, each place once; those that go to one repository share one sink."""
    repositories: dict[str, Repository] = {}
    images: dict[Reference, _Image] = {}
    for one in chosen:
        place = target.place(one.entry)
        if place in images:  # the same content, as step 1 has seen to
            if (there := images[place].chosen.delivery) and one.delivery:
                there.add(one.delivery)
            continue
        repository = push_target(client, place)
        images[place] = _Image(one, place, repositories.setdefault(place.name, repository))
    return list(images.values())


def _copies(source: Layout, images: Sequence[_Image], dry_run: bool) -> list[Copy]:
    """What is attached goes first, so that a tag that moves is signed already."""
    sinks: dict[int, Sink] = {id(image.sink): image.sink for image in images}
    if dry_run:
        sinks = {id(image.sink): DryRun(image.sink) for image in images}
    attached: dict[tuple[int, str], Copy] = {}
    for image in images:
        if image.chosen.delivery:
            image.chosen.delivery.to(source, sinks[id(image.sink)], attached)
    return [*attached.values(), *(image.to(source, sinks[id(image.sink)]) for image in images)]


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
    """Step 4 for one image; a list of referrers has become part of the registry's own.

    Raises:
        WrongDigest: the registry serves something else than what it was given.
    """
    if is_list(image.entry):
        return
    want = image.entry.root.digest
    got = await retry.run(lambda: image.sink.resolve(image.place.target))
    if got.digest != want:
        raise WrongDigest(f"{image.place}, read back after the push,", want=want, got=got.digest)


async def _finish(images: Sequence[_Image], retry: Retry) -> None:
    """Step 4 for what is attached, a repository at a time; a failure is kept with the images that it is about.

    Raises:
        MirrorError: what is attached to nothing could not be listed.
    """
    by_sink: dict[str, list[_Image]] = {}
    for image in images:
        by_sink.setdefault(image.place.name, []).append(image)
    for some in by_sink.values():
        sink = some[0].sink
        loose = [image.chosen.graph for image in some if is_list(image.entry)]
        for error in (await list_referrers(sink, loose, retry)).values():
            raise error
        deliveries = [image.chosen.delivery for image in some if image.chosen.delivery]
        attached = [one for delivery in deliveries for one in delivery.found if one.copy and not one.copy.failure]
        graphs = [image.chosen.graph for image in some if image.chosen.delivery]
        failed = await list_referrers(sink, [*graphs, *(one.graph for one in attached)], retry)
        failed |= await read_tags_back(sink, attached, retry)
        for delivery in deliveries:
            delivery.failures |= failed
