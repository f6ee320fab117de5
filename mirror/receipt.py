"""Receipts of a push: written when it is done, and checked against the registry later."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

from mirror.content import Progress
from mirror.errors import BrokenLayout, ContentError, NotFound
from mirror.layout.folder import Folder
from mirror.readback import Expected, read_back
from mirror.registry import Client, Options, pull_source
from mirror.report import receipts
from mirror.report.findings import VerifiedImage, VerifyReport
from mirror.report.receipts import Pushed
from mirror.retry import Retry


async def verify_receipt(
    path: Path | str,
    options: Options | None = None,
    retry: Retry | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check that registries still have what a receipt says: every name is resolved, every byte fetched and hashed.

    Args:
        path: the receipt.
        options: how to talk to registries, and how much to read at once.
        retry: how stubbornly.
        progress: who wants to know how it goes.

    Returns:
        What was found, as for a layout. Images that the receipt says have failed are not looked for.

    Raises:
        NotFound: there is no such file.
        ContentError: it is no receipt.
        StorageError: it cannot be read.
    """
    path, options, started = Path(path), options or Options(), time.monotonic()
    images = [image for image in receipts.parse(_read(path), str(path)) if image.error is None]
    if not images:
        raise ContentError(f"{path} lists no image that was pushed.")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(options))
        expected = _expected(images, client)
        findings = await read_back(expected, jobs=options.jobs, retry=retry or Retry(), progress=progress)
    content = {(image.place.name, piece.node.digest): piece.node.size for image in images for piece in image.content}
    return VerifyReport(
        path=str(path),
        images=tuple(map(_verified, images)),
        findings=tuple(findings),
        files=len(content),
        size=sum(content.values()),
        seconds=time.monotonic() - started,
    )


def _expected(images: list[Pushed], client: Client) -> list[Expected]:
    """What to look for; images of one repository share one source."""
    sources = {
        image.place.name: pull_source(client, image.place).origin  # what its mirrors have proves nothing
        for image in images
    }
    return [
        Expected(
            image.place.stored,
            sources[image.place.name],
            image.place.target,
            image.digest,
            tuple(piece.node for piece in image.content),
        )
        for image in images
    ]


def _verified(image: Pushed) -> VerifiedImage:
    blobs = [piece.node for piece in image.content if piece.kind not in ("index", "manifest")]
    return VerifiedImage(
        image.place.stored, image.digest, image.platforms, len(blobs), sum(blob.size for blob in blobs)
    )


def _read(path: Path) -> bytes:
    with Folder.open(path.parent) as folder:
        try:
            return folder.read(path.name, receipts.CAP)
        except FileNotFoundError:
            raise NotFound(f"There is no file {str(path)!r}.") from None
        except BrokenLayout as error:
            raise ContentError(str(error)) from None
