"""`index.json`, parsed: the images of a layout and their names. Pure: bytes in, entries out.

It is an image index (OCI image-spec, image-layout.md), so `mirror.oci.manifest` parses it. go-containerregistry and
oc-mirror also write a Docker manifest list in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from typing import NamedTuple, TypeVar

from mirror.errors import BrokenLayout, ContentError, NotFound, UsageError
from mirror.layout import names
from mirror.oci import manifest
from mirror.oci.descriptor import DOCKER_LIST, OCI_INDEX, Descriptor
from mirror.oci.reference import Reference
from mirror.strictjson import JsonObject, load_object

K = TypeVar("K", bound=Hashable)

_SHORT_DIGEST = r"(?a)(?:sha(?:256|384|512):)?([0-9a-f]{12,128})"  # compiled on first use, which is rare
CAP = 64 * 1024 * 1024  # bytes of an index.json: about 100,000 images
LAYOUT_CAP = 4096  # bytes of an oci-layout file
VERSION = "1.0.0"
OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
EMPTY = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}, indent=2).encode()


class Entry(NamedTuple):
    """One image of a layout: the descriptor of its root, its full name if that is known, and its tag."""

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
        """The full name of the image, else its tag or other name, else its digest."""
        if self.reference:
            return self.reference.stored
        annotations = names.given(self.root.annotations)
        return annotations.get(names.REF_NAME) or annotations.get(names.IMAGE_NAME) or self.root.digest

    @property
    def texts(self) -> set[str]:
        """Everything in the entry that names the image: its digest, its annotations, its tag."""
        annotations = names.given(self.root.annotations)
        found = (self.root.digest, annotations.get(names.IMAGE_NAME), annotations.get(names.REF_NAME), self.tag)
        return {text for text in found if text is not None}

    @property
    def is_nameless(self) -> bool:
        """True for an image that only its digest names."""
        return self.name == self.root.digest

    @property
    def attachment(self) -> str | None:
        """`sig` or `att` for an entry of cosign that belongs to the image of the same layout."""
        return names.attachment(self.root.annotations)

    @property
    def kept(self) -> frozenset[str] | None:
        """The digests of the children that a sparse image has here; None if nothing is intentionally absent."""
        text = self.root.annotations.get(names.SPARSE)
        return None if text is None else frozenset(text.split(","))

    def shares(self, name: str) -> bool:
        """Return whether `name` is the name of the image, but not a full one: other images may have it, too."""
        return self.reference is None and self.name == name

    def lacks(self, child: Descriptor) -> bool:
        """Return whether a child of one of this image's indexes is intentionally absent."""
        return self.kept is not None and not child.is_index and child.digest not in self.kept


def check_layout_file(data: bytes) -> None:
    """Check the content of an `oci-layout` file; raise BrokenLayout if it is not valid."""
    try:
        version = load_object(data, "oci-layout").get("imageLayoutVersion")
    except ContentError as error:
        raise BrokenLayout(str(error)) from None
    if version != VERSION:
        raise BrokenLayout(f"oci-layout: 'imageLayoutVersion' is {str(version)[:40]!r}, and should be {VERSION!r}.")


def entries(data: bytes) -> list[Entry]:
    """Return the images that an `index.json` names; raise BrokenLayout if it is not valid."""
    return parse(data)[1]


def parse(data: bytes) -> tuple[JsonObject, list[Entry]]:
    """Return the JSON object of an `index.json`, and the images in it; raise BrokenLayout if it is not valid."""
    if len(data) > CAP:
        raise BrokenLayout(f"index.json has {len(data)} bytes; the limit is {CAP}.")
    try:
        raw = load_object(data, "index.json")
        is_list = raw.get("mediaType") == DOCKER_LIST
        document = manifest.parse_object(raw, DOCKER_LIST if is_list else OCI_INDEX, "index.json")
    except ContentError as error:
        raise BrokenLayout(str(error), hint=error.hint) from None
    return raw, [Entry.of(root) for root in document.manifests]


class EntryFinder:
    """Finds the entries of one store by the names that users type; `where` names the store in messages.

    A lookup takes the same time however many entries there are.
    """

    def __init__(self, entries: Sequence[Entry], where: str) -> None:
        self.entries = entries
        self._where = where

    def find_all(self, texts: Iterable[str]) -> list[Entry]:
        """Return the images that `texts` name, each once; all images if `texts` is empty. Errors are as in `find`."""
        if not self.entries:
            raise NotFound(f"{self._where} has no images.", hint="Pull an image into it first.")
        return list(dict.fromkeys(map(self.find, texts))) or list(self.entries)

    def find(self, text: str) -> Entry:
        """Return the one image that `text` names: a name as it is stored, a reference in any short form, or a digest.

        Of a digest, the 12 characters that `ls` shows are enough.

        Raise NotFound if there is none, and UsageError if there are several with different content.
        """
        return self.find_names(text)[0]

    def find_names(self, text: str) -> list[Entry]:
        """Return all entries of the image that `find` returns: those that `text` is the name of, else all it fits."""
        matches = self._named(text)
        if not matches:  # a short name is the end of a full one, as `app:v1` of `host/team/app:v1`
            alike = (self.entries[position] for position in self._by_last_part.get(text.rpartition("/")[2], ()))
            matches = [entry for entry in alike if entry.name.endswith(f"/{text}")]
        if not matches and (short := re.fullmatch(_SHORT_DIGEST, text)):
            matches = [entry for entry in self.entries if entry.root.digest.partition(":")[2].startswith(short[1])]
        if not matches:
            existing = ", ".join(entry.name for entry in self.entries[:10]) or "no images at all"
            rest = len(self.entries) - 10
            more = f" and {rest} more; mirror ls {self._where} lists all" if rest > 0 else ""
            raise NotFound(f"{self._where} has no image {text!r}.", hint=f"It has: {existing}{more}.")
        if len({entry.root.digest for entry in matches}) > 1:
            choices = ", ".join(f"{entry.name} ({entry.root.digest.short})" for entry in matches)
            raise UsageError(f"{self._where} has several images called {text!r}.", hint=f"Choose one: {choices}.")
        full = {text}
        with suppress(UsageError):
            full.add(Reference.parse(text).stored)
        return [entry for entry in matches if entry.name in full] or matches

    def _named(self, text: str) -> list[Entry]:
        """Return the entries with this digest, annotation, tag or full name, in their order."""
        positions = {*self._by_text.get(text, ())}
        with suppress(UsageError):
            wanted = Reference.parse(text)
            if wanted.digest:
                pinned = self._by_digest.get((wanted.name, wanted.digest), ())
                positions.update(position for position in pinned if wanted.tag in (None, self.entries[position].tag))
            else:
                positions.update(self._by_reference.get(wanted.stored, ()))
        return [self.entries[position] for position in sorted(positions)]

    @cached_property
    def _by_text(self) -> dict[str, list[int]]:
        return self._positions(lambda entry: entry.texts)

    @cached_property
    def _by_reference(self) -> dict[str, list[int]]:
        return self._positions(lambda entry: [entry.reference.stored] if entry.reference else [])

    @cached_property
    def _by_digest(self) -> dict[tuple[str, str], list[int]]:
        return self._positions(lambda entry: [(entry.reference.name, entry.root.digest)] if entry.reference else [])

    @cached_property
    def _by_last_part(self) -> dict[str, list[int]]:
        return self._positions(lambda entry: [entry.name.rpartition("/")[2]])

    def _positions(self, keys: Callable[[Entry], Iterable[K]]) -> dict[K, list[int]]:
        found: dict[K, list[int]] = {}
        for position, entry in enumerate(self.entries):
            for key in keys(entry):
                found.setdefault(key, []).append(position)
        return found
