"""What refers to images of a repository, found in as few requests as can be.

    1. the referrers API, for each subject; what its first refusal says of a registry is not asked again
    2. the tags of the repository, listed once: they tell which referrers tags and which of cosign's there are
    3. where they cannot be listed, or listing would cost more, a HEAD for each tag that there could be
    4. each referrer's manifest, whose subject has to be the one that was asked about
    5. the same for what was found, since a bill of materials may be signed too

OCI distribution-spec, "Listing Referrers". Nothing is filtered, by us or by the registry: all kinds are wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from mirror.concurrency import map_concurrently
from mirror.content.graph import Budget, Limits
from mirror.content.store import Source
from mirror.content.walk import read_node
from mirror.errors import ContentError, LimitExceeded, MirrorError, NotFound, TransferError
from mirror.oci import manifest
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.oci.referrers import cosign_tags, referrers_tag
from mirror.registry.listing import list_tags, pages
from mirror.registry.repository import Repository
from mirror.retry import ONCE, RetryPolicy

# Limits against endless signatures (CVE-2023-33957, CVE-2024-29902).
MOST = 4096  # referrers in one search, or as many as are normal for each subject where that is more
_NORMAL = 64
DEEPEST = 4
_AT_ONCE = 8

_NO_API = frozenset({400, 404, 405, 406, 410, 501})  # what registries without the API answer; 404 is what they should
_REFUSALS = frozenset({401, 403, 408, 429, 500, 502, 503, 504})


@dataclass(slots=True)
class Found:
    """What refers to some subjects.

    `referrers` are manifests by their subject, `tagged` the roots of cosign's tags, with the subject that each is
    about. `failures` say, by subject, why there may be more than that; `warnings` are sentences.
    """

    referrers: dict[Digest, list[Node]] = field(default_factory=dict)
    tagged: dict[str, tuple[Digest, Descriptor]] = field(default_factory=dict)
    failures: dict[Digest, MirrorError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Lesson:
    """What has been learnt about the API of one registry. `api` is None as long as nobody has asked.

    `note` says what a registry does instead of having one, `trouble` what is wrong with the one that it has.
    """

    api: bool | None = None
    note: str = ""
    trouble: MirrorError | None = None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Referrers:
    """Finds what refers to images, and learns about registries meanwhile. One for a whole command."""

    def __init__(self, retry: RetryPolicy = ONCE) -> None:
        self._retry = retry
        self._lessons: dict[str, _Lesson] = {}

    async def find(self, repository: Repository, subjects: Sequence[Digest], reading: Source | None = None) -> Found:
        """Everything that refers to `subjects`, and what refers to that.

        What cannot be found out is in `failures`, and everything else is found all the same.

        Args:
            repository: where the subjects are.
            subjects: the digests of manifests and indexes.
            reading: where to read manifests; the repository itself where it is None.
        """
        lesson = self._lessons.setdefault(repository.registry.name, _Lesson())
        search = _Search(repository, reading or repository, lesson, self._retry)
        return await search.run(subjects)


class _Search:
    """One search of one repository."""

    def __init__(self, repository: Repository, reading: Source, lesson: _Lesson, retry: RetryPolicy) -> None:
        self._repository, self._reading, self._lesson, self._retry = repository, reading, lesson, retry
        self._registry = repository.registry
        self._scope = f"repository:{repository.name}:pull"
        self._found = Found()
        self._budget = Budget(str(repository), noun="referrer")
        self._tags: frozenset[str] | None = None
        self._listed = False
        self._listing = asyncio.Lock()
        self._most_pages = 1
        self._refused = ""

    async def run(self, subjects: Sequence[Digest]) -> Found:
        asked: set[Digest] = set()
        level = list(dict.fromkeys(subjects))
        limits = Limits(manifests=max(MOST, _NORMAL * len(level)), levels=DEEPEST)
        self._budget = Budget(str(self._repository), limits, "referrer")
        self._most_pages = max(1, len(level) * len(_tags_of(level[:1], True)))  # more would cost more than asking
        try:
            while level:
                asked.update(level)
                found = await map_concurrently(level, self._look, _AT_ONCE)
                level = [digest for digest in dict.fromkeys(chain.from_iterable(found)) if digest not in asked]
                if level:
                    self._budget.descend()
        except LimitExceeded as error:
            self._found.failures.setdefault(level[0], error)
        return self._finished()

    def _finished(self) -> Found:
        instead = self._refused or self._lesson.note
        if instead:
            self._found.warnings.append(
                f"{self._registry.name} {instead} where the referrers of an image should be listed; "
                f"only those that {self._repository} has under tags were looked for."
            )
        return self._found

    async def _look(self, subject: Digest) -> list[Digest]:
        """Find what refers to one subject, and return the digests of that."""
        try:
            return await self._find(subject)
        except MirrorError as error:
            self._found.failures.setdefault(subject, error)
            return []

    async def _find(self, subject: Digest) -> list[Digest]:
        listed = await self._by_api(subject)
        tags = [tag for tag in _tags_of([subject], listed is None) if await self._exists(tag)]
        for tag in tags:
            root = await self._resolve(tag)
            if root is None or root.digest == subject:
                # GitLab takes sha256-… for sha256:…, and gives the subject itself (oras-project/oras-go#1396).
                continue
            if tag == referrers_tag(subject):
                listed = await self._children(root, tag)
            else:
                self._admit([root])
                self._found.tagged[tag] = (subject, root)
        nodes = await self._read(subject, listed or [])
        if nodes:
            self._found.referrers[subject] = nodes
        return [node.descriptor.digest for node in nodes]

    # --- 1. the API ----------------------------------------------------------------------------------------------

    async def _by_api(self, subject: Digest) -> list[Descriptor] | None:
        """What the registry lists; None where it has no API."""
        lesson = self._lesson
        if lesson.api is None:
            async with lesson.asking:
                if lesson.api is None and not self._refused:
                    return await self._ask(subject)
        if lesson.trouble:
            self._found.failures.setdefault(subject, lesson.trouble)
        return await self._ask(subject) if lesson.api and not self._refused else None

    async def _ask(self, subject: Digest) -> list[Descriptor] | None:
        lesson = self._lesson
        try:
            listed = await self._list(subject)
        except TransferError as error:
            # An API that is there and broken is no reason to leave out what tags can tell, nor to ask it forty times.
            lesson.api, lesson.trouble = False, error
            self._found.failures.setdefault(subject, error)
            return None
        if lesson.api is None and not self._refused:
            lesson.api = listed is not None
        return listed

    async def _list(self, subject: Digest) -> list[Descriptor] | None:
        path = f"{self._repository.name}/referrers/{subject}"
        expect = frozenset({200}) | _NO_API | _REFUSALS
        listed: list[Descriptor] = []
        async for page in pages(self._registry, path, self._scope, expect=expect, retry=self._retry):
            if page.status in _NO_API:
                return None
            if page.status in (401, 403) and not page.redirected:
                self._refused = f"answers {page.status}"  # in this repository; others may be open to us
                return None
            if page.status != 200:
                # GHCR sends us on into github.com, which answers 429 (artifacthub/hub#4785).
                self._lesson.note = f"answers {page.status}"
                return None
            try:
                children = manifest.parse(page.data, OCI_INDEX, path, cap=len(page.data)).manifests
            except ContentError:
                self._lesson.note = "gives no index"
                return None
            self._admit(children)
            listed += children
        return listed

    # --- 2. and 3. tags ------------------------------------------------------------------------------------------

    async def _exists(self, tag: str) -> bool:
        async with self._listing:
            if not self._listed:
                self._tags, self._listed = await self._list_tags(), True
        if self._tags is not None:
            return tag in self._tags
        path = f"{self._repository.name}/manifests/{tag}"
        expect = frozenset({200, 400, 401, 404, 405})

        async def ask() -> bool:
            async with self._registry.send("HEAD", path, scope=self._scope, expect=expect) as response:
                return response.status in (200, 401, 405)  # no HEAD here: to resolve it will tell

        return await self._retry.run(ask)

    async def _list_tags(self) -> frozenset[str] | None:
        try:
            found = await list_tags(
                self._registry, self._repository.name, self._scope, retry=self._retry, max_pages=self._most_pages
            )
        except MirrorError:
            return None  # who may not list may ask
        return frozenset(found)

    async def _resolve(self, tag: str) -> Descriptor | None:
        try:
            return await self._retry.run(lambda: self._reading.resolve(tag))
        except NotFound:
            return None

    async def _children(self, root: Descriptor, tag: str) -> list[Descriptor]:
        if not root.is_index:
            self._found.warnings.append(f"{self._repository}:{tag} is no list of referrers, and is not taken for one.")
            return []
        children = (await read_node(self._reading, root, self._retry)).document.manifests
        self._admit(children)
        return list(children)

    # --- 4. manifests --------------------------------------------------------------------------------------------

    def _admit(self, nodes: Iterable[Descriptor]) -> None:
        """Count before anything is read.

        Raises:
            LimitExceeded: there are more than there can be.
        """
        for node in nodes:
            self._budget.take(node.size)

    async def _read(self, subject: Digest, listed: Sequence[Descriptor]) -> list[Node]:
        once = {node.digest: node for node in listed}
        nodes = await map_concurrently(once.values(), self._manifest, _AT_ONCE)
        about = [node for node in nodes if node and node.document.subject and node.document.subject.digest == subject]
        lacking = sum(node is None for node in nodes)
        strays = len(nodes) - lacking - len(about)
        # Whoever deletes a referrer rarely takes it out of the referrers tag; and a list can say what it likes.
        for number, what in ((lacking, "not there"), (strays, "about something else")):
            if number:
                self._found.warnings.append(
                    f"{self._repository}: {number} of the referrers listed for {subject} are {what}, and were left out."
                )
        return about

    async def _manifest(self, node: Descriptor) -> Node | None:
        if not node.is_manifest:
            return None
        try:
            return await read_node(self._reading, node, self._retry)
        except TransferError as error:
            if error.status == 404:
                return None
            raise


def _tags_of(subjects: Sequence[Digest], fallback: bool) -> list[str]:
    """The tags that things about `subjects` can have."""
    return [
        tag for digest in subjects for tag in (*([referrers_tag(digest)] if fallback else ()), *cosign_tags(digest))
    ]
