"""Check a registry against the receipt of a push."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mirror.config.files import read_file
from mirror.content.finding import Finding, Kind, Severity
from mirror.content.store import Progress
from mirror.errors import ContentError
from mirror.registry import Client, RegistryOptions, open_target
from mirror.report.findings import VerifiedImage, VerifyReport
from mirror.retry import RetryPolicy
from mirror.verify.options import VerifyOptions, one_of
from mirror.verify.readback import in_registry, read_back
from mirror.verify.receipt_document import CAP, ReceiptImage, parse_receipt

_HINT = "--receipt takes the file that mirror push --receipt has written."


async def verify_receipt(
    path: Path | str, options: VerifyOptions | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Check that registries still have what a receipt lists: every name is resolved, every byte fetched and hashed.

    Args:
        path: the file of the receipt.
        options: how to connect to registries; `VerifyOptions` lists the attributes that are used.
        progress: gets the progress.

    Returns:
        All findings. An image whose push failed, according to the receipt, is a finding, and is not read.

    Raises:
        UsageError: an unknown severity.
        ConfigError: the file does not exist, or cannot be read.
        ContentError: the file is not a receipt, or lists no images.
    """
    path, options, started = Path(path), options or VerifyOptions(), time.monotonic()
    fail_on, registries = one_of(Severity, options.fail_on), options.registries or RegistryOptions()
    retry = options.retry or RetryPolicy()
    images = parse_receipt(read_file(path, CAP, _HINT), str(path))
    if not images:
        raise ContentError(f"{path} lists no images.")
    pushed = [image for image in images if image.error is None]
    async with Client(registries) as client:
        # The images of one repository share one source.
        sources = {image.reference.name: open_target(client, image.reference, push=False) for image in pushed}
        expected = [image.expected(sources[image.reference.name]) for image in pushed]
        found = await read_back(expected, jobs=registries.jobs, retry=retry, progress=progress)
    verified = []
    for image in images:
        blobs = [part.size for part in image.content if part.kind not in ("index", "manifest")]
        name = image.reference.stored
        verified.append(VerifiedImage(name, image.digest, image.platforms, len(blobs), sum(blobs)))
    return VerifyReport(
        path=str(path),
        images=tuple(verified),
        findings=(*in_registry(*_failed_pushes(images)), *found.findings),
        files=found.files,
        size=found.size,
        seconds=time.monotonic() - started,
        fail_on=fail_on,
    )


def _failed_pushes(images: Sequence[ReceiptImage]) -> Iterator[Finding]:
    """Yield a finding for each image that was not pushed completely, according to the receipt."""
    for image in images:
        name = image.reference.stored
        finding = partial(Finding, Kind.NOT_PUSHED, subject=name, images=(name,))
        if image.error is not None:
            yield finding(severity=Severity.ERROR, expected=image.digest, found=image.error.rstrip("."))
        elif image.referrers.error is not None:
            found = image.referrers.error.rstrip(".")
            yield finding(severity=Severity.WARNING, expected="all of its referrers", found=found)
