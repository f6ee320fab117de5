"""A record of what manifests and configs say. They have been read and hashed by somebody else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from mirror.errors import InvalidContent
from mirror.oci.descriptor import CONFIG_TYPES, Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.records import figures
from mirror.records.document import Record, RecordedImage, RecordedLayer, RecordedManifest, Runtime, Step
from mirror.records.history import harmless, instruction
from mirror.strictjson import JsonObject, field, load_object

Modified = Mapping[Digest, float | None]  # seconds since the epoch

MEDIA_TYPE = re.compile(r"[!-_a-~]+(?: +[!-_a-~]+)*")  # what can stand between backticks on one line
_UNKNOWN = Platform("unknown", "unknown")


def describe(
    name: str,
    root: Descriptor,
    documents: Mapping[Digest, Document],
    configs: Mapping[Digest, bytes],
    modified: Modified | None = None,
) -> Record:
    """What an image consists of, as far as it is at hand.

    Args:
        name: what to call it, with its tag or digest.
        root: its index or manifest, which `documents` has.
        documents: its manifests and indexes. One that is not there leaves its `image` unknown.
        configs: the contents of configs. One that is not there leaves its `runtime` unknown.
        modified: when the registry says that a layer was made.

    Raises:
        InvalidContent: a config is broken, or something in it cannot stand in a record.
    """
    document = documents[root.digest]
    children = list(_leaves(document, documents)) if document.is_index else [replace(root, platform=None)]
    there = dict.fromkeys(child.digest for child in children if child.digest in documents)
    # Each once: an index may name one manifest forty thousand times.
    images = {digest: _image(digest, documents[digest], configs, modified or {}) for digest in there}
    return Record(
        name=name,
        digest=root.digest,
        media_type=_media_type(document.media_type, root.digest) if document.is_index else None,
        manifests=tuple(_manifest(child, images.get(child.digest)) for child in children),
    )


def configs_of(documents: Mapping[Digest, Document]) -> dict[Digest, Descriptor]:
    """The configs that `describe` wants to read: those of images."""
    configs = (document.config for document in documents.values() if document.config)
    return {config.digest: config for config in configs if config.media_type in CONFIG_TYPES}


def _leaves(document: Document, documents: Mapping[Digest, Document]) -> Iterator[Descriptor]:
    """The children of an index in their order, those of an index in it in its place; each index is opened once."""
    todo = list(reversed(document.manifests))
    opened: set[Digest] = set()
    while todo:
        child = todo.pop()
        inner = documents.get(child.digest)
        if inner is None or not inner.is_index:
            yield child
        elif child.digest not in opened:
            opened.add(child.digest)
            todo += reversed(inner.manifests)


def _manifest(child: Descriptor, found: tuple[RecordedImage, Platform] | None) -> RecordedManifest:
    """A child of an index; where that does not say its platform, the config has to."""
    image, own = found or (None, _UNKNOWN)
    return RecordedManifest(_platform(child.platform or own, child.digest), child.digest, image)


def _image(
    digest: Digest, document: Document, configs: Mapping[Digest, bytes], modified: Modified
) -> tuple[RecordedImage, Platform]:
    """What a manifest says, and the platform that its config names."""
    config = document.config
    is_image = config is not None and config.media_type in CONFIG_TYPES
    data = configs.get(config.digest) if config and is_image else b"{}"
    settings = None if data is None else load_object(data, _config_of(digest))
    image = RecordedImage(
        media_type=_media_type(document.media_type, digest),
        image_id=config.digest if config else None,
        layers=tuple(_layer(layer, modified) for layer in document.layers),
        runtime=None if settings is None else _runtime(settings, _config_of(digest)),
    )
    return image, _place(settings or {}, digest)


def _layer(layer: Descriptor, modified: Modified) -> RecordedLayer:
    when = figures.whole_seconds(modified.get(layer.digest))
    return RecordedLayer(layer.digest, layer.size, _media_type(layer.media_type, layer.digest), when)


# --- configs -----------------------------------------------------------------------------------------------------


def _place(settings: JsonObject, digest: Digest) -> Platform:
    """The platform that a config names. Records of images without an index never had more than these two."""
    found = Platform.from_json(settings, _config_of(digest)) or _UNKNOWN
    return Platform(found.os, found.architecture)


def _runtime(settings: JsonObject, what: str) -> Runtime:
    inner = field(settings, "config", what)
    if not isinstance(inner, dict | None):
        raise InvalidContent(f"The config in {what} is no object.")
    inner = inner or {}
    shell = _words(inner, "Shell", what)
    return Runtime(
        docker_version=_string(settings, "docker_version", what).replace("\n", "\\n") or None,
        entrypoint=_words(inner, "Entrypoint", what) or None,
        command=_words(inner, "Cmd", what),
        shell=shell,
        history=tuple(_step(step, shell or (), what) for step in _history(settings, what)),
    )


def _history(settings: JsonObject, what: str) -> list[JsonObject]:
    found = field(settings, "history", what)
    if not isinstance(found, list | None) or not all(isinstance(step, dict) for step in found or ()):
        raise InvalidContent(f"The history of {what} is no list of objects.")
    return found or []


def _step(step: JsonObject, shell: tuple[str, ...], what: str) -> Step:
    created = field(step, "created", what)
    created_by = field(step, "created_by", what) or ""
    if not isinstance(created_by, str):
        raise InvalidContent(f"A created_by of {what} is no string.")
    return Step(figures.parse_rfc3339(created) if isinstance(created, str) else None, instruction(created_by, shell))


def _words(settings: JsonObject, name: str, what: str) -> tuple[str, ...] | None:
    found = field(settings, name, what)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise InvalidContent(f"The {name} of {what} is no list of strings.")
    return tuple(found)


def _string(settings: JsonObject, name: str, what: str) -> str:
    found = field(settings, name, what) or ""
    if not isinstance(found, str):
        raise InvalidContent(f"The {name} of {what} is no string.")
    return harmless(found)


def _config_of(digest: Digest) -> str:
    return f"the config of {digest}"


# --- what can stand in a record ----------------------------------------------------------------------------------


def _platform(value: Platform, digest: Digest) -> Platform:
    if figures.parse_platform(figures.platform(value)) != value:
        raise InvalidContent(f"The platform of {digest}, {str(value)[:80]!r}, cannot be written in a record.")
    return value


def _media_type(text: str, digest: Digest) -> str:
    if not MEDIA_TYPE.fullmatch(text):
        raise InvalidContent(f"The media type of {digest}, {text[:80]!r}, cannot be written in a record.")
    return text
