"""The `manifest.json` of a docker archive, which lists its images. Pure: bytes in, values out.

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
_UNTAGGED = "<none>:<none>"  # what docker and buildah write for an image without a name
_KEYS = frozenset({"Config", "RepoTags", "Layers"})

Image = tuple[str, tuple[str, ...]]  # the paths of a config and of its layers, in order


def images_of(data: bytes) -> Iterator[tuple[Image, list[str]]]:
    """Yield the images in a `manifest.json`, with their names: full names, or texts that are not valid names."""
    items = loads(data, FILE)
    if not isinstance(items, list):
        raise invalid(FILE, "not a list of images")
    for number, item in enumerate(items):
        fields = Fields(item, f"{FILE}: [{number}]", _KEYS)
        image = fields.required("Config"), fields.strings("Layers")
        yield image, [_name(text) for text in fields.strings("RepoTags") if text != _UNTAGGED]


def _name(text: str) -> str:
    """Return a full name; a text that is not one stays as it is: its content may be right."""
    try:
        return Reference.parse(text).stored
    except InvalidReference:
        return text


def paths_of(document: Document) -> Image:
    """Return the paths of an image in a layout, as a `manifest.json` lists them."""
    assert document.config, "an image, not an artifact"
    return place(document.config.digest), tuple(place(layer.digest) for layer in document.layers)


def item(image: Image, names: Sequence[str]) -> JsonObject:
    """Return the entry of an image in a `manifest.json`."""
    config, layers = image
    return {"Config": config, "RepoTags": list(names), "Layers": list(layers)}
