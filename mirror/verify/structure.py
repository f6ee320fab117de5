"""Step 2: find everything that the images need, then the files that no image needs.

`Structure` also knows which images a fault affects.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.hashing import BlobFault, check_size
from mirror.content.limits import FREE_LINKS, SHARED
from mirror.content.store import VerifiableStore
from mirror.errors import BrokenLayout, InvalidDigest, StorageError
from mirror.layout import Entry
from mirror.layout.referring import can_refer, chosen_from
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.referrers import subject_of
from mirror.report.findings import VerifiedImage
from mirror.verify.blob_table import DONE, BlobTable
from mirror.verify.descent import Descent, Root
from mirror.verify.documents import Documents, unsupported_type
from mirror.verify.metadata import Report, unreadable

_ALGORITHMS = {"sha256", "sha384", "sha512"}
_MAX_CONFLICTS = 10  # sizes or types of one digest that a finding lists


class Structure:
    """The blobs that the images of a store need, and those that the store has.

    Findings about single blobs are kept in `pending` until all images that they affect are known; `report` gets all
    others. `checkpoint` is called often: an exception from it ends the walk. With `deep`, configs are compared with
    their manifests.
    """

    def __init__(self, store: VerifiableStore, *, deep: bool, report: Report, checkpoint: Callable[[], None]) -> None:
        self.store, self.table = store, BlobTable()
        self.roots: list[Root] = []
        self.is_whole = True  # False: a limit was reached, so there may be more below the images
        self.pending: list[tuple[int, Finding]] = []
        self.report, self.checkpoint = report, checkpoint
        self.documents = Documents(
            store, self.table, lambda *pair: self.pending.append(pair), deep=deep, checkpoint=checkpoint
        )
        self.reached = array("I")  # the last root from which each blob was reached, counted from 1
        self.fresh = array("I")  # blobs whose first use was found, until `adopt` looks at them
        self.followed = 0
        self.gone: set[int] = set()  # children of some index that are absent as a whole, without a record of that
        self.has_orphans = False
        self._names: dict[tuple[int, ...], tuple[str, ...]] = {}

    def images(self) -> Iterator[VerifiedImage]:
        """Yield the images that were walked."""
        published = self._published()
        for position, root in enumerate(self.roots):
            for entry in root.entries:
                if entry.is_nameless and self._is_part(entry.root.digest, position):
                    continue
                subject = self._subject(entry)
                is_known = subject is not None and (subject in published or self.table.has_manifest(subject))
                platforms = tuple(root.platforms)
                yield VerifiedImage(
                    entry.name, entry.root.digest, platforms, root.blobs, root.size, is_known or bool(entry.attachment)
                )

    def _published(self) -> set[Digest]:
        """Return the digests of the images that platforms were selected from."""
        return {digest for root in self.roots for entry in root.entries for digest in chosen_from(entry)}

    def _is_part(self, digest: Digest, position: int) -> bool:
        """Return whether the root at this position also belongs to another one."""
        number = self.table.find(digest)
        return number is not None and any(use.image != position for use in self.table.uses(number))

    def _subject(self, entry: Entry) -> Digest | None:
        """Return the digest that an entry refers to, by its tag or, if it has no name, by its manifest."""
        if can_refer(entry):
            return subject_of(entry.tag)
        number = self.table.find(entry.root.digest) if entry.is_nameless else None
        return self.documents.subject(number) if number is not None else None

    def walk(self, entries: Sequence[Entry], advance: Callable[[int], None] = lambda _: None) -> None:
        """Walk all images. `advance` gets the size of each root manifest once everything below it is known."""
        same: dict[tuple[object, ...], Root] = {}
        for entry in entries:
            node = entry.root
            same.setdefault((node.digest, node.media_type, node.size, entry.kept), Root([])).entries.append(entry)
        self.roots = list(same.values())
        for position, root in enumerate(self.roots):
            self._descend(position, root)
            advance(sum(entry.root.size for entry in root.entries))
            if not self.may_follow():
                self.is_whole = False
                found = f"its images share manifests so often that each is read more than {SHARED} times on average"
                self.report(Finding(Kind.TOO_MANY, Severity.ERROR, "index.json", "fewer links", found))
                return

    def _descend(self, position: int, root: Root) -> None:
        Descent(self, position, root).walk()
        self.table.seal_uses()

    def holds(self, number: int) -> bool:
        """Return whether there is anything in the place of a blob."""
        return check_size(self.store.open(self.table.digest(number)), None).fault is not BlobFault.MISSING

    def may_follow(self) -> bool:
        """Return whether the limit of followed links is not reached; it grows with the number of different links."""
        return self.followed <= FREE_LINKS + SHARED * self.documents.count

    def find_orphans(self) -> None:
        """Add every other file below `blobs/`."""
        try:
            for algorithm, name in self.store.stored():
                self.checkpoint()
                try:
                    number = self.table.number(Digest.parse(f"{algorithm}:{name}"))
                    self.has_orphans |= not self.table.is_used(number)
                except InvalidDigest:
                    self.report(_misplaced(algorithm, name))
        except StorageError as error:
            self.report(unreadable("blobs", error))
        except BrokenLayout:
            return  # one of the store's faults, which step 1 reports

    def adopt(self) -> None:
        """Walk what no entry leads to, but belongs to the images: referrers, and the images that artifacts refer to.

        Call it after `find_orphans`; each of them becomes a root of its own.
        """
        referrers: dict[Digest, list[Descriptor]] = {}
        for number in range(len(self.table)):
            self.checkpoint()
            if not (self.table.is_used(number) or self.table.flags[number] & DONE):
                found = self.documents.peek(number)
                if found:
                    referrers.setdefault(found[1], []).append(found[0])
        published = self._published()
        fresh = [node for digest in sorted(published) for node in referrers.pop(digest, ())]
        while fresh or self.fresh:
            for node in {node.digest: node for node in fresh}.values():
                self.roots.append(Root([Entry.of(node)]))
                self._descend(len(self.roots) - 1, self.roots[-1])
            fresh = self._take(referrers)
        self.documents.forget_peeked()

    def adopt_referrers(self, referrers_of: Callable[[Digest], Iterable[Entry]]) -> None:
        """Walk what refers to the images, and to that; the part of `adopt` for images that were selected."""
        subjects = [*sorted(self._published()), *self._take_manifests()]
        while subjects:
            for entry in chain.from_iterable(map(referrers_of, subjects)):
                number = self.table.find(entry.root.digest)
                if number is None or not self.table.is_used(number):
                    self.roots.append(Root([entry]))
                    self._descend(len(self.roots) - 1, self.roots[-1])
            subjects = self._take_manifests()

    def _take_manifests(self) -> list[Digest]:
        """Return the manifests among `fresh`, which is then empty."""
        numbers, self.fresh = self.fresh, array("I")
        return [self.table.digest(number) for number in numbers if self.table.media_type(number)]

    def _take(self, referrers: dict[Digest, list[Descriptor]]) -> list[Descriptor]:
        """Return what belongs to `fresh`, which is then empty, but is not used yet; take it from `referrers`.

        Each blob is looked at once, so that a long chain of referrers takes linear time.
        """
        numbers, self.fresh = self.fresh, array("I")
        found = [node for number in numbers for node in referrers.pop(self.table.digest(number), ())]
        for number in numbers:
            subject = self.documents.subjects.get(number)
            stored = self.table.find(subject.digest) if subject else None
            if subject and stored is not None and not self.table.is_used(stored):
                found.append(subject)
        return found

    def pending_findings(self) -> Iterator[Finding]:
        """Yield the findings about single blobs, and those about descriptors that contradict each other."""
        for number, finding in self.pending:
            yield self.with_affected(number, finding)
        for number, media_type in self.documents.unsupported.items():
            if not all(use.optional for use in self.table.uses(number)):  # not left out on purpose
                yield self.with_affected(number, unsupported_type(self.table.digest(number), media_type))
        conflicts: Iterable[tuple[Kind, str, Mapping[int, Iterable[int | str]]]] = (
            (Kind.SIZE_CONFLICT, "one size", self.table.size_conflicts),
            (Kind.TYPE_CONFLICT, "one type", self.table.type_conflicts),
        )
        for kind, expected, by_number in conflicts:
            for number, values in by_number.items():
                found = tuple(values)[:_MAX_CONFLICTS]
                finding = Finding(kind, Severity.ERROR, self.table.digest(number), expected, found)
                yield self.with_affected(number, finding)

    def with_affected(self, number: int, finding: Finding) -> Finding:
        """Return the finding with the affected images and platforms: those that need the blob, or else use it."""
        uses = list(self.table.uses(number))
        uses = [use for use in uses if not use.optional] or uses
        images = tuple(dict.fromkeys(use.image for use in reversed(uses)))
        platforms = dict.fromkeys(use.platform for use in reversed(uses) if use.platform)
        if images not in self._names:  # findings about the same images share one tuple of names
            self._names[images] = tuple(dict.fromkeys(name for image in images for name in self.roots[image].names))
        return replace(finding, images=self._names[images], platforms=tuple(platforms))


def _misplaced(algorithm: str, name: str) -> Finding:
    path = f"blobs/{algorithm}/{name}".rstrip("/")
    if not name and algorithm in _ALGORITHMS:
        return Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, path, "directory", "something else")
    try:
        Digest.parse(f"{algorithm}:{name}".lower())
    except InvalidDigest:
        return Finding(Kind.STRAY, Severity.WARNING, path, "a digest", name or algorithm)
    return Finding(Kind.BAD_NAME, Severity.ERROR, path, path.lower(), path)
