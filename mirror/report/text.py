"""Results as text for a person."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import singledispatch

from mirror.report.findings import VerifyReport
from mirror.report.images import ImageList, ImageSummary, InspectedImage, InspectedManifest, Inspection, TagList
from mirror.report.layouts import PrunedBlob, PrunedFile, PruneReport, RemoveReport, ServerInfo
from mirror.report.transfers import PAST, Amount, TransferredImage, TransferReport, pinned
from mirror.report.verify_text import verification_lines, verification_summary
from mirror.report.view import View, clip_start
from mirror.text import columns, count, printable, seconds, size, table

_COLUMNS = ("IMAGE", "DIGEST", "SIZE", "PLATFORMS")
_MAX_PLATFORMS = 3  # in one row of a table; the others are counted
_MIN_NAME = 12  # columns of a name on a narrow terminal
_WHOLE = View()


@dataclass(frozen=True, slots=True)
class ResultText:
    """A result as text.

    Attributes:
        lines: for stdout; those that are `Labelled` begin with a label.
        summary: one line for stderr; may be empty.
        warnings: for stderr.
        errors: what failed, each with a hint if there is one; for stderr, even with --quiet.
    """

    lines: Sequence[str]
    summary: str = ""
    warnings: Sequence[str] = ()
    errors: Sequence[tuple[str, str | None]] = ()


@singledispatch
def to_text(result: object, view: View = _WHOLE) -> ResultText:
    """Return a result as text. A verification and a list of images obey `view`; other results do not take one.

    Raises:
        TypeError: it is not a result.
    """
    raise TypeError(f"not a result: {result!r}")


# --- ls ----------------------------------------------------------------------------------------------------------


@to_text.register
def _image_list(images: ImageList, view: View = _WHOLE) -> ResultText:
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


# --- inspect -----------------------------------------------------------------------------------------------------


@to_text.register
def _inspection(inspection: Inspection) -> ResultText:
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


# --- tags, rm, prune, serve --------------------------------------------------------------------------------------


@to_text.register
def _tag_list(tags: TagList) -> ResultText:
    return ResultText(tags.tags, f"{tags.name}: {count(len(tags.tags), 'tag')}.")


@to_text.register
def _remove_report(removed: RemoveReport) -> ResultText:
    gone = len({name for image in removed.images for name in image.referrers})
    images = removed.images[0].name if len(removed.images) == 1 else count(len(removed.images), "image")
    referrers = f" and {count(gone, 'referrer')}" if gone else ""
    deleted = f"{count(removed.deleted.blobs, 'blob')} deleted, {size(removed.deleted.size)} freed"
    kept = f"; {count(removed.kept, 'blob')} kept for other images" if removed.kept else ""
    lines = [pinned(image.name, image.digest) for image in removed.images]
    return ResultText(lines, f"removed {images}{referrers}: {deleted}{kept}.")


@to_text.register
def _pruned(report: PruneReport) -> ResultText:
    lines = [f"{blob.digest}  {size(blob.size)}" for blob in report.orphans]
    lines += [f"{file.file}  {size(file.size)}" for file in report.unfinished]
    found = [_sum(report.orphans, "blob")] if report.orphans else []
    found += [_sum(report.unfinished, "unfinished file")] if report.unfinished else []
    outcome = "deleted" if report.deleted else "would be deleted with --delete"
    summary = f"{' and '.join(found)} {outcome}." if found else "nothing to prune."
    if report.quarantined:
        files, place = _sum(report.quarantined, "file"), f"{report.path}/.mirror/quarantine"
        summary += f" {files} in {place}: inspect and delete manually."
    return ResultText(lines, f"{report.path}: {summary}")


def _sum(items: Sequence[PrunedBlob] | Sequence[PrunedFile], noun: str) -> str:
    return f"{count(len(items), noun)} ({size(sum(item.size for item in items))})"


@to_text.register
def _server_info(server: ServerInfo) -> ResultText:
    images = f"{count(server.images, 'image')} from {', '.join(server.layouts)}"
    return ResultText([server.address], f"serving {images} at {server.url}, read-only; press Ctrl-C to stop.")


# --- pull, push, export, import, copy ----------------------------------------------------------------------------


@to_text.register
def _transfer(report: TransferReport) -> ResultText:
    """One line for each image that was transferred; for a dry run of a push, where it would go."""
    with_source = report.dry_run and report.verb == "push"
    lines = [f"{image.source} -> {image.image}" if with_source else image.image for image in report.done]
    errors = [
        (str(image.error) if image.source in str(image.error) else f"{image.source}: {image.error}", image.error.hint)
        for image in report.images
        if image.error
    ]
    errors += [
        (f"{image.source} is complete, but may lack referrers: {error}", error.hint)
        for image, error in report.incomplete
    ]
    errors += [
        (f"{image.source} is not complete: {image.left_behind}", image.left_behind.hint)
        for image in report.done
        if image.left_behind
    ]
    stands = "would stand" if report.dry_run else "now stands"
    warnings = [
        *report.warnings,
        *(
            f"{_target_name(report, image)} {stands} for {image.digest} (was {image.replaced})."
            for image in report.images
            if image.replaced and image.replaced != image.digest and not image.error
        ),
        *(f"{path}: moved here from the place of a blob, because it was not a file." for path in report.moved_aside),
        *(
            f"{used.registry} limits pulls: this pull uses at most {used.cost}, as did the dry run; {used.quota}."
            for used in report.quotas
            if report.dry_run
        ),
    ]
    return ResultText(lines, _transfer_summary(report), warnings, errors)


def _target_name(report: TransferReport, image: TransferredImage) -> str:
    """Return the name that an image has got; for a pull, the requested one."""
    return image.source if report.verb == "pull" else image.image.partition("@")[0]


def _transfer_summary(report: TransferReport) -> str:
    """Return what was transferred; nothing if the error says everything: that no image was."""
    if report.images and not (report.done or report.moved.blobs):
        return ""
    platforms = sum(len(image.platforms) for image in report.done)
    # Referrers that were requested by name may also have been transferred with their images: count them once.
    referrers = sum(image.referrers.count for image in report.done if image.referrers)
    referrers = referrers or sum(image.as_referrer for image in report.done)
    what = count(sum(not image.as_referrer for image in report.done), "image")
    what += f", {count(platforms, 'platform')}" if platforms else ""
    what += f", {count(referrers, 'referrer')}" if referrers else ""
    past, moved, reused = PAST[report.verb], _amount(report.moved), _amount(report.reused)
    if report.dry_run:
        disk = report.disk
        space = f"; {size(disk.needed)} needed, {size(disk.free)} free in {disk.path}" if disk else ""
        return f"would have {past} {what}: {moved} to move, {reused} there already{space}."
    notes = [f"{len(report.healed)} healed"] if report.healed else []
    notes += [f"{size(report.resumed)} of it from an earlier attempt"] if report.resumed else []
    noted = f" ({', '.join(notes)})" if notes else ""
    return f"{past} {what}: {moved} moved{noted}, {reused} reused, in {seconds(report.seconds)}."


def _amount(amount: Amount) -> str:
    return f"{count(amount.blobs, 'blob')} ({size(amount.size)})" if amount.blobs else "0"


# --- verify ------------------------------------------------------------------------------------------------------


@to_text.register
def _verification(report: VerifyReport, view: View = _WHOLE) -> ResultText:
    failures, moved = (report.repair.failures, report.repair.moved_aside) if report.repair else ((), ())
    warnings = [f"the damaged file was moved to {path}" for path in moved[:1]]
    if len(moved) > 1:
        warnings = [f"{len(moved)} damaged files were moved to {moved[0].rpartition('/')[0]}"]
    errors = [(failure, None) for failure in failures]
    return ResultText(verification_lines(report, view), verification_summary(report), warnings, errors)
