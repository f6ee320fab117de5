"""What is left to do when what refers to an image is in a registry (docs/adr/0012).

The registry lists it by its subjects. Where it does not say that it does, it is listed under the referrers tag, beside
what others have listed there. Cosign's tags are read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mirror.content.graph import Graph
from mirror.errors import DigestMismatch, MirrorError
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.registry import Repository, list_under_tag
from mirror.retry import RetryPolicy
from mirror.transfer.attachments import Referrer


@dataclass(slots=True)
class Listed:
    """What is under referrers tags now: the digest of each list by its subject, and likewise what failed."""

    lists: dict[Digest, Digest] = field(default_factory=dict)
    failures: dict[Digest, MirrorError] = field(default_factory=dict)


def unlisted(repository: Repository, graphs: Iterable[Graph]) -> dict[Digest, dict[Digest, Node]]:
    """What a registry has got and does not list itself, by its subject."""
    found: dict[Digest, dict[Digest, Node]] = {}
    for graph in graphs:
        for digest, node in graph.nodes.items():
            if node.document.subject and digest in repository.unlisted_referrers:
                found.setdefault(node.document.subject.digest, {})[digest] = node
    return found


async def list_referrers(repository: Repository, graphs: Iterable[Graph], retry: RetryPolicy) -> Listed:
    """List under referrers tags what a registry has got and does not list itself."""
    listed = Listed()
    for subject, nodes in sorted(unlisted(repository, graphs).items()):
        try:
            listed.lists[subject] = await list_under_tag(repository, subject, list(nodes.values()), retry)
        except MirrorError as error:
            listed.failures[subject] = error
    return listed


async def read_tags_back(repository: Repository, found: Sequence[Referrer], retry: RetryPolicy) -> None:
    """See whether cosign's tags stand for what was pushed; where one does not, its copy has failed."""
    for one in found:
        if ":" in one.name or one.copy is None or one.copy.failure:
            continue
        try:
            await _read_back(repository, one, retry)
        except MirrorError as error:
            one.copy.failure = error


async def _read_back(repository: Repository, one: Referrer, retry: RetryPolicy) -> None:
    got = await retry.run(lambda: repository.resolve(one.name))
    if got.digest != one.root.digest:
        raise DigestMismatch(
            f"{repository}:{one.name}, read back after the push,", want=one.root.digest, got=got.digest
        )
