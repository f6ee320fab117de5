"""Records as JSON (docs/reference/json.md)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mirror.records.document import Record, RecordedConfig, RecordedImage, RecordedLayer, RecordedManifest
from mirror.records.formatting import format_http_date
from mirror.strictjson import JsonObject


def to_json(records: Iterable[Record]) -> JsonObject:
    """Return records as one JSON object."""
    return {"schema": "mirror.record/1", "records": [_record(record) for record in records]}


def _record(record: Record) -> JsonObject:
    return {
        "name": record.name,
        "digest": record.digest,
        "mediaType": record.media_type,
        "manifests": [_manifest(manifest) for manifest in record.manifests],
    }


def _manifest(manifest: RecordedManifest) -> JsonObject:
    return {
        "platform": manifest.platform.to_json(),
        "digest": manifest.digest,
        **(_image(manifest.image) if manifest.image else {}),
    }


def _image(image: RecordedImage) -> JsonObject:
    return {
        "mediaType": image.media_type,
        "totalSize": image.size,
        "imageId": image.image_id,
        **(_config(image.config) if image.config else {}),
        "layers": [_layer(layer) for layer in image.layers],
    }


def _config(config: RecordedConfig) -> JsonObject:
    return {
        "dockerVersion": config.docker_version,
        "entrypoint": _list(config.entrypoint),
        "command": _list(config.command),
        "shell": _list(config.shell),
        "history": [{"created": _date(entry.created), "command": entry.command} for entry in config.history],
    }


def _layer(layer: RecordedLayer) -> JsonObject:
    return {
        "digest": layer.digest,
        "size": layer.size,
        "mediaType": layer.media_type,
        "lastModified": _date(layer.modified),
    }


def _date(seconds: int | None) -> str | None:
    return None if seconds is None else format_http_date(seconds)


def _list(words: Sequence[str] | None) -> list[str] | None:
    return None if words is None else list(words)
