"""Records as JSON (docs/reference/json.md)."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.records.document import Record, RecordedImage
from mirror.records.formatting import format_http_date
from mirror.strictjson import JsonObject


def to_json(records: Iterable[Record]) -> JsonObject:
    """Return records as one JSON object."""
    return {"schema": "mirror.record/1", "records": [_record(record) for record in records]}


def _record(record: Record) -> JsonObject:
    manifests = [
        {
            "platform": manifest.platform.to_json(),
            "digest": manifest.digest,
            **(_image(manifest.image) if manifest.image else {}),
        }
        for manifest in record.manifests
    ]
    return {"name": record.name, "digest": record.digest, "mediaType": record.media_type, "manifests": manifests}


def _image(image: RecordedImage) -> JsonObject:
    document: JsonObject = {"mediaType": image.media_type, "totalSize": image.size, "imageId": image.image_id}
    if config := image.config:
        document["dockerVersion"] = config.docker_version
        for name, words in ("entrypoint", config.entrypoint), ("command", config.command), ("shell", config.shell):
            document[name] = None if words is None else list(words)
        document["history"] = [{"created": _date(one.created), "command": one.command} for one in config.history]
    document["layers"] = [
        {
            "digest": layer.digest,
            "size": layer.size,
            "mediaType": layer.media_type,
            "lastModified": _date(layer.modified),
        }
        for layer in image.layers
    ]
    return document


def _date(seconds: int | None) -> str | None:
    return None if seconds is None else format_http_date(seconds)
