"""Verify an image where it is, in a registry: every byte is fetched and hashed, and nothing is stored.

1. resolve the name
2. from the root down, each manifest: there, right, parsed; all held against what came another way
3. every blob fetched and hashed (`mirror.verify.readback`)

What a registry serves is all that there is, so there are no orphans and no names besides. Its mirrors are not asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from mirror.concurrency import map_concurrently, to_thread
from mirror.content.finding import Finding, Kind, Severity
from mirror.content.graph import Graph, affordable
from mirror.content.select import names
from mirror.content.store import Progress, Source
from mirror.content.walk import read_small, walk
from mirror.errors import InvalidContent, InvalidDigest, LimitExceeded, MirrorError, SizeConflict, TypeConflict
from mirror.layout import Entry
from mirror.layout.names import ORIGIN
from mirror.oci.descriptor import Descriptor
from mirror.oci.reference import Reference
from mirror.records import Record, image_configs
from mirror.registry import Client, RegistryOptions, open_source
from mirror.report.findings import VerifiedImage, VerifyReport
from mirror.retry import RetryPolicy
from mirror.verify.expectations import Compared, Expectations, compare_all
from mirror.verify.readback import Expected, finding_of, read_back

_AT_ONCE = 8  # configs fetched together


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
        content = Expected(reference.stored, source, None, root.digest, tuple(survey.graph.blobs.values()))
        found = await read_back([content], jobs=options.jobs, retry=retry, progress=progress)
    return VerifyReport(
        path=f"docker://{reference}",
        images=(survey.verified(),),
        findings=(*survey.findings, *compared.findings, *found.findings),
        files=len(survey.graph.nodes) + len(survey.graph.blobs),
        size=survey.hashed() + found.size,
        seconds=time.monotonic() - started,
        fail_on=Severity(fail_on),
        anchored=tuple(compared.anchored),
    )


class _Survey:
    """All below one root, as far as it can be read. What is wrong with a manifest ends the way below it alone."""

    def __init__(self, source: Source, root: Descriptor, name: str, retry: RetryPolicy) -> None:
        self.graph, self.findings = Graph(root), list[Finding]()
        self._source, self._name, self._retry = source, name, retry

    async def walk(self) -> None:
        """Step 2. What a descriptor embeds is not what the registry serves, so it is fetched all the same."""
        self.graph = await walk(
            self._source, self.graph.root, embedded=False, retry=self._retry, on_fault=self._report_fault
        )
        for layer in self.graph.foreign.values():
            found = "a layer that lives elsewhere"
            self._report(Kind.ABSENT, layer, f"{layer.size} bytes", found, Severity.WARNING)

    async def compared(self, reference: Reference, anchors: Expectations) -> Compared:
        """Between 2 and 3: the image, held against what came another way."""
        documents = {digest: node.document for digest, node in self.graph.nodes.items()}
        configs = affordable(image_configs(documents).values())
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
        blobs, size = len(self.graph.blobs), self.graph.size
        return VerifiedImage(self._name, self.graph.root.digest, names(self.graph), blobs, size)

    def hashed(self) -> int:
        """The bytes of the manifests that could be read."""
        return sum(node.descriptor.size for node in self.graph.nodes.values())

    def _report_fault(self, node: Descriptor, error: MirrorError) -> None:
        """Turn what is wrong with one manifest, or with what names it, into a finding."""
        if isinstance(error, SizeConflict):
            self._report(Kind.SIZE_CONFLICT, node, "one size", ", ".join(f"{size} bytes" for size in error.sizes))
        elif isinstance(error, TypeConflict):
            self._report(Kind.TYPE_CONFLICT, node, "one kind", ", ".join(error.types))
        elif isinstance(error, LimitExceeded):
            self._report(Kind.TOO_MANY, node, "as many manifests as genuine images have", str(error))
        elif isinstance(error, InvalidContent | InvalidDigest) and node.digest.hashable:
            self._report(Kind.BROKEN_MANIFEST, node, "a valid manifest", str(error))
        else:
            found = finding_of(error, node.digest, f"{node.size} bytes", (self._name,), size=node.size)
            self.findings.append(found)

    def _report(
        self, kind: Kind, node: Descriptor, expected: str, found: str, severity: Severity = Severity.ERROR
    ) -> None:
        self.findings.append(Finding(kind, severity, node.digest, expected, found, (self._name,), size=node.size))
