"""A record as a page, line for line as the public generator writes it today.

In one thing it differs: the generator calls every manifest in a list Docker's, of whatever type it is. Here it is
called what it is (docs/records.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.oci.digest import Digest
from mirror.records import figures
from mirror.records.document import Record, RecordedImage, RecordedLayer, RecordedManifest, Runtime, Step
from mirror.records.history import FENCE, NO_DATE

TOTAL_NOTE = "\t(compressed transfer size, not on-disk size)"


def markdown(record: Record) -> str:
    """The page of one record. Several pages make one, with an empty line between them.

    Raises:
        ValueError: something of the image is not known.
    """
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
        yield f"\t-\t{figures.platform(manifest.platform)}"
    for manifest in record.manifests:
        yield from _section(record, manifest)


def _section(record: Record, manifest: RecordedManifest) -> Iterator[str]:
    image = manifest.image
    if image is None or image.runtime is None:
        raise ValueError(f"{manifest.digest} is not at hand")
    yield ""
    yield f"### `{record.name}` - {figures.platform(manifest.platform)}"
    yield ""
    if record.media_type is not None:
        yield from _pull(record, manifest.digest)
        yield ""
    yield from _settings(image, image.runtime)
    yield ""
    yield f"{FENCE}dockerfile"
    for step in image.runtime.history:
        yield from _step(step)
    yield FENCE
    yield ""
    yield "-\tLayers:"
    for layer in image.layers:
        yield from _layer(layer)


def _pull(record: Record, digest: Digest) -> Iterator[str]:
    yield f"{FENCE}console"
    yield f"$ docker pull {record.repository}@{digest}"
    yield FENCE


def _settings(image: RecordedImage, runtime: Runtime) -> Iterator[str]:
    if runtime.docker_version is not None:
        yield f"-\tDocker Version: {runtime.docker_version}"
    if image.media_type is not None:
        yield f"-\tManifest MIME: `{image.media_type}`"
    yield f"-\tTotal Size: **{figures.size(image.size)}**  "
    yield TOTAL_NOTE
    if image.image_id is not None:
        yield f"-\tImage ID: `{image.image_id}`"
    lists = {"Entrypoint": runtime.entrypoint, "Default Command": runtime.command, "`SHELL`": runtime.shell}
    for name, values in lists.items():
        if values is not None:
            yield f"-\t{name}: `{figures.words(values)}`"


def _step(step: Step) -> Iterator[str]:
    yield f"# {NO_DATE if step.created is None else figures.http_date(step.created)}"
    yield step.command


def _layer(layer: RecordedLayer) -> Iterator[str]:
    yield f"\t-\t`{layer.digest}`  "
    if layer.modified is not None:
        yield f"\t\tLast Modified: {figures.http_date(layer.modified)}  "
    if layer.size is not None:
        yield f"\t\tSize: {figures.size(layer.size)}  "
    yield f"\t\tMIME: {layer.media_type}"
