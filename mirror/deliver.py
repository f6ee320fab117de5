"""What refers to the images of a push, on its way with them: further copies of the same plan (docs/adr/0012).

A list of referrers is taken apart: its manifests go by their digests, and the registry lists them by their subjects.
Where it does not say that it does, they are listed under the referrers tag, beside what others have listed there.
What cosign has under tags goes under tags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirror.attachments import Attachment, companions
from mirror.content import Sink, Source
from mirror.copy import Copy
from mirror.descriptor import Descriptor
from mirror.digest import Digest
from mirror.errors import MirrorError, UsageError, WrongDigest
from mirror.graph import Graph, Node
from mirror.layout import Entry
from mirror.layout.attached import Attached, is_list, subjects_of
from mirror.registry import Repository, list_under_tag
from mirror.report.transfers import Companions
from mirror.retry import Retry


@dataclass(slots=True)
class Delivery:
    """What goes with one image. `failures` say, by subject, why that is not all."""

    subjects: Sequence[Digest]
    found: list[Attachment]
    failures: dict[Digest, MirrorError] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry, graph: Graph, attached: Sequence[Attached]) -> Delivery:
        whole = [one for one in attached if not one.failure]
        found = [Attachment(one.subject, *named(one.entry, one.graph), one.members) for one in whole]
        failures = {one.subject: one.failure for one in attached if one.failure}
        behind = [digest for one in attached if one.failure for digest in one.members]
        return cls([*subjects_of(entry, graph), *behind], found, failures)

    def arrived(self) -> list[Attachment]:
        """What has got there."""
        return [one for one in self.found if one.copy and not one.copy.failure]

    def add(self, other: Delivery) -> None:
        """What goes with the same image from elsewhere."""
        self.subjects = [*self.subjects, *other.subjects]
        self.found += other.found
        self.failures |= other.failures

    def to(self, source: Source, sink: Sink, copies: dict[tuple[int, str], Copy]) -> None:
        """Add to the copies of a plan, by sink and name; what goes there already for another image goes once.

        Raises:
            UsageError: something else has the name.
        """
        for one in self.found:
            fresh = Copy(source, sink, one.graph, one.name, one.root, optional=True)
            one.copy = copies.setdefault((id(sink), one.name), fresh)
            if one.copy.root.digest != one.root.digest:
                raise UsageError(
                    f"Two different things would both become {sink}:{one.name}.",
                    hint="Push the images one at a time, each to a prefix of its own.",
                )

    def result(self) -> Companions:
        return companions(self.subjects, self.found, self.failures)


def named(entry: Entry, graph: Graph) -> tuple[str, Graph, Descriptor]:
    """The name by which an entry goes to a registry, and what goes there: of a list only what it lists."""
    if not is_list(entry):
        return entry.tag or entry.root.digest, graph, entry.root
    listed = {digest: node for digest, node in graph.nodes.items() if digest != entry.root.digest}
    return entry.root.digest, replace(graph, nodes=listed), entry.root


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
