"""A repository with mirrors, which are tried in order, the registry itself last (docs/adr/0011).

Mirrors are not trusted. One that lacks the content, does not answer or sends wrong bytes is skipped with a warning.
Each gets only its own credentials, never those of the registry that it mirrors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from mirror.content.stream import BlobReader
from mirror.errors import ContentError, MirrorError, NotFound, StaleMirror, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry.client import Client
from mirror.registry.mirrors.endpoints import Endpoint, is_mirrored_at, source_endpoints, target_endpoint
from mirror.registry.repository import Repository

T = TypeVar("T")
log = logging.getLogger(__name__)

_COOLDOWN = 60.0  # seconds for which an endpoint that did not answer, or answered 429, is tried last


@dataclass(eq=False, slots=True)
class Candidate:
    """A mirror, or the registry itself, and its failures so far."""

    repository: Repository
    endpoint: Endpoint
    is_origin: bool = False  # it is the registry itself, not a mirror
    has_resolved: bool = False  # it has resolved a name
    wrong: set[Digest] = field(default_factory=set)  # it sent wrong content for these, and is not tried again for them
    failed: set[Digest] = field(default_factory=set)  # it failed to deliver these, and is tried last for them
    cooldown_until: float = 0.0  # the monotonic time until which it is tried last

    @property
    def is_busy(self) -> bool:
        """True if it did not answer lately, or asked to slow down: then others are tried first."""
        return self.cooldown_until > time.monotonic() or self.repository.registry.is_paused

    def may_have(self, name: str | None) -> bool:
        """Return whether to try it for a tag or digest; or (None) for content, also if it resolved the tag."""
        if name is None:
            return self.endpoint.digests or self.has_resolved
        return self.endpoint.digests if ":" in name else self.endpoint.tags


class MirroredRepository:
    """`Source`: a repository with mirrors."""

    def __init__(self, mirrors: list[Candidate], origin: Candidate, warnings: list[str]) -> None:
        """Create a source from mirrors in order of preference; `warnings` gets a sentence for each that is skipped."""
        self._candidates = [*mirrors, origin]
        self._warnings = warnings
        self._warned: set[tuple[Candidate, Digest | None]] = set()

    @property
    def origin(self) -> Repository:
        """The repository that is mirrored."""
        return self._candidates[-1].repository

    @property
    def resolved_by(self) -> Repository:
        """The first candidate that resolved a name; the origin if none did."""
        return next((one.repository for one in self._candidates if one.has_resolved), self.origin)

    def pin(self, tag: str, digest: Digest) -> None:
        """Record the tag of a digest, for the candidates that resolve tags: see `Repository.pin`."""
        for candidate in self._candidates:
            if candidate.endpoint.tags:
                candidate.repository.pin(tag, digest)

    async def resolve(self, name: str) -> Descriptor:
        """`Source`: resolve a name at the first candidate that has it. A mirror's tags may be out of date."""
        candidate, root = await self._try_all(lambda repository: repository.resolve(name), name, None)
        candidate.has_resolved = True
        log.info("%s was resolved by %s.", name, candidate.repository)
        return root

    async def peek(self, name: str) -> Descriptor | None:
        """Return what the first candidate that answers claims; see `Repository.peek`."""
        return (await self._try_all(lambda repository: repository.peek(name), name, None))[1]

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: open a blob or manifest at the first candidate that has it."""
        async with AsyncExitStack() as stack:
            candidate, body = await self._try_all(
                lambda repository: stack.enter_async_context(repository.open_blob(node, start)), None, node.digest
            )
            try:
                yield body
            except (ContentError, TransferError) as error:
                self._record_failure(candidate, error, node.digest, is_whole=body.start == 0)
                if node.digest in candidate.wrong:  # the next attempt tries another candidate
                    raise StaleMirror(str(error), hint=error.hint) from error
                raise

    async def modified(self, node: Descriptor) -> float | None:
        """`Dated`: return what the first candidate that has the blob says."""
        return (await self._try_all(lambda repository: repository.modified(node), None, node.digest))[1]

    async def _try_all(
        self, action: Callable[[Repository], Awaitable[T]], name: str | None, digest: Digest | None
    ) -> tuple[Candidate, T]:
        """Try an action at each candidate until one succeeds; those that have just failed are tried last."""
        able = [one for one in self._candidates if one.may_have(name) and digest not in one.wrong]
        failures: list[tuple[Candidate, MirrorError]] = []
        for candidate in sorted(able, key=lambda one: one.is_busy or digest in one.failed):
            try:
                return candidate, await action(candidate.repository)
            except (ContentError, NotFound, TransferError) as error:
                self._record_failure(candidate, error, digest, is_whole=True)
                failures.append((candidate, error))
        raise _combined_error(failures)

    def _record_failure(
        self, candidate: Candidate, error: MirrorError, digest: Digest | None, *, is_whole: bool
    ) -> None:
        """Record a failure. Wrong content proves nothing if another candidate sent its beginning (not `is_whole`)."""
        if isinstance(error, ContentError) and not error.transient:
            if digest and is_whole and not candidate.is_origin:
                candidate.wrong.add(digest)
        elif digest:
            candidate.failed.add(digest)
        if isinstance(error, TransferError) and error.status in (None, 429):
            candidate.cooldown_until = time.monotonic() + max(_COOLDOWN, error.retry_after or 0.0)
        log.info("%s: %s", candidate.repository, error)
        warning = candidate, digest if digest in candidate.wrong else None
        if not candidate.is_origin and warning not in self._warned:
            self._warned.add(warning)
            self._warnings.append(f"The mirror {candidate.repository} was skipped: {error}")


def _combined_error(failures: list[tuple[Candidate, MirrorError]]) -> MirrorError:
    """Return the registry's own error, with those of the mirrors in its hint."""
    found = next((error for candidate, error in failures if candidate.is_origin), failures[-1][1])
    of_mirrors = [f"Mirror {one.repository}: {error}" for one, error in failures if not one.is_origin]
    if not of_mirrors:
        return found
    if not found.transient and any(error.transient for _, error in failures):
        found = TransferError(str(found), hint=found.hint, transient=True)
    found.hint = " ".join(filter(None, (found.hint, *of_mirrors)))
    return found


def open_source(client: Client, reference: Reference) -> Repository | MirroredRepository:
    """Return the repository of an image for reading, from its mirrors or the registry itself (`origin`).

    If the client's target is one of the mirrors, the image would be copied onto itself: then no mirror is used.
    """
    mirrors, origin = source_endpoints(reference, client.options, client.registries_conf)
    is_rewritten = origin.registry != reference.registry
    itself = _repository(client, origin, explicit=not is_rewritten)
    if reference.tag and reference.digest:
        itself.pin(reference.tag, reference.digest)
    target = client.target
    if target and is_mirrored_at(target, reference, mirrors, origin):
        text = f"{target.name} is a mirror of {reference.name}, so the image is read from {origin.registry} itself."
        client.warnings.append(text)
        return itself
    if not mirrors:
        return itself
    candidates = [Candidate(_repository(client, endpoint, explicit=False), endpoint) for endpoint in mirrors]
    return MirroredRepository(candidates, Candidate(itself, origin, is_origin=True), client.warnings)


def open_target(client: Client, reference: Reference, *, push: bool = True, overwrite: bool = True) -> Repository:
    """Return the repository of an image for pushing or, without `push`, for reading back what was pushed."""
    endpoint = target_endpoint(reference, client.registries_conf)
    registry = client.registry(endpoint.registry, insecure=endpoint.insecure)
    return Repository(registry, endpoint.repository, jobs=client.options.jobs, push=push, overwrite=overwrite)


def _repository(client: Client, endpoint: Endpoint, *, explicit: bool) -> Repository:
    registry = client.registry(endpoint.registry, insecure=endpoint.insecure, explicit=explicit)
    return Repository(registry, endpoint.repository)
