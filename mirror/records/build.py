"""Build a record from manifests and configs, which the caller has read and verified."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from mirror.errors import InvalidContent
from mirror.oci.descriptor import CONFIG_TYPES, Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.records.document import HistoryEntry, Record, RecordedConfig, RecordedImage, RecordedLayer, RecordedManifest
from mirror.records.formatting import format_platform, parse_platform, parse_rfc3339, whole_seconds
from mirror.records.history import escape, instruction
from mirror.strictjson import Fields
from mirror.text.redaction import excerpt

ModificationTimes = Mapping[Digest, float | None]  # seconds since the epoch

MEDIA_TYPE = re.compile(r"[!-_a-~]+(?: +[!-_a-~]+)*")  # fits between backticks on one line
_UNKNOWN = Platform("unknown", "unknown")


def build_record(
    name: str,
    root: Descriptor,
    documents: Mapping[Digest, Document],
    configs: Mapping[Digest, bytes],
    modified: ModificationTimes | None = None,
) -> Record:
    """Build the record of an image; parts that are not available are None in it. `root` must be in `documents`.

    Raises:
        InvalidContent: a config is broken, or a value cannot be written in a record.
    """
    document = documents[root.digest]
    children = list(_leaves(document, documents)) if document.is_index else [replace(root, platform=None)]
    available = dict.fromkeys(child.digest for child in children if child.digest in documents)
    # Parse each manifest once: an index may list the same one forty thousand times.
    images = {digest: _image(digest, documents[digest], configs, modified or {}) for digest in available}
    return Record(
        name=name,
        digest=root.digest,
        media_type=_media_type(document.media_type, root.digest) if document.is_index else None,
        manifests=tuple(_manifest(child, images.get(child.digest)) for child in children),
    )


def image_configs(documents: Mapping[Digest, Document]) -> dict[Digest, Descriptor]:
    """Return the configs that `build_record` needs: those of images, not of artifacts."""
    configs = (document.config for document in documents.values() if document.config)
    return {config.digest: config for config in configs if config.media_type in CONFIG_TYPES}


def _leaves(document: Document, documents: Mapping[Digest, Document]) -> Iterator[Descriptor]:
    """Yield the children of an index in order, with those of a nested index in its place, each index once."""
    pending = list(reversed(document.manifests))
    expanded: set[Digest] = set()
    while pending:
        child = pending.pop()
        nested = documents.get(child.digest)
        if nested is None or not nested.is_index:
            yield child
        elif child.digest not in expanded:
            expanded.add(child.digest)
            pending += reversed(nested.manifests)


def _manifest(child: Descriptor, found: tuple[RecordedImage, Platform] | None) -> RecordedManifest:
    """Return a child of an index, with the platform of its config if the index does not give one."""
    image, config_platform = found or (None, _UNKNOWN)
    platform = child.platform or config_platform
    if parse_platform(format_platform(platform)) != platform:
        raise InvalidContent(f"{child.digest}: platform {excerpt(str(platform), 80)!r} cannot be written in a record.")
    return RecordedManifest(platform, child.digest, image)


def _image(
    digest: Digest, document: Document, configs: Mapping[Digest, bytes], modified: ModificationTimes
) -> tuple[RecordedImage, Platform]:
    """Return the image of a manifest, and the platform in its config."""
    config = document.config
    is_image = config is not None and config.media_type in CONFIG_TYPES
    data = configs.get(config.digest) if config and is_image else b"{}"
    settings = None if data is None else Fields.load(data, f"the config of {digest}")
    layers = (
        RecordedLayer(
            layer.digest,
            layer.size,
            _media_type(layer.media_type, layer.digest),
            whole_seconds(modified.get(layer.digest)),
        )
        for layer in document.layers
    )
    image = RecordedImage(
        media_type=_media_type(document.media_type, digest),
        image_id=config.digest if config else None,
        layers=tuple(layers),
        config=None if settings is None else _config(settings),
    )
    platform = Platform.from_fields(settings) if settings else _UNKNOWN
    return image, Platform(platform.os, platform.architecture)  # the generator prints only these two


def _media_type(text: str, digest: Digest) -> str:
    if not MEDIA_TYPE.fullmatch(text):
        raise InvalidContent(f"{digest}: media type {excerpt(text, 80)!r} cannot be written in a record.")
    return text


def _config(settings: Fields) -> RecordedConfig:
    inner = settings.nested("config") or Fields({}, settings.at("config"))
    shell, history = _words(inner, "Shell"), []
    for entry in settings.objects("history"):
        created = entry.get("created")
        seconds = parse_rfc3339(created) if isinstance(created, str) else None
        history.append(HistoryEntry(seconds, instruction(entry.string("created_by"), shell or ())))
    return RecordedConfig(
        docker_version=escape(settings.string("docker_version")).replace("\n", "\\n") or None,
        entrypoint=_words(inner, "Entrypoint") or None,
        command=_words(inner, "Cmd"),
        shell=shell,
        history=tuple(history),
    )


def _words(settings: Fields, name: str) -> tuple[str, ...] | None:
    """Return the words of a command; None if there is no command, which is not the same as an empty one."""
    return None if settings.get(name) is None else settings.strings(name)
