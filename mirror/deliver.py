"""What is left to do when what refers to an image is in a registry (docs/adr/0012).

The registry lists it by its subjects. Where it does not say that it does, it is listed under the referrers tag, beside
what others have listed there. Cosign's tags are read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mirror.attachments import Attachment
from mirror.digest import Digest
from mirror.errors import MirrorError, WrongDigest
from mirror.graph import Graph, Node
from mirror.registry import Repository, list_under_tag
from mirror.retry import Retry


async def list_referrers(repository: Repository, graphs: Iterable[Graph], retry: Retry) -> dict[Digest, MirrorError]:
    """List under referrers tags what a registry has got and does not list itself.

    Returns:
        What failed, by the subject.
    """
    unlisted: dict[Digest, dict[Digest, Node]] = {}
    for graph in graphs:
        for digest, node in graph.nodes.items():
            if node.document.subject and digest in repository.unlisted:
                unlisted.setdefault(node.document.subject.digest, {})[digest] = node
    failed: dict[Digest, MirrorError] = {}
    for subject, nodes in sorted(unlisted.items()):
        try:
            await list_under_tag(repository, subject, list(nodes.values()), retry)
        except MirrorError as error:
            failed[subject] = error
    return failed


async def read_tags_back(
    repository: Repository, found: Sequence[Attachment], retry: Retry
) -> Mapping[Digest, MirrorError]:
    """Whether cosign's tags stand for what was pushed.

    Returns:
        What failed, by the subject.
    """
    failed: dict[Digest, MirrorError] = {}
    for one in found:
        if ":" in one.name or one.copy is None or one.copy.failure:
            continue
        try:
            await _read_back(repository, one, retry)
        except MirrorError as error:
            failed[one.subject] = error
    return failed


async def _read_back(repository: Repository, one: Attachment, retry: Retry) -> None:
    got = await retry.run(lambda: repository.resolve(one.name))
    if got.digest != one.root.digest:
        raise WrongDigest(f"{repository}:{one.name}, read back after the push,", want=one.root.digest, got=got.digest)
