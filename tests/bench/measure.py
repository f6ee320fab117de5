"""What one run of a command costs, and how two commands compare."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

SCRIPTS = Path(sys.executable).parent  # where `mirror` is installed


@dataclass(frozen=True)
class Cost:
    """Of one run: seconds on the wall, seconds of CPU (user and system), the most memory in bytes."""

    wall: float
    cpu: float
    memory: int


Run = Callable[[], Cost]
Pairs = Sequence[tuple[Cost, Cost]]


@dataclass(frozen=True)
class Shell:
    """Runs command lines in a folder of their own, where nobody's settings, credentials or caches count."""

    folder: Path

    def run(self, command: str, **names: object) -> Cost:
        """Run one command line; `$NAME` in it is replaced by the shell. What was written before is on the disk first.

        The memory that the kernel tells for a child is at least that of its parent when it was started. Therefore this
        process stays small, and whatever builds images runs in processes of its own.
        """
        environment = {"HOME": str(self.folder), "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        environment |= {name: str(value) for name, value in names.items()}
        os.sync()
        with tempfile.TemporaryFile() as said:
            started = time.perf_counter()
            process = subprocess.Popen(
                ["sh", "-c", command], cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=said
            )
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                raise
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise SystemExit(f"{command}\nexit {process.returncode}: {said.read().decode(errors='replace')}")
        return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def paired(what: str, pairs: int, ours: Run, other: Run) -> Pairs:
    """Run two commands in turn, each first every other time, so that drift and order hit both."""
    found = []
    for number in range(pairs):
        say(f"{what}, pair {number + 1} of {pairs}")
        if number % 2:
            second = other()
            found.append((ours(), second))
        else:
            found.append((ours(), other()))
    return found


def warm(folder: Path) -> None:
    """Read a file, or every file of a folder, so that all who come later find it in memory."""
    buffer = bytearray(1024 * 1024)
    for path in (folder, *folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def fresh(folder: Path) -> Callable[[], Path]:
    """Names below `folder` that nothing has yet."""
    numbers = count(1)
    return lambda: folder / f"fresh-{next(numbers)}"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
