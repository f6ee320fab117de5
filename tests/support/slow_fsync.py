"""Run the `mirror` command on a disk that is slow to make things durable.

`python -m tests.support.slow_fsync SECONDS ARGUMENT...`: every fsync takes so many seconds longer, as on a cheap USB
drive. An hour is as good as a file server that is gone.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn


def main() -> NoReturn:
    seconds = float(sys.argv.pop(1))
    for name in ("fsync", "fdatasync"):
        setattr(os, name, _slow(getattr(os, name), seconds))
    from mirror.cli import main as mirror

    mirror()


def _slow(call: Callable[[Any], None], seconds: float) -> Callable[[Any], None]:
    def slow(fd: Any) -> None:
        time.sleep(seconds)
        call(fd)

    return slow


if __name__ == "__main__":
    main()
