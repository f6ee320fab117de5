"""Output files, which must not destroy what a command reads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from mirror.errors import UsageError

_HINT = "Name a file outside of layouts that the command does not read."


def refuse_overwrite(output: Path | str, inputs: Iterable[Path | str]) -> None:
    """Refuse an output in any layout, below a directory of `inputs`, or onto a file of `inputs`.

    Inputs that do not exist are ignored, and so are outputs to pipes and devices, and to stdout (`-`).

    Raises:
        UsageError: the output would be written there.
    """
    target = Path(os.path.realpath(output))
    found = _status(target)
    if output == "-" or (found and not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode)):
        return
    read = {(status.st_dev, status.st_ino): path for path in inputs if (status := _status(path))}
    if found and (found.st_dev, found.st_ino) in read and stat.S_ISREG(found.st_mode):
        raise UsageError(f"{output} is an input of this command, and would be overwritten.", hint=_HINT)
    for folder, status in _above(target):
        if (status.st_dev, status.st_ino) in read or (folder / "oci-layout").is_file():
            raise UsageError(f"{output} is inside {folder}, which is a layout or an input of this command.", hint=_HINT)


def _above(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the directories above a path that exist."""
    for folder in path.parents:
        if status := _status(folder):
            yield folder, status


def _status(path: Path | str) -> os.stat_result | None:
    with suppress(OSError, ValueError):
        return os.stat(path)
    return None
