"""Referrers and child manifests wherever a layout has them, as the entries that mirror would have written for them.

mirror lists the referrers of a manifest in an index, under the referrers tag (docs/adr/0012). Other tools write:

    cosign 3    manifests with a `subject` that no entry leads to
    cosign 2    entries of the kind `dev.cosignproject.cosign/sigs` or `atts`, for the image of the layout
    oras        entries without a name: referrers, and the children of an index that has an entry itself

One pass over the blobs that can be manifests finds them all. `Relations.complete` returns entries as if mirror had
written the layout, so that everything else knows only one form. A damaged manifest that still shows its subject is a
referrer too: otherwise nothing would say that a signature is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from mirror.content.hashing import BlobCheck, Reader
from mirror.content.known import KnownContent
from mirror.errors import ContentError
from mirror.layout import names
from mirror.layout.index import Entry
from mirror.layout.referring import can_refer, chosen_from, home, is_list
from mirror.layout.related import read_document, read_related, shown_subject
from mirror.oci import manifest
from mirror.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, build_index, raw_children
from mirror.oci.referrers import described, referrers_tag, subject_of
from mirror.strictjson import JsonObject

_Place = tuple[str | None, Digest]  # a repository, if its name is known, and a subject in it


class Stored(Protocol):
    """A layout or an archive, whose blobs can be listed. Nothing that it returns has been verified."""

    def stored(self) -> Iterator[tuple[str, str]]:
        """Yield every name below `blobs/`, as (algorithm, encoded); they need not be digests."""
        ...

    def look(self, digest: Digest) -> Reader | BlobCheck:
        """Open the blob of this digest, or return the fault."""
        ...


class StoredReferrer(NamedTuple):
    """A manifest with a `subject`, intact or damaged, and its descriptor in a list of referrers, `listed`."""

    descriptor: Descriptor
    subject: Digest
    listed: JsonObject


@dataclass(slots=True)
class Relations:
    """The relations between the manifests of a store, whether or not an entry leads to them.

    Attributes:
        parents: for each child of an index, those indexes.
        referrers: for each subject, the manifests that refer to it.
        roots: the descriptors of those manifests, and of the subjects of intact ones.
        known: receives what is read, for those who read it next.
    """

    store: Stored
    known: KnownContent | None = None
    parents: dict[Digest, list[Digest]] = field(default_factory=dict)
    referrers: dict[Digest, list[StoredReferrer]] = field(default_factory=dict)
    roots: dict[Digest, Descriptor] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def read(cls, store: Stored, known: KnownContent | None = None) -> Relations:
        """Read every blob that can be a manifest, once. Blocks."""
        found = cls(store, known)
        found.update()
        return found

    def update(self) -> None:
        """Read the blobs that have been added to the store. Blocks."""
        for algorithm, encoded in self.store.stored():
            if (algorithm, encoded) in self._seen:
                continue
            self._seen.add((algorithm, encoded))
            with suppress(ContentError):  # not named by a digest, or not a manifest
                digest = Digest.parse(f"{algorithm}:{encoded}")
                data = read_related(self.store.look(digest))
                if data is None:
                    continue
                if digest.compute(data) == digest:
                    self._add(digest, data)
                elif subject := shown_subject(data):
                    self._refer(Descriptor(OCI_MANIFEST, digest, len(data)), subject)

    def _add(self, digest: Digest, data: bytes) -> None:
        document = manifest.parse_once(data, None, digest)
        if self.known:
            self.known.add(digest, data)
        for child in document.manifests:
            self.parents.setdefault(child.digest, []).append(digest)
        if document.subject:
            root = Descriptor(document.media_type, digest, len(data), artifact_type=document.artifact_type)
            self._refer(root, document.subject.digest, described(Node(root, data, document)))
            self.roots[document.subject.digest] = document.subject

    def _refer(self, root: Descriptor, subject: Digest, listed: JsonObject | None = None) -> None:
        self.roots.setdefault(root.digest, root)
        self.referrers.setdefault(subject, []).append(StoredReferrer(root, subject, listed or root.to_json()))

    def without(self, entries: Sequence[Entry]) -> Relations:
        """Return the relations without the referrers that entries are or list, as if they were not stored."""
        gone = {entry.root.digest for entry in entries}
        lists = {entry.root.digest for entry in entries if is_list(entry)}
        gone.update(digest for digest, parents in self.parents.items() if not lists.isdisjoint(parents))
        left = {
            subject: [one for one in some if one.descriptor.digest not in gone]
            for subject, some in self.referrers.items()
        }
        return replace(self, referrers=left)

    def complete(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the entries of the store, with all referrers in lists and without entries that repeat others."""
        return _Completion(self, entries).run()


class _Completion:
    """The entries of a store, and those that it implies."""

    def __init__(self, relations: Relations, entries: Sequence[Entry]) -> None:
        self._relations, self._entries = relations, entries
        self._by_root: dict[Digest, list[Entry]] = {}
        self._by_published: dict[Digest, list[Entry]] = {}  # the indexes that the platforms of entries were chosen from
        for entry in entries:
            self._by_root.setdefault(entry.root.digest, []).append(entry)
            for digest in chosen_from(entry):
                self._by_published.setdefault(digest, []).append(entry)
        self._lists: dict[str, list[Entry]] = {}  # a bare tag need not be unique
        for entry in filter(is_list, entries):
            self._lists.setdefault(entry.name, []).append(entry)
        self._signed = [entry for entry in entries if names.is_signed(entry.root.annotations)]

    def run(self) -> list[Entry]:
        listed = self._unlisted()
        lists = {entry.name: entry for entry in map(self._list, listed, listed.values())}
        referring = {one.descriptor.digest for some in listed.values() for one in some}
        extended, kept = set(lists), list[Entry]()
        for entry in self._entries:
            if entry.is_nameless and (entry.root.digest in referring or self._is_repeated(entry)):
                continue
            if is_list(entry) and entry.name in extended:
                kept += [lists.pop(entry.name)] if entry.name in lists else []  # one list for all of this name
            else:
                kept.append(self._attached(entry))
        return [*kept, *(lists[name] for name in sorted(lists))]

    def _above(self, digest: Digest) -> list[Entry]:
        """Return the entries that lead to a manifest through their indexes, or whose root it is."""
        seen, todo = {digest}, [digest]
        for one in todo:  # grows below
            fresh = [parent for parent in self._relations.parents.get(one, ()) if parent not in seen]
            seen.update(fresh)
            todo += fresh
        return [entry for one in todo for entry in self._by_root.get(one, ())]

    def _is_repeated(self, entry: Entry) -> bool:
        """Return whether another entry leads to the root of a nameless entry."""
        first = self._by_root[entry.root.digest][0]
        others = (one for one in self._above(entry.root.digest) if one != entry and not one.lacks(entry.root))
        return entry is not first or any(not one.is_nameless or one.root != entry.root for one in others)

    def _unlisted(self) -> dict[_Place, list[StoredReferrer]]:
        """Return the referrers that would not be found as mirror lists them, by repository and subject."""
        referrers, found = self._relations.referrers, dict[_Place, list[StoredReferrer]]()
        repositories = {subject: self._repositories(subject) for subject in referrers}
        listed = {
            one.descriptor.digest: self._listed(one, repositories[one.subject])
            for some in referrers.values()
            for one in some
        }
        places = [(where, subject) for subject, some in repositories.items() for where in some]
        seen = set(places)
        for where, subject in places:  # grows below: referrers may be subjects, too
            for one in referrers[subject]:
                known = listed[one.descriptor.digest]
                if known is None or where in known:
                    continue
                found.setdefault((where, subject), []).append(one)
                place = (where, one.descriptor.digest)
                if place[1] in referrers and place not in seen:
                    seen.add(place)
                    places.append(place)
        return found

    def _repositories(self, subject: Digest) -> set[str | None]:
        return {home(entry) for entry in (*self._above(subject), *self._by_published.get(subject, ()))}

    def _listed(self, referrer: StoredReferrer, repositories: set[str | None]) -> set[str | None] | None:
        """Return the repositories of the subject where a referrer is in the image, so that it needs no list.

        None: one of them lists it. It belongs to that repository, and to no other.
        """
        subject, around = referrer.subject, {id(entry) for entry in self._above(referrer.subject)}
        entries = self._above(referrer.descriptor.digest)
        if any(home(entry) in repositories and _refers(entry, subject) for entry in entries):
            return None
        return {home(entry) for entry in entries if id(entry) in around}

    def _list(self, place: _Place, referrers: Iterable[StoredReferrer]) -> Entry:
        """Return the entry of a list of referrers; those of an existing list stay in it."""
        where, subject = place
        children = {one.descriptor.digest: one.listed for one in referrers}
        naming = _naming(where, referrers_tag(subject))
        name = Entry.of(Descriptor(OCI_INDEX, subject, 0, annotations=naming)).name
        for digest in (old.root.digest for old in self._lists.get(name, ())):
            if data := read_document(self._relations.store.look(digest), digest):
                children |= {Digest(str(child["digest"])): child for child in raw_children(data, name)}
        data = build_index(OCI_INDEX, [children[digest] for digest in sorted(children)], {})
        return Entry.of(Descriptor(OCI_INDEX, Digest.of(data), len(data), annotations=naming, data=data))

    def _attached(self, entry: Entry) -> Entry:
        """Return an entry of cosign 2 under the tag that it would have in a registry; any other entry as it is."""
        if entry.attachment is None:
            return entry
        name = entry.root.annotations.get(names.REF_NAME)
        alike = [one for one in self._signed if one.root.annotations.get(names.REF_NAME) == name]
        images = alike or self._signed
        if len(images) != 1:
            return entry
        digest = images[0].root.digest
        kept = {key: text for key, text in entry.root.annotations.items() if key not in names.NAMING}
        tag = f"{digest.algorithm}-{digest.encoded}.{entry.attachment}"
        return Entry.of(replace(entry.root, annotations={**kept, **_naming(home(images[0]), tag)}))


def _refers(entry: Entry, subject: Digest) -> bool:
    """Return whether an entry is a list of the referrers of `subject`, or has one of cosign's tags for it."""
    return can_refer(entry) and (entry.tag == referrers_tag(subject) or subject_of(entry.tag) == subject)


def _naming(where: str | None, tag: str) -> dict[str, str]:
    """Return the annotations that name an entry in a repository, or outside of any."""
    return {names.IMAGE_NAME: f"{where}:{tag}", names.REF_NAME: tag} if where else {names.REF_NAME: tag}
