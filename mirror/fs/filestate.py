"""The state of a file, which reveals changes of its content."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_COARSEST = 3.0  # seconds: FAT stores times in steps of two, so a recent file may change without a trace


class FileState(NamedTuple):
    """Device, inode, size and times of a file.

    If a state was settled when it was taken, an equal one later means that the content has not changed. A more recent
    file must be read again.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def is_settled(self) -> bool:
        """True if a change made now would alter the times.

        Times in the future are not recent: they come from another clock or time zone.
        """
        now = time.time_ns()
        return all(abs(now - at) > _COARSEST * 1e9 for at in (self.modified, self.changed))
