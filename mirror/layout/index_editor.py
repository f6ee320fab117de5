"""`index.json`, changed in memory. Pure: bytes in, bytes out.

A change takes the same time, however many images there are. Entries that are not added or removed stay as they were,
as do unknown fields. A new entry is inserted by its image name, as far as the others are sorted, so that the bytes do
not depend on the order in which images arrive; an entry that is replaced keeps its position.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mirror.layout import names
from mirror.layout.index import Entry, parse
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.reference import Reference
from mirror.strictjson import JsonObject

_Key = tuple[str, str | None]  # a full name, which is unique, and None; or any other name, and a digest


@dataclass(eq=False, slots=True)
class _Slot:
    """An entry in the list. `raw` is its JSON object, or the bytes of that object as they are in the file."""

    entry: Entry
    raw: JsonObject | bytes
    gone: bool = False

    @property
    def ref_name(self) -> str:
        return self.entry.root.annotations.get(names.REF_NAME, "")

    @property
    def sort_key(self) -> str:
        return self.entry.root.annotations.get(names.IMAGE_NAME, "")

    def dump(self) -> bytes:
        if not isinstance(self.raw, bytes):
            self.raw = _dumped(self.raw, 4)
        return self.raw


class IndexEditor:
    """A parsed `index.json` that can be changed and written again. `is_changed`: its entries are not those parsed."""

    def __init__(self, data: bytes) -> None:
        """Parse the file; raise BrokenLayout if it is not valid."""
        self.is_changed = False
        self._document, found = parse(data)
        raws = self._document["manifests"] or []
        self._document["manifests"] = []  # stays in its position among the other fields
        if "mediaType" in self._document:  # a Docker manifest list has no annotations, so it becomes an index
            self._document["mediaType"] = OCI_INDEX
        self._slots = [_Slot(entry, raw) for entry, raw in zip(found, raws, strict=True)]
        self._new: list[_Slot] = []  # not inserted yet
        self._entries: list[Entry] | None = found
        self._by_key: dict[_Key, list[_Slot]] = {}
        self._ref_names: dict[str, int] = {}  # the number of entries with each ref.name
        for slot in self._slots:
            self._by_key.setdefault(_key(slot.entry), []).append(slot)
        self._count(self._slots, 1)

    def __len__(self) -> int:
        return len(self._slots) + len(self._new)

    def entries(self) -> list[Entry]:
        """Return the current entries, in their order; the same list until the next change."""
        if self._entries is None:
            self._entries = [slot.entry for slot in self._sorted() if not slot.gone]
        return self._entries

    def current(self, name: str) -> Entry | None:
        """Return the entry with this full name, which `add` would replace."""
        slots = self._by_key.get((name, None))
        return slots[0].entry if slots else None

    def add(self, name: str, root: Descriptor) -> Entry | None:
        """Make `name` point to `root`, and return the entry that is replaced, if any.

        `name` is a full name, or the name in the annotations of `root` if they contain no full name. The annotations
        are kept, except a ref.name that another entry already has.
        """
        new, given = Entry.of(root), names.given(root.annotations)
        bare = new.shares(name)  # other images with this name stay
        name = name if bare else Reference.parse(name).stored
        replaced = self._by_key.pop((name, root.digest if bare else None), [])
        before = replaced[0].entry if replaced else None
        self._count(replaced, -1)
        fits = new.name == given.get(names.IMAGE_NAME) == name and given.get(names.REF_NAME) not in self._ref_names
        naming = given if bare or fits else names.annotate(name, self._ref_names)
        others = {key: text for key, text in root.annotations.items() if key not in given}
        root = replace(root, annotations={**naming, **others}, urls=(), data=None)
        entry = Entry.of(root)
        if len(replaced) == 1 and replaced[0].entry == entry:
            self._by_key[_key(entry)] = replaced
            self._count(replaced, 1)
            return before
        self.is_changed = True
        slot = _Slot(entry, _dumped(root.to_json(), 4))
        if replaced and replaced[0].sort_key == slot.sort_key:
            replaced[0].entry, replaced[0].raw = slot.entry, slot.raw
            slot = replaced.pop(0)
            self._drop(replaced)
        else:
            self._drop(replaced)
            self._new.append(slot)
        self._by_key[_key(slot.entry)] = [slot]
        self._count([slot], 1)
        self._entries = None
        return before

    def remove(self, entry: Entry) -> None:
        """Remove every entry that is equal to `entry`."""
        slots = self._by_key.get(_key(entry), [])
        gone = [slot for slot in slots if slot.entry == entry]
        self.is_changed = self.is_changed or bool(gone)
        self._count(gone, -1)
        self._drop(gone)
        self._by_key[_key(entry)] = [slot for slot in slots if not slot.gone]
        self._entries = None

    def dump(self) -> list[bytes]:
        """Return the bytes of the file, in pieces; the pieces of unchanged entries are reused."""
        pieces, before = [], b"{\n  "
        for key, value in self._document.items():
            pieces += [before, _dumped(key), b": "]
            pieces += self._dump_entries() if key == "manifests" else [_dumped(value, 2)]
            before = b",\n  "
        return [*pieces, b"\n}"]

    def _dump_entries(self) -> Iterator[bytes]:
        before = b"[\n    "
        for slot in self._sorted():
            if not slot.gone:
                yield before
                yield slot.dump()
                before = b",\n    "
        yield b"\n  ]" if before.startswith(b",") else b"[]"

    def _drop(self, slots: Iterable[_Slot]) -> None:
        for slot in slots:
            if slot.sort_key:
                self._sorted()  # new entries find their position by it, so they are inserted first
            slot.gone = True

    def _sorted(self) -> list[_Slot]:
        """Insert the new entries, each before the first of the others whose name is greater."""
        if self._new:
            new = sorted((slot for slot in self._new if not slot.gone), key=lambda slot: slot.sort_key)[::-1]
            merged: list[_Slot] = []
            for slot in self._slots:
                while not slot.gone and new and new[-1].sort_key < slot.sort_key:
                    merged.append(new.pop())
                merged.append(slot)
            self._slots, self._new = merged + new[::-1], []
        return self._slots

    def _count(self, slots: Iterable[_Slot], change: int) -> None:
        for slot in slots:
            self._ref_names[slot.ref_name] = self._ref_names.get(slot.ref_name, 0) + change
            if not self._ref_names[slot.ref_name]:
                del self._ref_names[slot.ref_name]


def _key(entry: Entry) -> _Key:
    return entry.name, None if entry.reference else entry.root.digest


def _dumped(value: object, indent: int = 0) -> bytes:
    return json.dumps(value, indent=2).replace("\n", "\n" + " " * indent).encode()
