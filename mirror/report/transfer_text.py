"""A transfer as text: `pull`, `push`, `export`, `import`, `copy`."""

from __future__ import annotations

from mirror.report.text import ResultText
from mirror.report.transfers import PAST, Amount, TransferredImage, TransferReport
from mirror.report.view import View
from mirror.text import count, seconds, size


def transfer_report(report: TransferReport, _: View) -> ResultText:
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
