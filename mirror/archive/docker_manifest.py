"""`manifest.json`: docker's own list of the images in an archive. Pure: bytes in, values out.

[{"Config": PATH, "RepoTags": ["redis:4.0"], "Layers": [PATH, …]}, …]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.errors import InvalidContent, InvalidReference
from mirror.layout.blobs import place
from mirror.oci.manifest import Document
from mirror.oci.reference import Reference
from mirror.strictjson import JsonObject, field, loads

FILE = "manifest.json"
CAP = 64 * 1024 * 1024  # bytes: about as many images as an index.json can have

Image = tuple[str, tuple[str, ...]]  # the paths of a config and of its layers, in order


def images_of(data: bytes) -> Iterator[tuple[Image, list[str]]]:
    """Each image that a `manifest.json` lists, and its full names.

    Raises:
        InvalidContent: it is no such list.
    """
    items = loads(data, FILE)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidContent(f"{FILE} is no list of images.")
    for item in items:
        config = field(item, "Config", FILE)
        if not isinstance(config, str):
            raise InvalidContent(f"{FILE} has an image without a Config.")
        yield (config, tuple(_texts(item, "Layers"))), [_name(text) for text in _texts(item, "RepoTags")]


def paths_of(document: Document) -> Image:
    """What a `manifest.json` says of an image whose content lies in a layout."""
    assert document.config, "an image, not an artifact"
    return place(document.config.digest), tuple(place(layer.digest) for layer in document.layers)


def item(image: Image, names: Sequence[str]) -> JsonObject:
    """One image of a `manifest.json`."""
    config, layers = image
    return {"Config": config, "RepoTags": list(names), "Layers": list(layers)}


def _texts(value: JsonObject, name: str) -> list[str]:
    """A list of strings, which Go writes as null where it is empty."""
    found = field(value, name, FILE)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InvalidContent(f"The {name} of {FILE} are no list of strings.")
    return found


def _name(text: str) -> str:
    try:
        return Reference.parse(text).stored
    except InvalidReference as error:
        raise InvalidContent(f"{FILE} has a name that is none: {error}") from None
