"""Step 2: from every image down to what it needs, and then what nothing names.

`Structure` also answers whom a flaw hurts.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.store import VerifiableStore
from mirror.errors import BrokenLayout, InvalidDigest, StorageError
from mirror.layout import Entry
from mirror.layout.referrers import chosen_from, is_attachable
from mirror.oci.digest import Digest
from mirror.oci.referrers import subject_of
from mirror.report.findings import VerifiedImage
from mirror.verify.blob_table import INDEX, BlobTable
from mirror.verify.documents import Documents
from mirror.verify.own import Report, unreadable

# Links that are followed: indexes that share their children can multiply without end. Honest ones share some.
FREE_LINKS, SHARED = 1_000_000, 20
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
        self.about: list[tuple[int, Finding]] = []
        self.documents = Documents(store, self.ledger, lambda *pair: self.about.append(pair), deep=deep)
        self._report, self._proceed = report, proceed
        self._reached = array("I")  # of each blob, the last root from which it was reached, counted from 1
        self._followed = 0
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
            self._walk(position, root)
            advance(sum(entry.root.size for entry in root.entries))
            if self._too_many():
                expected = f"no link that is followed more than {SHARED} times, on the average"
                self._report(Finding(Kind.TOO_MANY, Severity.ERROR, "index.json", expected, "more"))
                return

    def _too_many(self) -> bool:
        return self._followed > FREE_LINKS + SHARED * self.documents.count

    def _walk(self, position: int, root: Root) -> None:
        """Note everything below one root. What hashes right cannot contain itself, so this ends."""
        entry, ledger = root.entries[0], self.ledger
        top = ledger.claim(entry.root)
        whole = ledger.new_use(position, None)
        uses = {(0, False): whole}
        todo = deque([(top, whole)])
        seen = set(todo)
        self._name_top(top, root)
        while todo and not self._too_many():
            self._proceed()
            number, use = todo.popleft()
            self._need(number, use, position, root)
            inside_index = bool(ledger.marks[number] & INDEX)
            for child in self.documents.links(number):
                below = self._use_below(child, root, position, uses) if inside_index else use
                if not ledger.media_type(child):
                    self._need(child, below, position, root)
                elif (child, below) not in seen:
                    seen.add((child, below))
                    todo.append((child, below))
        ledger.forget_chains()

    def _need(self, number: int, use: int, position: int, root: Root) -> None:
        self._followed += 1
        self.ledger.add_use(number, use)
        if number >= len(self._reached):
            self._reached.extend([0] * (len(self.ledger) - len(self._reached)))
        if self._reached[number] != position + 1:
            self._reached[number] = position + 1
            if not self.ledger.media_type(number):
                root.blobs += 1
                root.size += self.ledger.sizes[number]

    def _use_below(self, child: int, root: Root, position: int, uses: dict[tuple[int, bool], int]) -> int:
        """The use of an index's child: its platform, and whether it was left out on purpose."""
        if self.ledger.marks[child] & INDEX:
            return uses[0, False]
        kept = root.entries[0].kept
        key = self.ledger.place(child), kept is not None and self.ledger.digest(child) not in kept
        if key not in uses:
            platform = self.ledger.platform(child)
            name = str(platform) if platform and platform.known else None
            if name and not key[1]:
                root.platforms[name] = None
            uses[key] = self.ledger.new_use(position, name, key[1])
        return uses[key]

    def _name_top(self, top: int, root: Root) -> None:
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
                self._proceed()
                self._sort_in(algorithm, name)
        except StorageError as error:
            self._report(unreadable("blobs", error))
        except BrokenLayout:
            return  # the store has said so among its faults

    def _sort_in(self, algorithm: str, name: str) -> None:
        path = f"blobs/{algorithm}/{name}".rstrip("/")
        try:
            self.ledger.note(Digest.parse(f"{algorithm}:{name}"))
        except InvalidDigest:
            self._report(_misplaced(algorithm, name, path))

    # --- whom it hurts -------------------------------------------------------------------------------------------

    def about_all(self) -> Iterator[Finding]:
        """What has been found about single blobs, and where those who name them contradict each other."""
        for number, finding in self.about:
            yield self.attributed(number, finding)
        for number, sizes in self.ledger.conflicts.items():
            found = ", ".join(f"{size} bytes" for size in list(sizes)[:10])
            yield self._conflict(number, Kind.SIZE_CONFLICT, "one size", found)
        for number, mark in enumerate(self.ledger.marks):
            if mark & 7 not in (0, 1, 2, 4):
                yield self._conflict(number, Kind.TYPE_CONFLICT, "one kind", ", ".join(self.ledger.kinds(number)))

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
