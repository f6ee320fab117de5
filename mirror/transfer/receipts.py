"""Descriptions of pushed images: for a receipt, and for reading them back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mirror.content.finding import Finding, Severity
from mirror.content.graph import Graph
from mirror.errors import ContentError, MirrorError, TransferError
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.oci.referrers import Tagged, referrers_tag
from mirror.registry import Repository
from mirror.text import count
from mirror.transfer.image import ImageTransfer
from mirror.transfer.referrers import ReferrerCopies
from mirror.verify.receipt_document import ReceiptImage, ReceiptReferrers, receipt_content


def pushed(image: ImageTransfer, repository: Repository) -> ReceiptImage:
    """Return the receipt of an image in a repository."""
    label, place, digest, copies = image.image.label, image.at_target, image.at_source.root.digest, image.referrers
    if image.failure or image.selected is None:
        return ReceiptImage.of(label, place, digest, error=str(image.failure))
    graphs = [image.graph, *(task.graph for task in copies.arrived())] if copies else [image.graph]
    content = {part.digest: part for graph in graphs for part in receipt_content(graph)}
    tags = tuple(_tags(copies, unlisted(repository, graphs))) if copies else ()
    failure = copies.summary().error if copies else None
    referrers = ReceiptReferrers(tags, str(failure) if failure else None)
    return ReceiptImage.of(label, place, digest, image.chosen.platforms, tuple(content.values()), referrers=referrers)


def _tags(copies: ReferrerCopies, unlisted: Mapping[Digest, Iterable[Digest]]) -> Iterator[Tagged]:
    """Yield the tags that lead to referrers: cosign's, and the lists in a registry without the referrers API."""
    for task in copies.arrived():
        if ":" not in task.name:
            yield Tagged(task.name, task.root.digest)
    for subject, members in sorted(unlisted.items()):
        if subject in copies.lists:
            yield Tagged(referrers_tag(subject), copies.lists[subject], tuple(members))


def unlisted(repository: Repository, graphs: Iterable[Graph]) -> dict[Digest, dict[Digest, Node]]:
    """Return, by subject, the referrers that a registry has received but does not list."""
    found: dict[Digest, dict[Digest, Node]] = {}
    for graph in graphs:
        for digest, node in graph.nodes.items():
            if node.document.subject and digest in repository.unlisted_referrers:
                found.setdefault(node.document.subject.digest, {})[digest] = node
    return found


def mismatch(image: ImageTransfer, findings: Sequence[Finding]) -> MirrorError:
    """Return the error for an image that the registry does not serve as it was pushed."""
    first = findings[0]
    more = f", and {count(len(findings) - 1, 'more finding')}" if findings[1:] else ""
    text = f"{image.place}, read back after the push: {first.subject}: {first.message}{more}."
    is_wrong = any(finding.severity is Severity.ERROR for finding in findings)
    return ContentError(text) if is_wrong else TransferError(text)
