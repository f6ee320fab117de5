"""Verify: is every byte of this store what its name says, and every link whole?

Nothing here is repaired, and nothing stops at the first fault: all findings come out of one run.

    `own`        1. the layout's own files, and the names of the images
    `structure`  2. from every image down, each manifest: there, right, parsed (`documents`); and what nothing names.
                    With --level layers, each config against its manifest and its index (`configs`)
    `content`    3. every file: there, a file, of the right size. With --level structure, that is the end
                 4. every file hashed, on all cores, largest first; with --level layers, unpacked too (`unpack`, `tar`)
    (`mirror.verify.expectations`)  between 3 and 4: the images, held against what came another way

What is known of blobs is kept in a `ledger`. A layout can prove only that it agrees with itself. Whether it is what was
published, a digest from elsewhere tells.
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
    """Verify a layout, or an archive of one, to the end; see `Verification` for findings as they come.

    Returns:
        All findings. A broken layout is a finding, not an error.

    Raises:
        NotFound: there is no such folder or file, or no such image in it.
        BrokenArchive: the file is something else than an archive; a broken archive is a finding.
        UsageError: a level, a sample or a severity that there is not.
        InvalidDigest: something in `expect` is no digest.
        StorageError: the folder or the file itself cannot be read.
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
