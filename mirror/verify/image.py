"""Verify an image where it is, in a registry: every byte is fetched and hashed, and nothing is stored.

1. resolve the name
2. from the root down, each manifest: there, right, parsed; all held against what came another way
3. every blob fetched and hashed (`mirror.verify.readback`)

What a registry serves is all that there is, so there are no orphans and no names besides. Its mirrors are not asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from mirror.concurrency import map_concurrently, to_thread
from mirror.content.finding import Finding, Kind, Severity
from mirror.content.graph import DEEPEST, MOST_BYTES, MOST_MANIFESTS, Graph, read_node, read_small
from mirror.content.select import names
from mirror.content.store import Progress, Source
from mirror.errors import InvalidContent, InvalidDigest, MirrorError
from mirror.layout import Entry
from mirror.layout.names import ORIGIN
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.records import Record, image_configs
from mirror.registry import Client, RegistryOptions, open_source
from mirror.report.findings import VerifiedImage, VerifyReport
from mirror.retry import RetryPolicy
from mirror.verify.expectations import Compared, Expectations, compare_all
from mirror.verify.readback import Expected, finding_of, read_back

_AT_ONCE = 8  # manifests fetched together


async def verify_image(
    image: str,
    options: RegistryOptions | None = None,
    retry: RetryPolicy | None = None,
    *,
    fail_on: Severity | str = Severity.ERROR,
    expect: Mapping[str, str] | None = None,
    records: Sequence[Record] = (),
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify an image in a registry to the end; all of its platforms.

    Args:
        image: its name.
        options: how to talk to registries, and how much to read at once.
        retry: how stubbornly.
        fail_on: the least severity that makes the verdict `not ok`: `error` or `warning`.
        expect: the digest that the image has to have, by its name.
        records: digest records that it has to agree with; see `parse_records`.
        progress: who wants to know how it goes.

    Returns:
        All findings. What cannot be fetched is one of them.

    Raises:
        InvalidDigest: something in `expect` is no digest.
        NotFound: there is no such image.
        ContentError: its root is no manifest, or another one than was asked for.
        TransferError: the registry could not be asked.
    """
    options, retry, started = options or RegistryOptions(), retry or RetryPolicy(), time.monotonic()
    anchors = Expectations.of(expect, records)
    reference = Reference.parse(image)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(options))
        source = open_source(client, reference).origin
        root = await retry.run(lambda: source.resolve(reference.target))
        survey = _Survey(source, root, reference.stored, retry)
        await survey.walk()
        compared = await survey.compared(reference, anchors) if anchors else Compared()
        content = Expected(reference.stored, source, None, root.digest, tuple(survey.blobs.values()))
        found = await read_back([content], jobs=options.jobs, retry=retry, progress=progress)
    return VerifyReport(
        path=f"docker://{reference}",
        images=(survey.verified(),),
        findings=(*survey.findings, *compared.findings, *found.findings),
        files=len(survey.graph.nodes) + len(survey.blobs),
        size=survey.hashed() + found.size,
        seconds=time.monotonic() - started,
        fail_on=Severity(fail_on),
        anchored=tuple(compared.anchored),
    )


class _Survey:
    """All below one root, as far as it can be read. What is wrong with a manifest ends the way below it alone."""

    def __init__(self, source: Source, root: Descriptor, name: str, retry: RetryPolicy) -> None:
        self.graph, self.findings = Graph(root), list[Finding]()
        self.blobs: dict[Digest, Descriptor] = {}
        self._source, self._name, self._retry = source, name, retry
        self._sizes: dict[Digest, int] = {}
        self._manifests = self._bytes = 0
        self._full = False

    async def walk(self) -> None:
        """Step 2."""
        level = self._sort_in([self.graph.root])
        for _ in range(DEEPEST):
            below = await map_concurrently(level, self._links, _AT_ONCE)
            level = self._sort_in(link for links in below for link in links)
            if not level:
                return
        self._report(Kind.TOO_MANY, self.graph.root, f"at most {DEEPEST} levels", "more")

    async def compared(self, reference: Reference, anchors: Expectations) -> Compared:
        """Between 2 and 3: the image, held against what came another way."""
        documents = {digest: node.document for digest, node in self.graph.nodes.items()}
        configs = _first(image_configs(documents).values(), MOST_BYTES)
        read = zip(configs, await map_concurrently(configs, self._config, _AT_ONCE), strict=True)
        contents = {config.digest: data for config, data in read if data is not None}
        contents |= {digest: node.data for digest, node in self.graph.nodes.items()}
        root = replace(self.graph.root, annotations={ORIGIN: reference.pinned(self.graph.root.digest)})
        entry = Entry(root, reference, reference.tag)
        where = f"docker://{reference}"
        return await to_thread(lambda: compare_all(lambda node: contents.get(node.digest), [entry], anchors, where))

    async def _config(self, config: Descriptor) -> bytes | None:
        """The content of a config; where it is not to be had, step 3 says why."""
        try:
            return await read_small(self._source, config, self._retry)
        except MirrorError:
            return None

    def verified(self) -> VerifiedImage:
        size = sum(blob.size for blob in self.blobs.values())
        return VerifiedImage(self._name, self.graph.root.digest, names(self.graph), len(self.blobs), size)

    def hashed(self) -> int:
        """The bytes of the manifests that could be read."""
        return sum(node.descriptor.size for node in self.graph.nodes.values())

    async def _links(self, node: Descriptor) -> list[Descriptor]:
        try:
            read = await read_node(self._source, node, self._retry)
        except InvalidContent as error:
            self._report(Kind.BROKEN_MANIFEST, node, "a valid manifest", str(error))
        except MirrorError as error:
            self.findings.append(finding_of(error, node.digest, f"{node.size} bytes", (self._name,), size=node.size))
        else:
            self.graph.nodes[node.digest] = read
            return [replace(link, data=None) for link in read.document.links]  # what is embedded is not what is served
        return []

    def _sort_in(self, links: Iterable[Descriptor]) -> list[Descriptor]:
        """Note what is new, and return the manifests among it that can be read."""
        fresh = []
        for link in links:
            known = self._sizes.get(link.digest)
            if known is None:
                self._sizes[link.digest] = link.size
                fresh += [link] if self._is_to_open(link) else []
            elif known != link.size:
                self._report(Kind.SIZE_CONFLICT, link, "one size", f"{known} bytes, {link.size} bytes")
        return fresh

    def _is_to_open(self, link: Descriptor) -> bool:
        try:
            link.digest.hasher()
        except InvalidDigest as error:
            self._report(Kind.UNHASHABLE, link, "a known algorithm", str(error), Severity.UNVERIFIED)
            return False
        if link.is_manifest:
            return self._has_room(link)
        if link.is_foreign:
            self._report(Kind.ABSENT, link, f"{link.size} bytes", "a layer that lives elsewhere", Severity.WARNING)
        else:
            self.blobs[link.digest] = link
        return False

    def _has_room(self, link: Descriptor) -> bool:
        """Whether a manifest may still be opened: no honest image has as many as that."""
        self._manifests += 1
        self._bytes += link.size
        if self._manifests <= MOST_MANIFESTS and self._bytes <= MOST_BYTES:
            return True
        expected = f"at most {MOST_MANIFESTS} manifests with {MOST_BYTES} bytes in all"
        if not self._full:
            self._report(Kind.TOO_MANY, self.graph.root, expected, "more")
        self._full = True
        return False

    def _report(
        self, kind: Kind, node: Descriptor, expected: str, found: str, severity: Severity = Severity.ERROR
    ) -> None:
        self.findings.append(Finding(kind, severity, node.digest, expected, found, (self._name,), size=node.size))


def _first(nodes: Iterable[Descriptor], size: int) -> list[Descriptor]:
    """As many of them as have no more than `size` bytes together."""
    return [node for node in nodes if (size := size - node.size) >= 0]
