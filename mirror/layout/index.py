"""`index.json`: the names that a layout's images have. Pure: bytes in, entries or changed bytes out.

It is an index like any other (OCI image-spec, image-layout.md), so `mirror.oci.manifest` parses it. What is changed are
single entries; the others, and fields that we do not know, stay as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mirror.errors import BrokenLayout, ContentError, NotFound, UsageError
from mirror.layout import names
from mirror.oci import manifest
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.reference import Reference
from mirror.strictjson import JsonObject, load_object

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
    def kept(self) -> frozenset[str] | None:
        """The children of a sparse image that are here; None where nothing is absent on purpose."""
        text = self.root.annotations.get(names.SPARSE)
        return None if text is None else frozenset(text.split(","))

    def lacks(self, child: Descriptor) -> bool:
        """Whether a child of one of this image's indexes was left out on purpose."""
        return self.kept is not None and not child.is_index and child.digest not in self.kept

    def is_called(self, text: str) -> bool:
        """Whether a person who says `text` means this image."""
        annotations = self.root.annotations
        if text in (
            self.root.digest,
            annotations.get(names.IMAGE_NAME),
            annotations.get(names.REF_NAME),
            self.tag,
        ):
            return True
        try:
            asked = Reference.parse(text)
        except UsageError:
            return False
        if asked.digest:
            same_name = self.reference is not None and self.reference.name == asked.name
            return same_name and self.root.digest == asked.digest and asked.tag in (None, self.tag)
        return self.reference is not None and self.reference.stored == asked.stored


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
        raise BrokenLayout(f"oci-layout should say imageLayoutVersion {VERSION!r} and says {str(version)[:40]!r}.")


def entries(data: bytes) -> list[Entry]:
    """The images that an `index.json` names.

    Raises:
        BrokenLayout: it is no valid index.
    """
    try:
        document = manifest.parse(data, OCI_INDEX, "index.json", cap=CAP)
    except ContentError as error:
        raise BrokenLayout(str(error), hint=error.hint) from None
    return [Entry.of(root) for root in document.manifests]


def find_all(found: list[Entry], texts: Iterable[str], where: str) -> list[Entry]:
    """The images that a person means by `texts`; all of them where none is named.

    Raises:
        NotFound: there is no such image, or none at all.
        UsageError: a text could mean several.
    """
    if not found:
        raise NotFound(f"{where} has no images.", hint="Pull one into it first.")
    return list(dict.fromkeys(find(found, text, where) for text in texts)) or found


def called(chosen: Sequence[Entry], name: str | None, where: str) -> list[tuple[str, Entry]]:
    """What each image is to be called elsewhere: as it is here, or `name`, where there is only one.

    Raises:
        InvalidReference: `name` is no image name.
        UsageError: a full name would stand for two images, and one of them be lost.
    """
    if name is not None:
        return [(Reference.parse(name).stored, only(chosen, name, where))]
    named: dict[str, Entry] = {}
    for entry in chosen:
        other = named.setdefault(entry.name, entry)
        if entry.reference and other.root.digest != entry.root.digest:
            raise UsageError(
                f"{where} has two images called {entry.name}.",
                hint=f"Name one of them by its digest: {other.root.digest} or {entry.root.digest}.",
            )
    return [(entry.name, entry) for entry in chosen]


def only(chosen: Sequence[Entry], name: str, where: str) -> Entry:
    """The one image that there is to call `name`.

    Raises:
        UsageError: there are several.
    """
    if len(chosen) > 1:
        raise UsageError(f"{where} has several images to call {name}.", hint="Name the one that is meant.")
    return chosen[0]


def find(found: Sequence[Entry], text: str, where: str) -> Entry:
    """The one image that a person means by `text`.

    Raises:
        NotFound: there is none; the message lists those that are there.
        UsageError: there are several with different content.
    """
    matches = [entry for entry in found if entry.is_called(text)]
    if not matches:  # a short name of an image that is not Docker Hub's
        matches = [entry for entry in found if entry.name.endswith(f"/{text}")]
    if not matches:
        there = ", ".join(entry.name for entry in found[:10]) or "no images at all"
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise NotFound(f"{where} has no image {text!r}.", hint=f"It has: {there}{more}.")
    if len({entry.root.digest for entry in matches}) > 1:
        both = ", ".join(f"{entry.name} ({entry.root.digest.short})" for entry in matches)
        raise UsageError(f"{text!r} could be several images of {where}.", hint=f"Say which: {both}.")
    return matches[0]


def with_entry(data: bytes, name: str, root: Descriptor) -> tuple[bytes, Entry | None]:
    """A changed `index.json` in which `name` stands for `root`, and the entry that did so before.

    `name` is a full name; or what an entry with the annotations of `root` is called, where they give no full one.

    Raises:
        BrokenLayout: `data` is no valid index.
        InvalidReference: `name` is no image name.
    """
    old, new = entries(data), Entry.of(root)
    if new.reference is None and new.name == name:  # a bare name may be another image's too: nothing is replaced
        before = [entry for entry in old if entry.root.digest == root.digest and entry.name == name]
        called = names.given(root.annotations)
    else:
        before = [entry for entry in old if entry.reference and entry.reference.stored == name]
        taken = {entry.root.annotations.get(names.REF_NAME, "") for entry in old if entry not in before}
        called = names.given(root.annotations)
        if called.get(names.IMAGE_NAME) != name or called.get(names.REF_NAME) in taken:
            called = names.annotate(name, taken)
    fresh = replace(root, annotations={**called, **_ours(root)}).to_json()
    document = load_object(data, "index.json")
    kept = [raw for raw, entry in zip(document["manifests"] or [], old, strict=True) if entry not in before]
    document["manifests"] = _inserted(kept, fresh)
    return _dump(document), before[0] if before else None


def without_entry(data: bytes, gone: Entry) -> bytes:
    """A changed `index.json` without the entries that are called and point as `gone` does."""
    document = load_object(data, "index.json")
    pairs = zip(document["manifests"] or [], entries(data), strict=True)
    document["manifests"] = [raw for raw, entry in pairs if entry != gone]
    return _dump(document)


def _inserted(kept: list[JsonObject], fresh: JsonObject) -> list[JsonObject]:
    """Sorted by name as far as the others are, so that the order of arrival does not show in the bytes."""
    name = _sort_key(fresh)
    position = next((i for i, raw in enumerate(kept) if _sort_key(raw) > name), len(kept))
    return [*kept[:position], fresh, *kept[position:]]


def _sort_key(raw: JsonObject) -> str:
    return str((raw.get("annotations") or {}).get(names.IMAGE_NAME, ""))


def _ours(root: Descriptor) -> dict[str, str]:
    return {key: text for key, text in root.annotations.items() if key not in names.given(root.annotations)}


def _dump(document: JsonObject) -> bytes:
    return json.dumps(document, indent=2).encode()
