"""Features that a file system lacks. Each is reported once, with its consequence, and never ends a command."""

from __future__ import annotations

import errno
import logging
import os
from enum import StrEnum
from pathlib import Path

log = logging.getLogger(__name__)

# FUSE, network and foreign file systems answer in different ways. NFS locks only files that are open for writing.
_NEITHER = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}
NO_SYNC = frozenset({*_NEITHER, errno.EACCES, errno.EPERM})
NO_LOCKS = frozenset({*_NEITHER, errno.ENOLCK})


class Feature(StrEnum):
    """A feature, and the consequence if it is missing."""

    TIMES = (
        "the file system does not let mirror set the time of a file ({}). "
        "Records show when blobs were stored, in place of the registry's Last Modified."
    )
    SYNC = (
        "the file system cannot sync a directory ({}). "
        "Files may be missing after a power cut: wait until the drive is unmounted, and verify after a power cut."
    )
    LOCKS = (
        "the file system has no locks ({}). Do not run two mirror commands on it at once. "
        "After an interruption, blobs start again from their first byte."
    )


_reported: set[tuple[int, Feature]] = set()  # with the device


def report_missing(feature: Feature, fd: int, path: Path, error: OSError) -> None:
    """Log a warning that the file system of an open file lacks a feature, once for each file system."""
    key = (os.fstat(fd).st_dev, feature)
    if key not in _reported:
        _reported.add(key)
        log.warning("%s: %s", path, feature.format(os.strerror(error.errno or 0)))
