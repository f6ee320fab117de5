"""What a push says of an image afterwards: for its receipt, and when it is read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mirror.content.finding import Finding, Severity
from mirror.content.graph import Graph
from mirror.errors import ContentError, MirrorError, TransferError
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.oci.reference import Reference
from mirror.oci.referrers import Tagged, referrers_tag
from mirror.registry import Repository
from mirror.text import count
from mirror.transfer.image import ImageTransfer
from mirror.verify.readback import Expected
from mirror.verify.receipt_document import ReceiptImage, ReceiptReferrers, receipt_content


def pushed(image: ImageTransfer, repository: Repository) -> ReceiptImage:
    """Return what the receipt says of an image."""
    place, digest = _place(image), image.at_source.root.digest
    if image.failure or image.selected is None:
        return ReceiptImage.of(image.image.label, place, digest, error=str(image.failure))
    along = image.referrers
    graphs = [image.graph, *(copy.graph for copy in along.arrived())] if along else [image.graph]
    content = {part.digest: part for graph in graphs for part in receipt_content(graph)}
    lacking = along.summary().error if along else None
    return ReceiptImage.of(
        image.image.label,
        place,
        digest,
        image.chosen.platforms,
        tuple(content.values()),
        referrers=ReceiptReferrers(tuple(_tags(image, repository, graphs)), str(lacking) if lacking else None),
    )


def _tags(image: ImageTransfer, repository: Repository, graphs: Sequence[Graph]) -> Iterator[Tagged]:
    """The tags by which referrers are found: cosign's, and the lists of a registry without the referrers API."""
    if not image.referrers:
        return
    for copy in image.referrers.arrived():
        if ":" not in copy.name:
            yield Tagged(copy.name, copy.root.digest)
    for subject, nodes in sorted(unlisted(repository, graphs).items()):
        if subject in image.referrers.lists:
            yield Tagged(referrers_tag(subject), image.referrers.lists[subject], tuple(nodes))


def unlisted(repository: Repository, graphs: Iterable[Graph]) -> dict[Digest, dict[Digest, Node]]:
    """Return, by subject, the referrers that a registry has received and does not list itself."""
    found: dict[Digest, dict[Digest, Node]] = {}
    for graph in graphs:
        for digest, node in graph.nodes.items():
            if node.document.subject and digest in repository.unlisted_referrers:
                found.setdefault(node.document.subject.digest, {})[digest] = node
    return found


def expected(image: ImageTransfer, repository: Repository) -> Expected:
    """Return what has to be in a registry after an image has been pushed."""
    return pushed(image, repository).expected(repository)


def not_there(image: ImageTransfer, findings: Sequence[Finding]) -> MirrorError:
    """Return the error for an image that the registry does not give back as it was pushed."""
    first = findings[0]
    more = f", and {count(len(findings) - 1, 'more finding')}" if findings[1:] else ""
    text = f"{image.place}, read back after the push: {first.subject}: {first.message}{more}."
    wrong = any(finding.severity is Severity.ERROR for finding in findings)
    return ContentError(text) if wrong else TransferError(text)


def _place(image: ImageTransfer) -> Reference:
    assert image.place is not None, "placed before"
    return image.place
