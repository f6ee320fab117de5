"""A record as a page of Markdown, line for line as the public generator writes it.

There is one difference: for a manifest in an index, the generator always prints Docker's media type, this page the real
one (docs/reference/records.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.oci.digest import Digest
from mirror.records.document import Record, RecordedConfig, RecordedImage, RecordedManifest, repository_of
from mirror.records.formatting import format_http_date, format_list, format_platform, format_size
from mirror.records.history import FENCE, NO_DATE

TOTAL_NOTE = "\t(compressed transfer size, not on-disk size)"


def markdown(record: Record) -> str:
    """Return the page of one record, which must be complete. Several pages, with empty lines between, make one file."""
    return "".join(f"{line}\n" for line in _page(record))


def _page(record: Record) -> Iterator[str]:
    yield f"## `{record.name}`"
    yield ""
    yield from _pull(record, record.digest)
    yield ""
    if record.media_type is not None:
        yield f"-\tManifest MIME: `{record.media_type}`"
    yield f"-\tPlatforms: {len(record.manifests)}"
    for manifest in record.manifests:
        yield f"\t-\t{format_platform(manifest.platform)}"
    for manifest in record.manifests:
        yield from _section(record, manifest)


def _section(record: Record, manifest: RecordedManifest) -> Iterator[str]:
    image = manifest.image
    if image is None or image.config is None:
        raise ValueError(f"{manifest.digest} is not available")
    yield ""
    yield f"### `{record.name}` - {format_platform(manifest.platform)}"
    yield ""
    if record.media_type is not None:
        yield from _pull(record, manifest.digest)
        yield ""
    yield from _settings(image, image.config)
    yield ""
    yield f"{FENCE}dockerfile"
    for entry in image.config.history:
        yield f"# {NO_DATE if entry.created is None else format_http_date(entry.created)}"
        yield entry.command
    yield FENCE
    yield ""
    yield "-\tLayers:"
    for layer in image.layers:
        yield f"\t-\t`{layer.digest}`  "
        if layer.modified is not None:
            yield f"\t\tLast Modified: {format_http_date(layer.modified)}  "
        if layer.size is not None:
            yield f"\t\tSize: {format_size(layer.size)}  "
        yield f"\t\tMIME: {layer.media_type}"


def _pull(record: Record, digest: Digest) -> Iterator[str]:
    yield f"{FENCE}console"
    yield f"$ docker pull {repository_of(record.name)}@{digest}"
    yield FENCE


def _settings(image: RecordedImage, config: RecordedConfig) -> Iterator[str]:
    if config.docker_version is not None:
        yield f"-\tDocker Version: {config.docker_version}"
    if image.media_type is not None:
        yield f"-\tManifest MIME: `{image.media_type}`"
    yield f"-\tTotal Size: **{format_size(image.size)}**  "
    yield TOTAL_NOTE
    if image.image_id is not None:
        yield f"-\tImage ID: `{image.image_id}`"
    lists = {"Entrypoint": config.entrypoint, "Default Command": config.command, "`SHELL`": config.shell}
    for name, values in lists.items():
        if values is not None:
            yield f"-\t{name}: `{format_list(values)}`"
