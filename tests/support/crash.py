"""Run the `mirror` command with simulated failures: `python -m tests.support.crash PLAN ARGUMENT...`

The calls that make things durable, visible or gone (fsync, link, rename, unlink) are counted from 0. Plans:

    trace:FILE      nothing fails; FILE gets a line for each call
    before:N        SIGKILL instead of the call
    after:N         SIGKILL after the call
    EIO:N           the call fails with this error; all names of errors are valid
    free:BYTES      nothing fails; the file system reports this number of free bytes
    modes           file modes apply even to root
"""

import ctypes
import errno
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

_CAPABILITY_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1 << 1, 1 << 2
_CALLS = ("fsync", "link", "rename", "unlink")

Call = Callable[..., Any]
Wrapper = Callable[[str, Call], Call]


def main() -> NoReturn:
    prepare(sys.argv.pop(1))
    from mirror.cli import main as mirror

    mirror()


def prepare(plan: str) -> None:
    """Simulate the failures of a plan in this process."""
    kind, _, text = plan.partition(":")
    if kind == "modes":
        _obey_modes()
    elif kind == "free":
        os.fstatvfs = _free(os.fstatvfs, int(text))
    else:
        wrapper = _traced(Path(text)) if kind == "trace" else _failing(kind, int(text))
        for name in _CALLS:
            setattr(os, name, wrapper(name, getattr(os, name)))


def _obey_modes() -> None:
    """Give up the capabilities with which root reads and writes everything (capabilities(7), capset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable; then the same for capabilities from 32 on
    libc.capget(header, sets)
    for number in range(3):
        sets[number] &= ~(_DAC_OVERRIDE | _DAC_READ_SEARCH)
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _failing(kind: str, wanted: int) -> Wrapper:
    numbers = itertools.count()

    def wrapper(_: str, call: Call) -> Call:
        def failing(*args: Any, **fields: Any) -> Any:
            if next(numbers) != wanted:
                return call(*args, **fields)
            if kind == "after":
                call(*args, **fields)
            if kind in ("before", "after"):
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))

        return failing

    return wrapper


def _traced(log: Path) -> Wrapper:
    def wrapper(name: str, call: Call) -> Call:
        def traced(*args: Any, **fields: Any) -> Any:
            what = _named(*args, **fields)
            call(*args, **fields)
            with log.open("a") as file:
                file.write(f"{name} {what}\n")

        return traced

    return wrapper


def _named(source: int | str, target: str = "", *, follow_symlinks: bool = True, **folders: int) -> str:
    """Return the full paths of a call, also for file descriptors."""
    if isinstance(source, int):
        return os.readlink(f"/proc/self/fd/{source}")
    inside = [folders.get("src_dir_fd", folders.get("dir_fd")), folders.get("dst_dir_fd")]
    return " ".join(_whole(folder, name) for folder, name in zip(inside, (source, target), strict=True) if name)


def _whole(folder: int | None, name: str) -> str:
    return name if folder is None else f"{os.readlink(f'/proc/self/fd/{folder}')}/{name}"


def _free(call: Call, size: int) -> Call:
    def limited(fd: int) -> os.statvfs_result:
        fields = list(call(fd))
        fields[1] = 1  # f_frsize
        fields[4] = size  # f_bavail
        return os.statvfs_result(fields)

    return limited


if __name__ == "__main__":
    main()
