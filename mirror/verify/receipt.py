"""Receipts of a push: written when it is done, and checked against the registry later."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.store import Progress
from mirror.errors import BrokenLayout, ContentError, NotFound
from mirror.fs.directory import Directory
from mirror.registry import Client, RegistryOptions, push_target
from mirror.report.findings import VerifiedImage, VerifyReport
from mirror.retry import RetryPolicy
from mirror.verify import receipts
from mirror.verify.readback import Expected, read_back
from mirror.verify.receipts import Pushed


async def verify_receipt(
    path: Path | str,
    options: RegistryOptions | None = None,
    retry: RetryPolicy | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check that registries still have what a receipt says: every name is resolved, every byte fetched and hashed.

    Args:
        path: the receipt.
        options: how to talk to registries, and how much to read at once.
        retry: how stubbornly.
        progress: who wants to know how it goes.

    Returns:
        What was found, as for a layout. Images that the receipt says have failed are findings, and not looked for.

    Raises:
        NotFound: there is no such file.
        ContentError: it is no receipt.
        StorageError: it cannot be read.
    """
    path, options, started = Path(path), options or RegistryOptions(), time.monotonic()
    images = receipts.parse(_read(path), str(path))
    if not images:
        raise ContentError(f"{path} lists no image.")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(options))
        expected = _expected(images, client)
        found = await read_back(expected, jobs=options.jobs, retry=retry or RetryPolicy(), progress=progress)
    return VerifyReport(
        path=str(path),
        images=tuple(map(_verified, images)),
        findings=(*filter(None, map(_admitted, images)), *found.findings),
        files=found.files,
        size=found.size,
        seconds=time.monotonic() - started,
    )


def _expected(images: list[Pushed], client: Client) -> list[Expected]:
    """What to look for; images of one repository share one source."""
    pushed = [image for image in images if image.error is None]
    sources = {image.place.name: push_target(client, image.place, push=False) for image in pushed}
    return [image.expected(sources[image.place.name]) for image in pushed]


def _admitted(image: Pushed) -> Finding | None:
    """What the receipt itself says is not right."""
    about = partial(Finding, Kind.NOT_PUSHED, subject=image.place.stored, images=(image.place.stored,))
    if image.error is not None:
        return about(severity=Severity.ERROR, expected=image.digest, found=f"a failed push: {image.error.rstrip('.')}")
    if image.lacking is not None:
        found = f"that some of it may be lacking: {image.lacking.rstrip('.')}"
        return about(severity=Severity.WARNING, expected="all that refers to it", found=found)
    return None


def _verified(image: Pushed) -> VerifiedImage:
    blobs = [piece.node for piece in image.content if piece.kind not in ("index", "manifest")]
    return VerifiedImage(
        image.place.stored, image.digest, image.platforms, len(blobs), sum(blob.size for blob in blobs)
    )


def _read(path: Path) -> bytes:
    with Directory.open(path.parent) as folder:
        try:
            return folder.read(path.name, receipts.CAP)
        except FileNotFoundError:
            raise NotFound(f"There is no file {str(path)!r}.") from None
        except BrokenLayout as error:
            raise ContentError(str(error)) from None
