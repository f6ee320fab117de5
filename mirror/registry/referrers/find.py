"""Finding the referrers of images, in as few requests as possible (OCI distribution-spec, "Listing Referrers").

    1. the referrers API, for each subject; if a registry does not support it, it is asked only once
    2. the tags of the repository, listed once, for referrers tags and cosign's tags
    3. if they cannot be listed, or listing would take more requests: a HEAD for each possible tag
    4. each referrer's manifest, whose subject must be the requested one
    5. the same for the referrers found: a bill of materials may be signed, too

Nothing is filtered by artifact type, neither here nor by the registry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from mirror.concurrency import map_concurrently
from mirror.content.limits import Budget, Limits
from mirror.content.store import Source
from mirror.content.walk import read_node
from mirror.errors import ContentError, LimitExceeded, MirrorError, NotFound, TransferError
from mirror.oci import manifest
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.oci.referrers import cosign_tags, referrers_tag, tags_about
from mirror.registry.listing import list_tags, pages
from mirror.registry.repository import Repository
from mirror.retry import ONCE, RetryPolicy

# Limits against endless signatures (CVE-2023-33957, CVE-2024-29902).
MAX_REFERRERS = 4096  # in one search, but always at least `_MAX_PER_SUBJECT` for each subject
MAX_DEPTH = 4
_MAX_PER_SUBJECT = 64
_AT_ONCE = 8

_NO_API = frozenset({400, 404, 405, 406, 410, 501})  # responses of registries without the API; it should be 404
_REFUSALS = frozenset({401, 403, 408, 429, 500, 502, 503, 504})


@dataclass(slots=True)
class Found:
    """The referrers of some subjects."""

    referrers: dict[Digest, list[Node]] = field(default_factory=dict)  # by subject
    tagged: dict[str, tuple[Digest, Descriptor]] = field(default_factory=dict)  # cosign's tags: subject and root
    failures: dict[Digest, MirrorError] = field(default_factory=dict)  # by subject: why there may be more referrers
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _ApiState:
    """The state of the referrers API of one registry."""

    supported: bool | None = None  # None before the first request
    note: str = ""  # what a registry without the API did instead
    error: MirrorError | None = None  # of an API that does not work
    first_request: asyncio.Lock = field(default_factory=asyncio.Lock)


class Referrers:
    """Finds referrers, and remembers which registries support the API; one object for a whole command."""

    def __init__(self, retry: RetryPolicy = ONCE) -> None:
        self._retry = retry
        self._states: dict[str, _ApiState] = {}

    async def find(self, repository: Repository, subjects: Sequence[Digest], source: Source | None = None) -> Found:
        """Return all referrers of `subjects` in a repository, and the referrers of those; errors are in `failures`.

        Manifests are read from `source`, by default the repository.
        """
        state = self._states.setdefault(repository.registry.name, _ApiState())
        return await _Search(repository, source or repository, state, self._retry, subjects).run()


class _Search:
    """One search in one repository."""

    def __init__(
        self, repository: Repository, source: Source, state: _ApiState, retry: RetryPolicy, subjects: Sequence[Digest]
    ) -> None:
        self._repository, self._source, self._state, self._retry = repository, source, state, retry
        self._registry, self._scope = repository.registry, f"repository:{repository.name}:pull"
        self._subjects = list(dict.fromkeys(subjects))
        limits = Limits(manifests=max(MAX_REFERRERS, _MAX_PER_SUBJECT * len(self._subjects)), levels=MAX_DEPTH)
        self._budget = Budget(str(repository), limits, "referrer")
        self._found = Found()
        self._refused = ""  # what this repository's API did instead of answering; others may be accessible
        self._tags: frozenset[str] | None = None
        self._listed = False
        self._listing = asyncio.Lock()

    async def run(self) -> Found:
        level, seen = self._subjects, set(self._subjects)
        try:
            while level:
                found = await map_concurrently(level, self._find, _AT_ONCE)
                level = [digest for digest in dict.fromkeys(chain.from_iterable(found)) if digest not in seen]
                seen.update(level)
                if level:
                    self._budget.descend()
        except LimitExceeded as error:
            self._found.failures.setdefault(level[0], error)
        if problem := self._refused or self._state.note:
            self._found.warnings.append(
                f"{self._registry.name} {problem} when asked for referrers; "
                f"only referrers under tags of {self._repository} were searched for."
            )
        return self._found

    async def _find(self, subject: Digest) -> list[Digest]:
        """Record the referrers of one subject, and return their digests."""
        try:
            listed = await self._by_tags(subject, await self._by_api(subject))
            nodes = await self._read(subject, listed)
        except MirrorError as error:
            self._found.failures.setdefault(subject, error)
            return []
        if nodes:
            self._found.referrers[subject] = nodes
        return [node.descriptor.digest for node in nodes]

    # --- 1. the API ----------------------------------------------------------------------------------------------

    async def _by_api(self, subject: Digest) -> list[Descriptor] | None:
        """Return the referrers that the API lists; None if the registry does not support it."""
        state = self._state
        if state.supported is None:
            async with state.first_request:
                if state.supported is None and not self._refused:
                    return await self._request(subject)
        if state.error:
            self._found.failures.setdefault(subject, state.error)
        return await self._request(subject) if state.supported and not self._refused else None

    async def _request(self, subject: Digest) -> list[Descriptor] | None:
        state = self._state
        try:
            listed = await self._list(subject)
        except TransferError as error:
            # The API does not work: fall back to tags, and do not try it for every subject.
            state.supported, state.error = False, error
            self._found.failures.setdefault(subject, error)
            return None
        if state.supported is None and not self._refused:
            state.supported = listed is not None
        return listed

    async def _list(self, subject: Digest) -> list[Descriptor] | None:
        path = f"{self._repository.name}/referrers/{subject}"
        expect = frozenset({200}) | _NO_API | _REFUSALS
        listed: list[Descriptor] = []
        async for page in pages(self._registry, path, self._scope, expect=expect, retry=self._retry):
            if page.status in _NO_API:
                return None
            if page.status in (401, 403) and not page.redirected:
                self._refused = f"answered {page.status}"
                return None
            if page.status != 200:
                self._state.note = f"answered {page.status}"  # GHCR redirects to github.com (artifacthub/hub#4785)
                return None
            try:
                children = manifest.parse(page.data, OCI_INDEX, path, cap=len(page.data)).manifests
            except ContentError:
                self._state.note = "did not send an index"
                return None
            self._admit(children)
            listed += children
        return listed

    # --- 2. and 3. tags ------------------------------------------------------------------------------------------

    async def _by_tags(self, subject: Digest, listed: list[Descriptor] | None) -> list[Descriptor]:
        """Record cosign's tags. Return `listed`; if it is None, the content of the referrers tag."""
        candidates = tags_about(subject) if listed is None else cosign_tags(subject)
        for tag in [tag for tag in candidates if await self._has_tag(tag)]:
            try:
                root = await self._retry.run(partial(self._source.resolve, tag))
            except NotFound:
                continue
            if root.digest == subject:  # GitLab takes sha256-… for sha256:… (oras-project/oras-go#1396)
                continue
            if tag == referrers_tag(subject):
                listed = await self._children(root, tag)
            else:
                self._admit([root])
                self._found.tagged[tag] = (subject, root)
        return listed or []

    async def _has_tag(self, tag: str) -> bool:
        async with self._listing:
            if not self._listed:
                self._listed = True
                most = max(1, sum(len(tags_about(subject)) for subject in self._subjects))  # no more than HEADs
                name = self._repository.name
                with suppress(MirrorError):  # a registry may forbid to list tags, but allow to read them
                    tags = await list_tags(self._registry, name, self._scope, retry=self._retry, max_pages=most)
                    self._tags = frozenset(tags)
        if self._tags is not None:
            return tag in self._tags

        async def request() -> bool:
            path, expect = f"{self._repository.name}/manifests/{tag}", frozenset({200, 400, 401, 404, 405})
            async with self._registry.send("HEAD", path, scope=self._scope, expect=expect) as response:
                return response.status in (200, 401, 405)  # 401, 405: HEAD is not supported; resolving it will tell

        return await self._retry.run(request)

    async def _children(self, root: Descriptor, tag: str) -> list[Descriptor]:
        if not root.is_index:
            self._found.warnings.append(f"{self._repository}:{tag} is not a list of referrers, and was ignored.")
            return []
        children = (await read_node(self._source, root, self._retry)).document.manifests
        self._admit(children)
        return list(children)

    # --- 4. manifests --------------------------------------------------------------------------------------------

    def _admit(self, nodes: Iterable[Descriptor]) -> None:
        """Count referrers before they are read; raise LimitExceeded if there are too many."""
        for node in nodes:
            self._budget.take(node.size)

    async def _read(self, subject: Digest, listed: Sequence[Descriptor]) -> list[Node]:
        """Return the listed referrers that exist and have the subject; lists may be out of date, or wrong."""
        unique = {node.digest: node for node in listed}
        nodes = await map_concurrently(unique.values(), self._read_manifest, _AT_ONCE)
        kept = [node for node in nodes if node and node.document.subject and node.document.subject.digest == subject]
        missing = nodes.count(None)
        for number, fault in ((missing, "do not exist"), (len(nodes) - missing - len(kept), "have another subject")):
            if number:
                self._found.warnings.append(
                    f"{self._repository}: {number} of the referrers listed for {subject} {fault}, and were left out."
                )
        return kept

    async def _read_manifest(self, node: Descriptor) -> Node | None:
        if not node.is_manifest:
            return None
        try:
            return await read_node(self._source, node, self._retry)
        except TransferError as error:
            if error.status == 404:
                return None
            raise
