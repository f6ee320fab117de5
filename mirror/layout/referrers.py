"""Which entries of a layout are about its images: lists of referrers, and what cosign has under tags (docs/adr/0012).

They have names as images have, so that other tools find them, and go where their image goes. An entry belongs to an
image by its tag, which is made from a digest of that image, and by its repository. What belongs to no image is an
entry like any other, so nothing can hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mirror.content.graph import Graph, read_node, walk
from mirror.content.select import INDEX
from mirror.content.store import Source
from mirror.errors import InvalidDigest, MirrorError
from mirror.layout import names
from mirror.layout.index import Entry
from mirror.oci.digest import Digest
from mirror.oci.referrers import is_about, is_referrers_tag, tags_about


@dataclass(frozen=True, slots=True)
class StoredReferrer:
    """An entry that is about `subject`, and all below it; `failure` says why that could not be read."""

    subject: Digest
    entry: Entry
    graph: Graph
    failure: MirrorError | None = None

    @property
    def is_list(self) -> bool:
        return is_list(self.entry)

    @property
    def members(self) -> tuple[Digest, ...]:
        """The manifests that are about the subject."""
        return members(self.entry, self.graph)


def members(entry: Entry, graph: Graph) -> tuple[Digest, ...]:
    """The manifests of an entry that are about its subject: those that it lists, or itself."""
    root = graph.nodes.get(entry.root.digest)
    if not is_list(entry):
        return (entry.root.digest,)
    return tuple(dict.fromkeys(child.digest for child in root.document.manifests)) if root else ()


def about_others(entries: Iterable[tuple[Entry, Graph]]) -> dict[str, int]:
    """How many manifests about another one of these entries there are in each that has any, by their names."""
    entries = list(entries)
    subjects = {(home(entry), subject) for entry, graph in entries for subject in subjects_of(entry, graph)}
    places = {(where, tag) for where, subject in subjects for tag in tags_about(subject)}
    return {
        entry.name: len(members(entry, graph))
        for entry, graph in entries
        if is_attachable(entry) and (home(entry), entry.tag) in places
    }


async def walk_entry(source: Source, entry: Entry, *, foreign: bool = True) -> Graph:
    """All below an entry; children that are absent on purpose are not looked for.

    Raises:
        MirrorError: as `walk`.
    """
    return await walk(source, entry.root, keep=lambda child: not entry.lacks(child), foreign=foreign)


def is_list(entry: Entry) -> bool:
    """Whether an entry is a list of referrers, by its name and kind."""
    return entry.root.is_index and is_referrers_tag(entry.tag)


def is_attachable(entry: Entry) -> bool:
    """Whether an entry can be about another one."""
    return is_list(entry) or (is_about(entry.tag) and not is_referrers_tag(entry.tag))


def images_of(entries: list[Entry]) -> list[Entry]:
    """Those entries that are images for certain; all of them, where none is."""
    return [entry for entry in entries if not is_attachable(entry)] or entries


def subjects_of(entry: Entry, graph: Graph) -> list[Digest]:
    """What entries about an image can be about: its manifests, and the index that a platform was chosen from."""
    return list(dict.fromkeys([*graph.nodes, *chosen_from(entry)]))


def chosen_from(entry: Entry) -> list[Digest]:
    """What the image was before some of its platforms were chosen, as the layout says."""
    return [digest for digest in (_digest(entry.root.annotations.get(INDEX, "")), published(entry)) if digest]


def published(entry: Entry) -> Digest | None:
    """The digest that the image had where it was pulled from, as the layout says; None where it says none."""
    return _digest(entry.root.annotations.get(names.ORIGIN, "").rpartition("@")[2])


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


class LayoutReferrers:
    """The entries of one layout that can be about others."""

    def __init__(self, source: Source, entries: Iterable[Entry]) -> None:
        self._source = source
        self._by_name = {(home(entry), entry.tag): entry for entry in entries if is_attachable(entry)}

    async def of(self, entry: Entry, graph: Graph) -> list[StoredReferrer]:
        """What is about one image, and what is about that."""
        found: dict[str, StoredReferrer] = {}
        subjects = subjects_of(entry, graph)
        seen = set(subjects)
        for subject in subjects:  # grows meanwhile
            for other in self._about(home(entry), subject):
                if other.name in found or other == entry:
                    continue
                found[other.name] = attached = await self._read(subject, other)
                fresh = [digest for digest in attached.members if digest not in seen]
                seen.update(fresh)
                subjects += fresh
        return list(found.values())

    def _about(self, home: str | None, subject: Digest) -> Sequence[Entry]:
        found = (self._by_name.get((home, tag)) for tag in tags_about(subject))
        return [entry for entry in found if entry]

    async def _read(self, subject: Digest, entry: Entry) -> StoredReferrer:
        try:
            return StoredReferrer(subject, entry, await walk(self._source, entry.root))
        except MirrorError as error:
            found = Graph(entry.root)
            with suppress(MirrorError):  # what a list names may have referrers too, also where it is damaged itself
                found.nodes[entry.root.digest] = await read_node(self._source, entry.root)
            return StoredReferrer(subject, entry, found, error)


def home(entry: Entry) -> str | None:
    """The repository that an entry is from, as far as the layout says."""
    return entry.reference.name if entry.reference else None
