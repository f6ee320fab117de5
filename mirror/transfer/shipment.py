"""One image of a push: what it is in the layout, where it goes, and what is said of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mirror.content.copy import CopyTask
from mirror.content.finding import Finding, Severity
from mirror.content.graph import Graph
from mirror.content.select import names, platforms_there
from mirror.content.store import Sink
from mirror.errors import ContentError, MirrorError, TransferError
from mirror.layout import Entry, Layout
from mirror.layout.referrers import is_list, walk_entry
from mirror.oci.reference import Reference
from mirror.oci.referrers import Tagged, referrers_tag
from mirror.registry import Repository
from mirror.report.transfers import Transferred
from mirror.text import count
from mirror.transfer.attachments import ReferrerCopies, named
from mirror.transfer.deliver import unlisted
from mirror.verify.readback import Expected
from mirror.verify.receipt_document import ReceiptImage, ReceiptReferrers, receipt_content


@dataclass(eq=False, slots=True)
class PushedImage:
    """One image on its way: what it is in the layout, all below it, what goes with it, and where it goes."""

    entry: Entry
    graph: Graph | None = None
    platforms: tuple[str, ...] = ()
    delivery: ReferrerCopies | None = None
    error: MirrorError | None = None
    place: Reference = field(init=False)
    repository: Repository = field(init=False)
    sink: Sink = field(init=False)
    copy: CopyTask | None = None

    @property
    def failure(self) -> MirrorError | None:
        return self.error or (self.copy.failure if self.copy else None)

    async def walk(self, source: Layout) -> Graph:
        """Find all below it.

        Raises:
            MirrorError: as `walk_entry`.
        """
        self.graph = graph = await walk_entry(source, self.entry, foreign=False)
        try:
            self.platforms = await platforms_there(source, graph)
        except MirrorError:  # a config that cannot be read is said when its turn comes
            self.platforms = names(graph)
        return graph

    def to(self, source: Layout) -> CopyTask | None:
        """Step 3's view of it; None where it could not even be walked."""
        if self.graph is None:
            return None
        name, graph, root = named(self.entry, self.graph)
        self.copy = CopyTask(source, self.sink, graph, name if is_list(self.entry) else self.place.target, root)
        return self.copy

    def warnings(self) -> list[str]:
        """Foreign layers stay where they are (OCI image-spec, layer.md, "Non-Distributable Layers")."""
        foreign = len(self.graph.foreign) if self.graph else 0
        text = f"{self.entry.name}: {foreign} foreign layers stay where they live; they were not pushed."
        return [text] if foreign else []

    def result(self) -> Transferred:
        digest = self.entry.root.digest
        return Transferred(
            source=self.entry.name,
            pinned=self.place.pinned(digest),
            digest=digest,
            platforms=self.platforms,
            failure=self.failure,
            referrers=self.delivery.result() if self.delivery else None,
        )

    def receipt(self) -> ReceiptImage:
        failure = str(self.failure) if self.failure else None
        digest, graph = self.entry.root.digest, None if failure else self.graph
        if graph is None:
            return ReceiptImage.of(self.entry.name, self.place, digest, error=failure)
        graphs = [graph, *(one.graph for one in self.delivery.arrived())] if self.delivery else [graph]
        content = {part.digest: part for each in graphs for part in receipt_content(each)}
        lacking = self.delivery.result().failure if self.delivery else None
        return ReceiptImage.of(
            self.entry.name,
            self.place,
            digest,
            self.platforms,
            tuple(content.values()),
            referrers=ReceiptReferrers(tuple(self._tags(graphs)), str(lacking) if lacking else None),
        )

    def _tags(self, graphs: Sequence[Graph]) -> Iterator[Tagged]:
        """The tags by which what is attached is found: cosign's, and where the registry does not list it, lists."""
        if not self.delivery:
            return
        for one in self.delivery.arrived():
            if ":" not in one.name:
                yield Tagged(one.name, one.root.digest)
        for subject, nodes in sorted(unlisted(self.repository, graphs).items()):
            if subject in self.delivery.lists:
                yield Tagged(referrers_tag(subject), self.delivery.lists[subject], tuple(nodes))

    def expected(self) -> Expected:
        return self.receipt().expected(self.repository)


def not_there(image: PushedImage, findings: Sequence[Finding]) -> MirrorError:
    """The error for an image that the registry does not give back as it was pushed."""
    first = findings[0]
    more = f", and {count(len(findings) - 1, 'more finding')}" if findings[1:] else ""
    text = (
        f"{image.place}, read back after the push: {first.subject} is {first.kind}: "
        f"expected {first.expected}, found {first.found}{more}."
    )
    wrong = any(finding.severity is Severity.ERROR for finding in findings)
    return ContentError(text) if wrong else TransferError(text)
