"""The walk below one root of a structure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.content.limits import MOST_BYTES, Budget
from mirror.errors import LimitExceeded
from mirror.layout import Entry
from mirror.layout.presence import absent, is_recorded
from mirror.oci.descriptor import Descriptor, Platform
from mirror.verify.blob_table import INDEX

if TYPE_CHECKING:
    from mirror.verify.structure import Structure


class Root:
    """Entries of `index.json` with the same root, which is walked once. `blobs` and `size` are totals of its blobs."""

    __slots__ = ("blobs", "entries", "platforms", "size")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.platforms: dict[str, None] = {}
        self.blobs = self.size = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry.name for entry in self.entries))


class Descent:
    """The walk below one root, by the rules and limits of `mirror.content.graph`, but over numbers of blobs.

    Descriptors would take several times the memory, and a manifest that many images share would be parsed once per
    image.
    """

    def __init__(self, structure: Structure, position: int, root: Root) -> None:
        self._structure, self._position, self._root = structure, position, root
        self._table, self._kept = structure.table, root.entries[0].kept
        self._whole = self._table.new_use(position, None)
        self._uses: dict[tuple[Platform | None, bool], int] = {}  # by platform, and whether it was left out on purpose
        self._budget = Budget(root.entries[0].root.digest)
        self._affordable: dict[int, bool] = {}  # manifests by number
        self._recorded = any(is_recorded(entry, is_archive=structure.store.is_archive) for entry in root.entries)
        self._gone: set[int] = set()  # children of its indexes that are absent as a whole: other roots may need them
        self._seen: set[tuple[int, int]] = set()
        self._full = False

    def walk(self) -> None:
        """Walk everything below the root. This ends, because content with a correct digest cannot contain itself."""
        node = self._root.entries[0].root
        top = self._table.add(node)
        level = list(self._need([top], lambda _: self._whole))
        if not node.is_manifest:
            self._note_type(top, node)
        elif not node.is_index and (platform := node.platform or self._structure.documents.config_platform(top)):
            self._root.platforms[str(platform)] = None
        while level:
            level = [below for number, use in level for below in self._below(number, use)]
            if level and not self._affords(self._budget.descend):
                return

    def _note_type(self, top: int, node: Descriptor) -> None:
        """Report a root that cannot be followed, or is not a manifest of any type."""
        documents = self._structure.documents
        documents.note_unsupported(top, node)
        if top not in documents.unsupported:
            expected = "a manifest or an index"
            finding = Finding(Kind.UNKNOWN_TYPE, Severity.WARNING, node.digest, expected, node.media_type)
            self._structure.pending.append((top, finding))

    def _below(self, number: int, use: int) -> Iterator[tuple[int, int]]:
        """Yield the manifests below a manifest that are to be walked next, each with its use."""
        if self._structure.may_follow() and number not in self._gone:
            self._structure.checkpoint()
            links = self._structure.documents.links(number)
            inside_index = self._table.flags[number] & INDEX
            if inside_index and not self._recorded:
                self._note_gone(links)
            yield from self._need(links, self._use_of if inside_index else lambda _: use)

    def _need(self, links: Sequence[int], use_of: Callable[[int], int]) -> Iterator[tuple[int, int]]:
        """Note that the root needs some blobs, and yield the manifests among them that are new, each with its use."""
        table, structure, root = self._table, self._structure, self._root
        structure.reached.extend([0] * (len(table) - len(structure.reached)))
        for number in links:
            use, is_manifest = use_of(number), table.media_type(number)
            if is_manifest and (number, use) in self._seen:
                continue
            structure.followed += 1
            if not table.is_used(number):
                structure.fresh.append(number)
            table.add_use(number, use)
            if is_manifest:
                self._seen.add((number, use))
                if number not in self._affordable:
                    self._affordable[number] = self._affords(partial(self._budget.take, table.sizes[number]))
                if self._affordable[number]:
                    yield number, use
            elif structure.reached[number] != self._position + 1:
                structure.reached[number] = self._position + 1
                root.blobs += 1
                root.size += table.sizes[number]

    def _use_of(self, child: int) -> int:
        """Return the use of a child of an index, one for each platform."""
        table = self._table
        if table.flags[child] & INDEX:
            return self._whole
        platform = table.platform(child)
        is_left_out = self._kept is not None and table.digest(child) not in self._kept
        key = platform, is_left_out or child in self._gone
        if key not in self._uses:
            name = str(platform) if platform and platform.known else None
            if name and not key[1]:
                self._root.platforms[name] = None
            self._uses[key] = table.new_use(self._position, name, key[1]) if name or key[1] else self._whole
        return self._uses[key]

    def _note_gone(self, children: Sequence[int]) -> None:
        """Note the children of an index that are absent as a whole, and report those whose manifests are here."""
        structure, table = self._structure, self._table
        listed = {child: table.platform(child) for child in children if not table.flags[child] & INDEX}
        sizes = accumulate(table.sizes[child] for child in listed)
        read = {child for child, size in zip(listed, sizes, strict=True) if size <= MOST_BYTES}
        links = {child: structure.documents.links(child) if child in read else () for child in listed}
        gone = absent({child: (not one or one.known, links[child]) for child, one in listed.items()}, structure.holds)
        for child in (child for child in gone - structure.gone if structure.holds(child)):
            platform = str(listed[child] or "a platform")
            structure.pending.append((child, Finding(Kind.ABSENT, Severity.WARNING, table.digest(child), platform)))
        structure.gone |= gone
        self._gone |= gone

    def _affords(self, spend: Callable[[], None]) -> bool:
        """Return whether the limits of a walk allow more; report it the first time that they do not."""
        try:
            spend()
        except LimitExceeded as error:
            if not self._full:
                digest = self._root.entries[0].root.digest
                found, images = reason(error, digest), self._root.names
                self._structure.report(Finding(Kind.TOO_MANY, Severity.ERROR, digest, "fewer manifests", found, images))
            self._full, self._structure.is_whole = True, False
            return False
        return True
