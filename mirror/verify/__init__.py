"""Verify: does every byte of a store match its digest, and does every link lead somewhere?

Nothing is repaired, and nothing stops at the first fault: one run reports all findings.

    `metadata`      1. `oci-layout`, `index.json`, and the names of the images
    `structure`     2. each manifest, from every image down (`documents`), and the files that no image names. With
                       --level layers, each config is compared with its manifest and its index (`configs`)
    `blobs`         3. every file: it is there, is a file, and has the right size; --level structure ends here
    `expectations`     the images, compared with what is known about them out of band
    `blobs`         4. every file hashed, on all cores, largest first; with --level layers, unpacked, too (`unpack`)

What is known about blobs is kept in a `blob_table`. A layout can prove only that it agrees with itself. Whether it is
what was published, only something known out of band can tell: a digest or a record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mirror.content.finding import Severity
from mirror.content.store import Progress
from mirror.records import Record
from mirror.report.findings import Sample, VerifyLevel, VerifyReport
from mirror.verify.verification import Verification

__all__ = ["Verification", "verify_layout"]


async def verify_layout(
    path: Path | str,
    images: Sequence[str] = (),
    *,
    level: VerifyLevel | str = VerifyLevel.CONTENT,
    sample: Sample | str | None = None,
    fail_on: Severity | str = Severity.ERROR,
    expect: Mapping[str, str] | None = None,
    records: Sequence[Record] = (),
    progress: Progress | None = None,
    threads: int | None = None,
) -> VerifyReport:
    """Verify a layout or an archive; see `Verification` for the arguments, and for findings as they come.

    Returns:
        All findings. A broken layout is a finding, not an error.

    Raises:
        NotFound: there is no such directory or file, or no such image in it.
        BrokenArchive: the file is not an archive; a broken archive is a finding.
        UsageError: an unknown level, sample or severity.
        InvalidDigest: a text in `expect` is not a digest.
        StorageError: the directory or the file itself cannot be read.
    """
    verification = Verification(
        path,
        images,
        level=level,
        sample=sample,
        fail_on=fail_on,
        expect=expect,
        records=records,
        progress=progress,
        threads=threads,
    )
    async for _ in verification:
        pass
    return verification.report
