"""A slow disk for a Python program that has this directory on its PYTHONPATH: every fsync takes half a second longer.

Each one adds a byte to the file $FSYNCS, which shows that the program has called this one.
"""

import os
import time
from collections.abc import Callable

_DELAY = 0.5  # seconds


def _slow(sync: Callable[[int], None]) -> Callable[[int], None]:
    def wait_and_sync(file: int) -> None:
        time.sleep(_DELAY)
        count = os.open(os.environ["FSYNCS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(count, b".")
        os.close(count)
        sync(file)

    return wait_and_sync


for _name in ("fsync", "fdatasync"):
    setattr(os, _name, _slow(getattr(os, _name)))
