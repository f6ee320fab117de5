"""Verify that every byte of a store matches its digest, and that nothing is missing.

Nothing is repaired. One run reports all findings, instead of stopping at the first.

    `metadata`      1. check `oci-layout`, `index.json` and the names of the images
    `structure`     2. walk the manifests of every image (`descent`, `documents`), and list the files that no image
                       needs. With --level layers, compare each config with its manifest and its index (`configs`)
    `blobs`         3. check that every blob is there, is a file, and has the right size; --level structure ends here
    `expectations`     compare the images with expected digests and records
    `blobs`         4. hash every blob in several threads, the largest first; with --level layers, unpack it (`unpack`)

All blobs are in a `blob_table`. A layout can prove only that it agrees with itself. Only a digest or a record that was
received separately can prove that it is what was published.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mirror.content.store import Progress
from mirror.report.findings import VerifyReport
from mirror.verify.options import VerifyOptions
from mirror.verify.verification import Verification

__all__ = ["Verification", "VerifyOptions", "verify_layout"]


async def verify_layout(
    path: Path | str, images: Sequence[str] = (), options: VerifyOptions | None = None, progress: Progress | None = None
) -> VerifyReport:
    """Verify a layout or an archive; see `Verification` for the arguments, and to get findings as they come.

    Returns:
        All findings. A broken layout is a finding, not an error.

    Raises:
        NotFound: there is no such directory or file, or no such image in it.
        BrokenArchive: the file is not an archive; a broken archive is a finding.
        UsageError: an unknown level, sample or severity.
        InvalidDigest: a text in `expect` is not a digest.
        StorageError: the directory or the file itself cannot be read.
    """
    verification = Verification(path, images, options, progress)
    async for _ in verification:
        pass
    return verification.report
