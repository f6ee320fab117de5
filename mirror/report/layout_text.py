"""Changes of a layout, and a layout that is served, as text: `rm`, `prune`, `serve`."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.report.layouts import PrunedBlob, PrunedFile, PruneReport, RemoveReport, ServerInfo
from mirror.report.text import ResultText
from mirror.report.transfers import pinned
from mirror.report.view import View
from mirror.text import count, size


def remove_report(removed: RemoveReport, _: View) -> ResultText:
    """Return what was removed from a layout."""
    gone = len({name for image in removed.images for name in image.referrers})
    images = removed.images[0].name if len(removed.images) == 1 else count(len(removed.images), "image")
    referrers = f" and {count(gone, 'referrer')}" if gone else ""
    deleted = f"{count(removed.deleted.blobs, 'blob')} deleted, {size(removed.deleted.size)} freed"
    kept = f"; {count(removed.kept, 'blob')} kept for other images" if removed.kept else ""
    lines = [pinned(image.name, image.digest) for image in removed.images]
    return ResultText(lines, f"removed {images}{referrers}: {deleted}{kept}.")


def prune_report(report: PruneReport, _: View) -> ResultText:
    """Return what nothing in a layout needs."""
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


def server_info(server: ServerInfo, _: View) -> ResultText:
    """Return where a server listens."""
    images = f"{count(server.images, 'image')} from {', '.join(server.layouts)}"
    return ResultText([server.address], f"serving {images} at {server.url}, read-only; press Ctrl-C to stop.")
