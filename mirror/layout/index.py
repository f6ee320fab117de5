"""`index.json`, read: the images of a layout and their names. Pure: bytes in, entries out.

It is an index like any other (OCI image-spec, image-layout.md), so `mirror.oci.manifest` parses it.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from mirror.errors import BrokenLayout, ContentError, NotFound, UsageError
from mirror.layout import names
from mirror.oci import manifest
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.reference import Reference
from mirror.strictjson import JsonObject, load_object

K = TypeVar("K", bound=Hashable)

CAP = 64 * 1024 * 1024  # bytes of an index.json: about 100,000 images
LAYOUT_CAP = 4096  # bytes of an oci-layout file
VERSION = "1.0.0"
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, indent=2).encode()


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a layout: the descriptor of its root, and what it is called."""

    root: Descriptor
    reference: Reference | None
    tag: str | None

    @classmethod
    def of(cls, root: Descriptor) -> Entry:
        reference = names.full_name(root.annotations)
        tag = reference.tag if reference else names.bare_tag(root.annotations)
        return cls(root, reference, tag)

    @property
    def name(self) -> str:
        """What to call the image: its full name, else its tag or other name, else its digest."""
        if self.reference:
            return self.reference.stored
        return (
            self.root.annotations.get(names.REF_NAME) or self.root.annotations.get(names.IMAGE_NAME) or self.root.digest
        )

    @property
    def texts(self) -> set[str]:
        """What is written in the entry that names the image: its digest, its annotations, its tag."""
        annotations = self.root.annotations
        found = (self.root.digest, annotations.get(names.IMAGE_NAME), annotations.get(names.REF_NAME), self.tag)
        return {text for text in found if text is not None}

    @property
    def kept(self) -> frozenset[str] | None:
        """The children of a sparse image that are here; None where nothing is absent on purpose."""
        text = self.root.annotations.get(names.SPARSE)
        return None if text is None else frozenset(text.split(","))

    def lacks(self, child: Descriptor) -> bool:
        """Whether a child of one of this image's indexes was left out on purpose."""
        return self.kept is not None and not child.is_index and child.digest not in self.kept


def check_layout_file(data: bytes) -> None:
    """Check the content of `oci-layout`.

    Raises:
        BrokenLayout: it is no JSON object with the one version that exists.
    """
    try:
        version = load_object(data, "oci-layout").get("imageLayoutVersion")
    except ContentError as error:
        raise BrokenLayout(str(error)) from None
    if version != VERSION:
        raise BrokenLayout(f"oci-layout: 'imageLayoutVersion' is {str(version)[:40]!r}, and should be {VERSION!r}.")


def entries(data: bytes) -> list[Entry]:
    """Return the images that an `index.json` names.

    Raises:
        BrokenLayout: it is not a valid index.
    """
    return parse(data)[1]


def parse(data: bytes) -> tuple[JsonObject, list[Entry]]:
    """Return the JSON object of an `index.json`, and the images that it names.

    Raises:
        BrokenLayout: it is not a valid index.
    """
    if len(data) > CAP:
        raise BrokenLayout(f"index.json has {len(data)} bytes; {CAP} are the limit.")
    try:
        raw = load_object(data, "index.json")
        document = manifest.parse_object(raw, OCI_INDEX, "index.json")
    except ContentError as error:
        raise BrokenLayout(str(error), hint=error.hint) from None
    return raw, [Entry.of(root) for root in document.manifests]


class EntryFinder:
    """The entries of one store, found by the names that people use for them.

    Looking up a name costs the same however many entries there are; `where` names the store in messages.
    """

    def __init__(self, entries: Sequence[Entry], where: str) -> None:
        self.entries = entries
        self._where = where

    def find_all(self, texts: Iterable[str]) -> list[Entry]:
        """Return the images that `texts` name, each once; all images if `texts` is empty.

        Raises:
            NotFound: there is no such image, or no image at all.
            UsageError: a text could mean several images.
        """
        if not self.entries:
            raise NotFound(f"{self._where} has no images.", hint="Pull one into it first.")
        return list(dict.fromkeys(map(self.find, texts))) or list(self.entries)

    def find(self, text: str) -> Entry:
        """Return the one image that `text` names: a digest, a name as it is stored, or a reference in any short form.

        Raises:
            NotFound: there is none; the message lists those that are there.
            UsageError: there are several with different content.
        """
        matches = self._named(text) or self._ending_in(text)
        if not matches:
            there = ", ".join(entry.name for entry in self.entries[:10]) or "no images at all"
            more = f" and {len(self.entries) - 10} more" if len(self.entries) > 10 else ""
            raise NotFound(f"{self._where} has no image {text!r}.", hint=f"It has: {there}{more}.")
        if len({entry.root.digest for entry in matches}) > 1:
            both = ", ".join(f"{entry.name} ({entry.root.digest.short})" for entry in matches)
            raise UsageError(f"{text!r} could be several images of {self._where}.", hint=f"Say which: {both}.")
        return matches[0]

    def _named(self, text: str) -> list[Entry]:
        """Return the entries with this digest, annotation, tag or full name, in their order."""
        places = {*self._by_text.get(text, ())}
        with suppress(UsageError):
            asked = Reference.parse(text)
            if asked.digest:
                pinned = self._by_digest.get((asked.name, asked.digest), ())
                places.update(place for place in pinned if asked.tag in (None, self.entries[place].tag))
            else:
                places.update(self._by_reference.get(asked.stored, ()))
        return [self.entries[place] for place in sorted(places)]

    def _ending_in(self, text: str) -> list[Entry]:
        """Return the entries whose names end in a short name, as `host/team/app:v1` ends in `app:v1`."""
        alike = (self.entries[place] for place in self._by_last_part.get(text.rpartition("/")[2], ()))
        return [entry for entry in alike if entry.name.endswith(f"/{text}")]

    @cached_property
    def _by_text(self) -> dict[str, list[int]]:
        return _places((text, place) for place, entry in enumerate(self.entries) for text in entry.texts)

    @cached_property
    def _by_reference(self) -> dict[str, list[int]]:
        found = enumerate(entry.reference for entry in self.entries)
        return _places((reference.stored, place) for place, reference in found if reference)

    @cached_property
    def _by_digest(self) -> dict[tuple[str, str], list[int]]:
        found = enumerate((entry.reference, entry.root.digest) for entry in self.entries)
        return _places(((reference.name, digest), place) for place, (reference, digest) in found if reference)

    @cached_property
    def _by_last_part(self) -> dict[str, list[int]]:
        return _places((entry.name.rpartition("/")[2], place) for place, entry in enumerate(self.entries))


def find(found: Sequence[Entry], text: str, where: str) -> Entry:
    """Return the one image that `text` names; see `EntryFinder.find`."""
    return EntryFinder(found, where).find(text)


def _places(pairs: Iterable[tuple[K, int]]) -> dict[K, list[int]]:
    found: dict[K, list[int]] = {}
    for key, place in pairs:
        found.setdefault(key, []).append(place)
    return found
