"""`manifest.json`: docker's own list of the images in an archive. Pure: bytes in, values out.

[{"Config": PATH, "RepoTags": ["redis:4.0"], "Layers": [PATH, …]}, …]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.errors import InvalidReference
from mirror.layout.blobs import place
from mirror.oci.manifest import Document
from mirror.oci.reference import Reference
from mirror.strictjson import Fields, JsonObject, invalid, loads

FILE = "manifest.json"
CAP = 64 * 1024 * 1024  # bytes: about as many images as an index.json can have
_KEYS = frozenset({"Config", "RepoTags", "Layers"})

Image = tuple[str, tuple[str, ...]]  # the paths of a config and of its layers, in order


def images_of(data: bytes) -> Iterator[tuple[Image, list[str]]]:
    """Each image that a `manifest.json` lists, and its full names.

    Raises:
        InvalidContent: it is no such list.
    """
    items = loads(data, FILE)
    if not isinstance(items, list):
        raise invalid(FILE, "not a list of images")
    for number, item in enumerate(items):
        fields = Fields(item, f"{FILE}: [{number}]", _KEYS)
        image = fields.required("Config"), fields.strings("Layers")
        yield image, [_name(text) for text in fields.strings("RepoTags")]


def paths_of(document: Document) -> Image:
    """What a `manifest.json` says of an image whose content lies in a layout."""
    assert document.config, "an image, not an artifact"
    return place(document.config.digest), tuple(place(layer.digest) for layer in document.layers)


def item(image: Image, names: Sequence[str]) -> JsonObject:
    """One image of a `manifest.json`."""
    config, layers = image
    return {"Config": config, "RepoTags": list(names), "Layers": list(layers)}


def _name(text: str) -> str:
    try:
        return Reference.parse(text).stored
    except InvalidReference as error:
        raise invalid(FILE, str(error).rstrip(".")) from None
