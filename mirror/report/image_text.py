"""The images of a layout or a registry as text: `ls`, `inspect`, `tags`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence

from mirror.report.images import ImageList, ImageSummary, InspectedImage, InspectedManifest, Inspection, TagList
from mirror.report.text import ResultText
from mirror.report.view import View, clip_start
from mirror.text import columns, count, printable, size, table

_COLUMNS = ("IMAGE", "DIGEST", "SIZE", "PLATFORMS")
_MAX_PLATFORMS = 3  # in one row of a table; the others are counted
_MIN_NAME = 12  # columns of a name on a narrow terminal


def image_list(images: ImageList, view: View) -> ResultText:
    """Return a table of images that fits the view."""
    referrers = f", {count(images.referrers, 'referrer')}" if images.referrers else ""
    summary = f"{images.path}: {count(len(images.images), 'image')}{referrers}, {size(images.size)}."
    return ResultText(_image_table(images.images, view), summary)


def _image_table(images: Sequence[ImageSummary], view: View) -> list[str]:
    """Return a table that fits the terminal: with fewer platforms, then with shorter names, if it has to."""
    if view.verbose:
        return table(_COLUMNS, [image_row(image, None) for image in images], right=[2])
    for most in (_MAX_PLATFORMS, 1):
        rows = [image_row(image, most) for image in images]
        lines = table(_COLUMNS, rows, right=[2])
        over = max(map(columns, lines)) - (view.columns or math.inf)
        if over <= 0:
            return lines
    longest = max(columns(printable(name)) for name, *_ in rows)
    room = max(int(longest - over), _MIN_NAME)
    lines = table(_COLUMNS, [[clip_start(printable(name), room), *rest] for name, *rest in rows], right=[2])
    return [view.fit(line) for line in lines]


def image_row(image: ImageSummary, most: int | None = _MAX_PLATFORMS) -> list[str]:
    """Return the row of an image, with at most so many platforms; None: all, and the complete digest."""
    short = image.digest if most is None else image.digest.partition(":")[2][:12]
    if image.problem:
        return [image.name, short, "-", "broken: see mirror verify"]
    most = len(image.platforms) if most is None else most
    platforms = ", ".join(image.platforms[:most]) or "-"
    if len(image.platforms) > most:
        platforms += f" + {len(image.platforms) - most} more"
    notes = ["sparse"] if image.sparse else []
    notes += [count(image.referrers, "referrer")] if image.referrers else []
    notes += [f"{image.unsupported} of unsupported type"] if image.unsupported else []
    return [image.name, short, size(image.size), platforms + (f" ({', '.join(notes)})" if notes else "")]


def inspection(inspection: Inspection, _: View) -> ResultText:
    """Return what images consist of."""
    return ResultText([line for image in inspection.images for line in (*_inspected_image(image), "")][:-1])


def _inspected_image(image: InspectedImage) -> Iterator[str]:
    yield image.name
    yield f"  digest    {image.digest}"
    yield f"  type      {image.media_type}"
    yield f"  content   {count(image.blobs, 'blob')}, {size(image.blob_size)}"
    for name, text in image.annotations.items():
        yield f"  {name}  {text}"
    for manifest in image.manifests:
        yield from _manifest(manifest)
    for referrer in image.referrers or ():
        yield ""
        yield f"referrer, {referrer.artifact_type or referrer.manifest.media_type}"
        yield f"  manifest  {referrer.manifest.digest}"
        yield f"  subject   {referrer.subject}"
        if referrer.tag:
            yield f"  tag       {referrer.tag}"


def _manifest(manifest: InspectedManifest) -> Iterator[str]:
    title = f"attestation of {manifest.subject}" if manifest.subject else manifest.platform or "no platform"
    yield ""
    yield f"{title}, {count(len(manifest.layers), 'layer')}, {size(manifest.size)}"
    yield f"  manifest  {manifest.manifest.digest}"
    if manifest.config:
        yield f"  config    {manifest.config.digest}  {size(manifest.config.size)}"
    for name, value in manifest.settings.items():
        yield f"  {name:<9} {shlex.join(map(str, value)) if isinstance(value, list) else value}"
    for number, layer in enumerate(manifest.layers):
        yield f"  {'layers' if number == 0 else '':<9} {layer.digest}  {size(layer.size):>9}"


def tag_list(tags: TagList, _: View) -> ResultText:
    """Return the tags of a repository."""
    return ResultText(tags.tags, f"{tags.name}: {count(len(tags.tags), 'tag')}.")
