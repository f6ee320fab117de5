"""A repository that has mirrors: they are asked in order, then the registry itself.

A mirror is believed as little as any registry. One that lacks the content, does not answer or sends something else than
what was named is passed over, and named to the person; the next one is asked. Each is asked with its own credentials,
none with those of the registry that it mirrors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mirror.content.stream import BlobReader
from mirror.errors import ContentError, MirrorError, NotFound, StaleMirror, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry.client import Client
from mirror.registry.mirrors.endpoints import Endpoint, sources, target
from mirror.registry.repository import Repository

T = TypeVar("T")
log = logging.getLogger("mirror")

_REST = 60.0  # seconds for which one that did not answer is asked only after all others


@dataclass(eq=False, slots=True)
class _Asked:
    """One place to ask, and what is known of it: what it got wrong, what it failed at, until when it is asked last."""

    repository: Repository
    endpoint: Endpoint
    origin: bool = False
    chosen: bool = False
    wrong: set[Digest] = field(default_factory=set)
    failed: set[Digest] = field(default_factory=set)
    rests: float = 0.0

    def is_for(self, name: str | None) -> bool:
        """Whether it is asked for a tag or a digest; for content (None): one that is for tags, if it has named it."""
        if name is None:
            return self.endpoint.digests or self.chosen
        return self.endpoint.digests if ":" in name else self.endpoint.tags


class MirroredRepository:
    """`Source`: a repository with mirrors. What is passed over is told to `notes`, a sentence each."""

    def __init__(self, mirrors: list[_Asked], origin: _Asked, notes: list[str]) -> None:
        self._places = [*mirrors, origin]
        self._notes = notes
        self._noted: set[tuple[_Asked, Digest | None]] = set()

    @property
    def origin(self) -> Repository:
        """The repository that is mirrored."""
        return self._places[-1].repository

    @property
    def answering(self) -> Repository:
        """Who has said what a name stands for; the origin where nobody has."""
        return next((place.repository for place in self._places if place.chosen), self.origin)

    async def resolve(self, name: str) -> Descriptor:
        """`Source`: what the first place that knows the name says. Of a tag, a mirror may have an old idea.

        Raises:
            MirrorError: as `Repository.resolve`, where nobody knows.
        """
        place, root = await self._first(lambda repository: repository.resolve(name), name, None)
        place.chosen = True
        log.info("%s says what %s is.", place.repository, name)
        return root

    async def peek(self, name: str) -> Descriptor | None:
        """What the first place that answers says by HEAD of a name, as `Repository.peek`.

        Raises:
            MirrorError: nobody could be asked.
        """
        return (await self._first(lambda repository: repository.peek(name), name, None))[1]

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: the content, from the first place that has it.

        Raises:
            StaleMirror: what a mirror has sent was wrong, which its reader found; the next time another is asked.
            MirrorError: as `Repository.open_blob`, where nobody has it.
        """
        async with AsyncExitStack() as stack:
            place, body = await self._first(
                lambda repository: stack.enter_async_context(repository.open_blob(node, start)), None, node.digest
            )
            try:
                yield body
            except (ContentError, TransferError) as error:
                self._pass_over(place, error, node.digest, whole=body.start == 0)
                if node.digest in place.wrong:
                    raise StaleMirror(str(error), hint=error.hint) from error
                raise

    async def _first(
        self, ask: Callable[[Repository], Awaitable[T]], name: str | None, digest: Digest | None
    ) -> tuple[_Asked, T]:
        failures: list[tuple[_Asked, MirrorError]] = []
        for place in self._in_order(name, digest):
            try:
                return place, await ask(place.repository)
            except (ContentError, NotFound, TransferError) as error:
                self._pass_over(place, error, digest, whole=True)
                failures.append((place, error))
        raise _verdict(failures)

    def _in_order(self, name: str | None, digest: Digest | None) -> Iterator[_Asked]:
        """Those that may have it, in order; those that have just failed after the others."""
        able = [place for place in self._places if place.is_for(name) and digest not in place.wrong]
        now = time.monotonic()
        return iter(sorted(able, key=lambda place: place.rests > now or digest in place.failed))

    def _pass_over(self, place: _Asked, error: MirrorError, digest: Digest | None, *, whole: bool) -> None:
        """Remember a failure. Wrong bytes after a beginning that came from elsewhere prove nothing (not `whole`)."""
        if isinstance(error, ContentError) and not error.transient:
            if digest and whole and not place.origin:
                place.wrong.add(digest)
        elif digest:
            place.failed.add(digest)
        if isinstance(error, TransferError) and error.status is None:
            place.rests = time.monotonic() + _REST
        self._note(place, error, digest if digest in place.wrong else None)

    def _note(self, place: _Asked, error: MirrorError, digest: Digest | None) -> None:
        log.info("%s: %s", place.repository, error)
        if not place.origin and (place, digest) not in self._noted:
            self._noted.add((place, digest))
            self._notes.append(f"The mirror {place.repository} was passed over: {error}")


def _verdict(failures: list[tuple[_Asked, MirrorError]]) -> MirrorError:
    """What to say where nobody could answer: what the registry itself has said, and that mirrors were asked before."""
    found = next((error for place, error in failures if place.origin), failures[-1][1])
    before = [f"the mirror {place.repository} was asked: {error}" for place, error in failures if not place.origin]
    if not before:
        return found
    if not found.transient and any(error.transient for _, error in failures):
        found = TransferError(str(found), hint=found.hint, transient=True)
    found.hint = " ".join(filter(None, (found.hint, *(f"Besides, {text}" for text in before))))
    return found


def pull_source(client: Client, reference: Reference) -> Repository | MirroredRepository:
    """Where the content of an image's repository is read.

    Raises:
        UsageError: settings forbid to use it.
        ConfigError: settings cannot be used.
    """
    mirrors, origin = sources(reference, client.options, client.rules)
    asked = [_Asked(_repository(client, endpoint, named=False), endpoint) for endpoint in mirrors]
    itself = _repository(client, origin, named=origin.registry == reference.registry)
    return MirroredRepository(asked, _Asked(itself, origin, origin=True), client.notes) if asked else itself


def push_target(client: Client, reference: Reference, *, push: bool = True) -> Repository:
    """Where an image is pushed to, and (without `push`) read back from: never a mirror.

    Raises:
        UsageError: settings forbid to use it.
        ConfigError: settings cannot be used.
    """
    endpoint = target(reference, client.rules)
    registry = client.registry(endpoint.registry, lenient=endpoint.lenient)
    return Repository(registry, endpoint.repository, jobs=client.options.jobs, push=push)


def _repository(client: Client, endpoint: Endpoint, *, named: bool) -> Repository:
    registry = client.registry(endpoint.registry, lenient=endpoint.lenient, named=named)
    return Repository(registry, endpoint.repository)
