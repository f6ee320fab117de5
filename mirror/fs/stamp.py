"""The state of a file, by which a change of its content shows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_COARSEST = 3.0  # seconds: FAT keeps times to two of them, so a file may change twice and look the same


@dataclass(frozen=True, slots=True)
class Stamp:
    """Device, inode, size and times of a file: while they stay the same, so does what the file holds.

    That is true of a stamp that was `settled` when it was taken. A younger file must be read again.
    """

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def settled(self) -> bool:
        """Whether a change that comes now would show. A time far ahead is another clock's, or another time zone's."""
        now = time.time_ns()
        return all(abs(now - at) > _COARSEST * 1e9 for at in (self.modified, self.changed))
