"""Descriptions of pushed images: for a receipt, and for reading them back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mirror.content.finding import Finding, Severity
from mirror.content.graph import Graph
from mirror.errors import ContentError, MirrorError, TransferError
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.oci.referrers import referrers_tag
from mirror.oci.tagged import Tagged
from mirror.registry import Repository
from mirror.text import count
from mirror.transfer.image import ImageTransfer
from mirror.verify.receipt_document import ReceiptImage, ReceiptReferrers, receipt_content


def pushed(image: ImageTransfer, repository: Repository) -> ReceiptImage:
    """Return the receipt of an image in a repository."""
    receipt = ReceiptImage.of(image.image.label, image.at_target, image.at_source.root.digest)
    if image.failure or image.selected is None:
        return replace(receipt, error=str(image.failure))
    graphs, tags, failure = [image.graph], list[Tagged](), ""
    if copies := image.referrers:
        tasks = list(copies.arrived())
        graphs += [task.graph for task in tasks]
        tags += [Tagged(task.name, task.root.digest) for task in tasks if ":" not in task.name]  # cosign's
        for subject, members in sorted(unlisted(repository, graphs).items()):  # without the referrers API
            if subject in copies.lists:
                tags.append(Tagged(referrers_tag(subject), copies.lists[subject], tuple(members)))
        failure = str(copies.summary().error or "")
    content = {part.digest: part for graph in graphs for part in receipt_content(graph)}
    referrers = ReceiptReferrers(tuple(tags), failure or None)
    platforms = tuple(image.chosen.platforms)
    return replace(receipt, platforms=platforms, content=tuple(content.values()), referrers=referrers)


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
