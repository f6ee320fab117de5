"""Results as text for a person: one function for each kind."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mirror.report.images import ImageList, ImageSummary, InspectedImage, InspectedManifest, InspectedReferrer, TagList
from mirror.report.layouts import PrunedBlob, PrunedFile, PruneReport, RemovedImage
from mirror.report.server import ServerInfo
from mirror.text import count, size, table

_MAX_PLATFORMS = 3  # in one row of a table; the others are counted


@dataclass(frozen=True, slots=True)
class Text:
    """A result as text: `lines` for stdout, and a `summary` of one line and `warnings` for stderr."""

    lines: Sequence[str]
    summary: str = ""
    warnings: Sequence[str] = ()


# --- ls ----------------------------------------------------------------------------------------------------------


def image_list(images: ImageList) -> Text:
    lines = table(["IMAGE", "DIGEST", "SIZE", "PLATFORMS"], map(image_row, images.images), right=[2])
    referrers = f", {count(images.referrers, 'referrer')}" if images.referrers else ""
    return Text(lines, f"{images.path}: {count(len(images.images), 'image')}{referrers}, {size(images.size)}.")


def image_row(image: ImageSummary) -> list[str]:
    short = image.digest.partition(":")[2][:12]
    if image.problem:
        return [image.name, short, "-", "broken: see mirror verify"]
    platforms = ", ".join(image.platforms[:_MAX_PLATFORMS]) or "-"
    if len(image.platforms) > _MAX_PLATFORMS:
        platforms += f" + {len(image.platforms) - _MAX_PLATFORMS} more"
    notes = ["sparse"] if image.sparse else []
    notes += [count(image.referrers, "referrer")] if image.referrers else []
    return [image.name, short, size(image.size), platforms + (f" ({', '.join(notes)})" if notes else "")]


# --- inspect -----------------------------------------------------------------------------------------------------


def inspection(images: Sequence[InspectedImage]) -> Text:
    """All about some images, with an empty line between them."""
    lines = [line for image in images for line in (*_image(image), "")]
    return Text(lines[:-1])


def _image(image: InspectedImage) -> Iterator[str]:
    yield image.name
    yield f"  digest    {image.digest}"
    yield f"  type      {image.media_type}"
    yield f"  content   {count(image.blobs, 'blob')}, {size(image.blob_size)}"
    for name, text in image.annotations.items():
        yield f"  {name}  {text}"
    for manifest in image.manifests:
        yield from _manifest(manifest)
    for referrer in image.referrers or ():
        yield from _referrer(referrer)


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


def _referrer(referrer: InspectedReferrer) -> Iterator[str]:
    yield ""
    yield f"referrer, {referrer.artifact_type or referrer.manifest.media_type}"
    yield f"  manifest  {referrer.manifest.digest}"
    yield f"  subject   {referrer.subject}"
    if referrer.tag:
        yield f"  tag       {referrer.tag}"


# --- tags, rm, prune ---------------------------------------------------------------------------------------------


def tag_list(tags: TagList) -> Text:
    return Text(tags.tags, f"{tags.name}: {count(len(tags.tags), 'tag')}.")


def removed_image(removed: RemovedImage) -> Text:
    referrers = f" and {count(len(removed.referrers), 'referrer')}" if removed.referrers else ""
    deleted = f"{count(removed.deleted.blobs, 'blob')} deleted, {size(removed.deleted.size)} freed"
    kept = f"; {count(removed.kept, 'blob')} kept for other images" if removed.kept else ""
    return Text([f"{removed.name}@{removed.digest}"], f"removed {removed.name}{referrers}: {deleted}{kept}.")


def pruned(report: PruneReport) -> Text:
    lines = [f"{blob.digest}  {size(blob.size)}" for blob in report.orphans]
    lines += [f"{file.file}  {size(file.size)}" for file in report.unfinished]
    amounts = [_amount(report.orphans, "blob")] if report.orphans else []
    amounts += [_amount(report.unfinished, "unfinished file")] if report.unfinished else []
    outcome = "deleted" if report.deleted else "would be deleted with --delete"
    summary = f"{' and '.join(amounts)} {outcome}." if amounts else "nothing to prune."
    if report.quarantined:
        summary += f" {_amount(report.quarantined, 'file')} in quarantine: inspect and delete manually."
    return Text(lines, f"{report.path}: {summary}")


def _amount(items: Sequence[PrunedBlob] | Sequence[PrunedFile], noun: str) -> str:
    return f"{count(len(items), noun)} ({size(sum(item.size for item in items))})"


# --- serve -------------------------------------------------------------------------------------------------------


def server_info(server: ServerInfo) -> Text:
    images = f"{count(server.images, 'image')} from {', '.join(server.layouts)}"
    return Text([server.address], f"serving {images} at {server.url}, read-only; press Ctrl-C to stop.")
