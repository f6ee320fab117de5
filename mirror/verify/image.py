"""Verify an image in its registry: every byte is fetched and hashed, and nothing is stored.

1. resolve the name
2. fetch and check each manifest, from the root down; compare the image with expected digests and records
3. fetch and hash every blob (`mirror.verify.readback`)

Mirrors of the registry are not used.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial

from mirror.concurrency import map_concurrently, to_thread
from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.content.finding_text import Fact
from mirror.content.graph import Graph
from mirror.content.limits import affordable
from mirror.content.select import names
from mirror.content.store import Progress, Source
from mirror.content.walk import read_small, walk
from mirror.errors import (
    InvalidContent,
    InvalidDigest,
    LimitExceeded,
    MirrorError,
    SizeConflict,
    TypeConflict,
    UnsupportedManifest,
)
from mirror.layout import Entry
from mirror.layout.names import ORIGIN
from mirror.oci.descriptor import Descriptor
from mirror.oci.reference import Reference
from mirror.records import image_configs
from mirror.registry import Client, RegistryOptions, open_source
from mirror.report.findings import VerifiedImage, VerifyReport
from mirror.retry import RetryPolicy
from mirror.verify.documents import unsupported_type
from mirror.verify.expectations import Compared, compare_images
from mirror.verify.options import Expectations, VerifyOptions, one_of
from mirror.verify.readback import Expected, finding_of, in_registry, read_back

_CONCURRENCY = 8  # configs fetched at once


async def verify_image(
    image: str, options: VerifyOptions | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Verify an image in a registry, with all of its platforms.

    Args:
        image: the name of the image.
        options: what to compare the image with, and how to connect; `VerifyOptions` lists the attributes that are used.
        progress: gets the progress.

    Returns:
        All findings, including content that cannot be fetched.

    Raises:
        UsageError: an unknown severity.
        InvalidDigest: a text in `expect` is not a digest.
        NotFound: there is no such image.
        ContentError: its root is not a manifest, or not the requested one.
        TransferError: the registry did not answer, or refused the request.
    """
    options, started = options or VerifyOptions(), time.monotonic()
    fail_on, registries = one_of(Severity, options.fail_on), options.registries or RegistryOptions()
    retry = options.retry or RetryPolicy()
    expectations = Expectations.of(options.expect, options.records)
    reference = Reference.parse(image)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(registries))
        source = open_source(client, reference).origin
        root = await retry.run(lambda: source.resolve(reference.target))
        image_walk = _ImageWalk(source, root, reference.stored, retry)
        await image_walk.walk()
        compared = await image_walk.compare(reference, expectations) if expectations else Compared()
        graph = image_walk.graph
        content = Expected(reference.stored, source, None, root.digest, tuple(graph.blobs.values()))
        found = await read_back([content], jobs=registries.jobs, retry=retry, progress=progress)
    return VerifyReport(
        path=f"docker://{reference}",
        images=(VerifiedImage(reference.stored, root.digest, names(graph), len(graph.blobs), graph.size),),
        findings=(*in_registry(*image_walk.findings, *compared.findings), *found.findings),
        files=len(graph.nodes) + len(graph.blobs),
        size=sum(node.descriptor.size for node in graph.nodes.values()) + found.size,
        seconds=time.monotonic() - started,
        fail_on=fail_on,
        anchored=tuple(compared.agreements),
    )


class _ImageWalk:
    """All manifests below one root that can be fetched, and a finding for each that cannot."""

    def __init__(self, source: Source, root: Descriptor, name: str, retry: RetryPolicy) -> None:
        self.graph, self.findings = Graph(root), list[Finding]()
        self._source, self._name, self._retry = source, name, retry

    async def walk(self) -> None:
        """Fetch the manifests from the registry, even those that are embedded in others."""
        self.graph = await walk(
            self._source, self.graph.root, embedded=False, retry=self._retry, on_fault=self._report_fault
        )
        for layer in self.graph.foreign.values():
            self._report(Kind.ABSENT, layer, layer.size, "a foreign layer, which is not kept here", Severity.WARNING)

    async def compare(self, reference: Reference, expectations: Expectations) -> Compared:
        """Compare the image with expected digests and records."""
        documents = {digest: node.document for digest, node in self.graph.nodes.items()}
        configs = affordable(image_configs(documents).values())
        read = zip(configs, await map_concurrently(configs, self._config, _CONCURRENCY), strict=True)
        contents = {config.digest: data for config, data in read if data is not None}
        contents |= {digest: node.data for digest, node in self.graph.nodes.items()}
        root = replace(self.graph.root, annotations={ORIGIN: reference.pinned(self.graph.root.digest)})
        entry = Entry(root, reference, reference.tag)
        where = f"docker://{reference}"
        work = partial(compare_images, lambda node: contents.get(node.digest), [entry], expectations, where, ())
        return await to_thread(work)

    async def _config(self, config: Descriptor) -> bytes | None:
        """Return the content of a config; None if it cannot be fetched, which step 3 reports."""
        try:
            return await read_small(self._source, config, self._retry)
        except MirrorError:
            return None

    def _report_fault(self, node: Descriptor, error: MirrorError) -> None:
        """Report a fault of a manifest, or of the descriptors that name it."""
        if isinstance(error, SizeConflict):
            self._report(Kind.SIZE_CONFLICT, node, "one size", error.sizes)
        elif isinstance(error, TypeConflict):
            self._report(Kind.TYPE_CONFLICT, node, "one type", error.types)
        elif isinstance(error, LimitExceeded):
            self._report(Kind.TOO_MANY, node, "fewer manifests", reason(error, node.digest))
        elif isinstance(error, UnsupportedManifest):
            self.findings.append(replace(unsupported_type(node.digest, node.media_type), images=(self._name,)))
        elif isinstance(error, InvalidContent | InvalidDigest) and node.digest.hashable:
            self._report(Kind.BROKEN_MANIFEST, node, "a valid manifest", reason(error, node.digest))
        else:
            self.findings.append(finding_of(error, node.digest, node.size, (self._name,), size=node.size))

    def _report(
        self, kind: Kind, node: Descriptor, expected: Fact, found: Fact, severity: Severity = Severity.ERROR
    ) -> None:
        self.findings.append(Finding(kind, severity, node.digest, expected, found, (self._name,), size=node.size))
