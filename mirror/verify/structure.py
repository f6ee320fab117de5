"""Step 2: from every image down to what it needs, and then what nothing names.

`Structure` also answers whom a flaw hurts.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.graph import FREE_LINKS, SHARED, Budget
from mirror.content.store import VerifiableStore
from mirror.errors import BrokenLayout, InvalidDigest, LimitExceeded, StorageError
from mirror.layout import Entry
from mirror.layout.referrers import chosen_from, is_attachable
from mirror.oci.digest import Digest
from mirror.oci.referrers import subject_of
from mirror.report.findings import VerifiedImage
from mirror.verify.blob_table import INDEX, BlobTable
from mirror.verify.documents import Documents
from mirror.verify.own import Report, unreadable

_ALGORITHMS = {"sha256", "sha384", "sha512"}


@dataclass(slots=True)
class Root:
    """The entries of `index.json` that are the same content: they are walked once. `blobs` and `size` are in all."""

    entries: list[Entry] = field(default_factory=list)
    platforms: dict[str, None] = field(default_factory=dict)
    blobs: int = 0
    size: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry.name for entry in self.entries))

    def image(self, entry: Entry, *, is_referrer: bool) -> VerifiedImage:
        platforms = tuple(self.platforms)
        return VerifiedImage(entry.name, entry.root.digest, platforms, self.blobs, self.size, is_referrer)


class Structure:
    """What a store claims to hold, and what it does hold. Findings about single blobs wait in `about`.

    `proceed` is called now and then; what it raises ends the work.
    """

    def __init__(self, store: VerifiableStore, *, deep: bool, report: Report, proceed: Callable[[], None]) -> None:
        self.store, self.ledger = store, BlobTable()
        self.roots: list[Root] = []
        self.is_whole = True  # False: limits were reached, so there may be more below the images
        self.about: list[tuple[int, Finding]] = []
        self.documents = Documents(store, self.ledger, lambda *pair: self.about.append(pair), deep=deep)
        self.report, self.proceed = report, proceed
        self.reached = array("I")  # of each blob, the last root from which it was reached, counted from 1
        self.followed = 0
        self._names: dict[tuple[int, ...], tuple[str, ...]] = {}

    def images(self) -> Iterator[VerifiedImage]:
        gone = {digest for root in self.roots for entry in root.entries for digest in chosen_from(entry)}
        for root in self.roots:
            for entry in root.entries:
                subject = subject_of(entry.tag) if is_attachable(entry) else None
                there = subject is not None and (subject in gone or self.ledger.named(subject))
                yield root.image(entry, is_referrer=there)

    # --- what the images need ------------------------------------------------------------------------------------

    def walk(self, entries: Sequence[Entry], advance: Callable[[int], None] = lambda _: None) -> None:
        """Note everything below the images; `advance` gets the bytes of each root when all below it is noted."""
        same: dict[tuple[object, ...], Root] = {}
        for entry in entries:
            node = entry.root
            same.setdefault((node.digest, node.media_type, node.size, entry.kept), Root()).entries.append(entry)
        self.roots = list(same.values())
        for position, root in enumerate(self.roots):
            _Descent(self, position, root).walk()
            self.ledger.forget_chains()
            advance(sum(entry.root.size for entry in root.entries))
            if not self.may_follow():
                self.is_whole = False
                expected = f"no link that is followed more than {SHARED} times, on the average"
                self.report(Finding(Kind.TOO_MANY, Severity.ERROR, "index.json", expected, "more"))
                return

    def may_follow(self) -> bool:
        """Whether the links followed so far are few enough for the links that there are."""
        return self.followed <= FREE_LINKS + SHARED * self.documents.count

    def name_top(self, top: int, root: Root) -> None:
        """The platform of an image without an index; and what an entry should be."""
        node = root.entries[0].root
        if not node.is_manifest:
            expected = "a manifest or an index"
            self.about.append(
                (top, Finding(Kind.UNKNOWN_TYPE, Severity.WARNING, node.digest, expected, node.media_type))
            )
        elif not node.is_index:
            platform = node.platform or self.documents.own_platform(top)
            if platform:
                root.platforms[str(platform)] = None

    # --- what nothing names --------------------------------------------------------------------------------------

    def find_orphans(self) -> None:
        """Note every other file below `blobs/`."""
        try:
            for algorithm, name in self.store.stored():
                self.proceed()
                self._sort_in(algorithm, name)
        except StorageError as error:
            self.report(unreadable("blobs", error))
        except BrokenLayout:
            return  # the store has said so among its faults

    def _sort_in(self, algorithm: str, name: str) -> None:
        path = f"blobs/{algorithm}/{name}".rstrip("/")
        try:
            self.ledger.note(Digest.parse(f"{algorithm}:{name}"))
        except InvalidDigest:
            self.report(_misplaced(algorithm, name, path))

    # --- whom it hurts -------------------------------------------------------------------------------------------

    def about_all(self) -> Iterator[Finding]:
        """What has been found about single blobs, and where those who name them contradict each other."""
        for number, finding in self.about:
            yield self.attributed(number, finding)
        for number, sizes in self.ledger.size_conflicts.items():
            found = ", ".join(f"{size} bytes" for size in list(sizes)[:10])
            yield self._conflict(number, Kind.SIZE_CONFLICT, "one size", found)
        for number, types in self.ledger.type_conflicts.items():
            yield self._conflict(number, Kind.TYPE_CONFLICT, "one kind", ", ".join(types))

    def _conflict(self, number: int, kind: Kind, expected: str, found: str) -> Finding:
        finding = Finding(kind, Severity.ERROR, self.ledger.digest(number), expected, found)
        return self.attributed(number, finding)

    def attributed(self, number: int, finding: Finding) -> Finding:
        """The finding, with the images and the platforms that it hurts: those that need it, or else could have it."""
        uses = list(self.ledger.uses(number))
        uses = [use for use in uses if not use.optional] or uses
        images = tuple(dict.fromkeys(use.image for use in reversed(uses)))
        platforms = dict.fromkeys(use.platform for use in reversed(uses) if use.platform)
        return replace(finding, images=self._called(images), platforms=tuple(platforms))

    def needed(self, number: int) -> bool:
        return any(not use.optional for use in self.ledger.uses(number))

    def _called(self, images: tuple[int, ...]) -> tuple[str, ...]:
        """The names of images; findings that hurt the same ones share them."""
        if images not in self._names:
            names = dict.fromkeys(name for image in images for name in self.roots[image].names)
            self._names[images] = tuple(names)
        return self._names[images]


class _Descent:
    """The walk below one root, by the rules and limits of `mirror.content.graph`, but over numbers.

    With descriptors, 100,000 blobs would take several times the memory; and a manifest that many images share would be
    parsed for each of them, or kept.
    """

    def __init__(self, structure: Structure, position: int, root: Root) -> None:
        self._structure, self._position, self._root = structure, position, root
        self._ledger, self._kept = structure.ledger, root.entries[0].kept
        self._whole = self._ledger.new_use(position, None)
        self._uses: dict[tuple[int, bool], int] = {}  # by platform, and by whether it was left out on purpose
        self._budget = Budget(root.entries[0].root.digest)
        self._affordable: dict[int, bool] = {}  # manifests by number
        self._seen: set[tuple[int, int]] = set()
        self._full = False

    def walk(self) -> None:
        """Note everything below the root. What hashes right cannot contain itself, so this ends."""
        top = self._ledger.claim(self._root.entries[0].root)
        level = list(self._need([top], lambda _: self._whole))
        self._structure.name_top(top, self._root)
        while level:
            level = [below for number, use in level for below in self._below(number, use)]
            if level and not self._affords(self._budget.descend):
                return

    def _below(self, number: int, use: int) -> Iterator[tuple[int, int]]:
        """Note what a manifest names; yield the manifests among it that are to be followed, each for one use."""
        if self._structure.may_follow():
            self._structure.proceed()
            links = self._structure.documents.links(number)
            inside_index = self._ledger.marks[number] & INDEX
            yield from self._need(links, self._use_of if inside_index else lambda _: use)

    def _need(self, links: Sequence[int], use_of: Callable[[int], int]) -> Iterator[tuple[int, int]]:
        ledger, structure, root = self._ledger, self._structure, self._root
        structure.reached.extend([0] * (len(ledger) - len(structure.reached)))
        for number in links:
            use, is_manifest = use_of(number), ledger.media_type(number)
            if is_manifest and (number, use) in self._seen:
                continue
            structure.followed += 1
            ledger.add_use(number, use)
            if is_manifest:
                self._seen.add((number, use))
                if number not in self._affordable:
                    self._affordable[number] = self._affords(partial(self._budget.take, ledger.sizes[number]))
                if self._affordable[number]:
                    yield number, use
            elif structure.reached[number] != self._position + 1:
                structure.reached[number] = self._position + 1
                root.blobs += 1
                root.size += ledger.sizes[number]

    def _use_of(self, child: int) -> int:
        """The use of an index's child: its platform, and whether it was left out on purpose."""
        ledger = self._ledger
        if ledger.marks[child] & INDEX:
            return self._whole
        key = ledger.place(child), self._kept is not None and ledger.digest(child) not in self._kept
        if key not in self._uses:
            platform = ledger.platform(child)
            name = str(platform) if platform and platform.known else None
            if name and not key[1]:
                self._root.platforms[name] = None
            self._uses[key] = ledger.new_use(self._position, name, key[1]) if name or key[1] else self._whole
        return self._uses[key]

    def _affords(self, spend: Callable[[], None]) -> bool:
        """Whether the limits of a walk allow for more. The first time that they do not, that is a finding."""
        try:
            spend()
        except LimitExceeded as error:
            if not self._full:
                digest, expected = self._root.entries[0].root.digest, "as many manifests as genuine images have"
                found = Finding(Kind.TOO_MANY, Severity.ERROR, digest, expected, str(error), self._root.names)
                self._structure.report(found)
            self._full, self._structure.is_whole = True, False
            return False
        return True


def _misplaced(algorithm: str, name: str, path: str) -> Finding:
    """A name below `blobs/` that is no digest."""
    if not name and algorithm in _ALGORITHMS:
        return Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, path, "a directory", "something else")
    try:
        Digest.parse(f"{algorithm}:{name}".lower())
    except InvalidDigest:
        expected = "only files that are named by their digest"
        return Finding(Kind.STRAY, Severity.WARNING, path, expected, "another name")
    return Finding(Kind.BAD_NAME, Severity.ERROR, path, "lower case", "upper case")
