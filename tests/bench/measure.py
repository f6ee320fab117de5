"""Measure the cost of one run of a command, and compare two commands."""

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
    """The cost of one run: wall time and CPU time (user and system) in seconds, peak memory in bytes."""

    wall: float
    cpu: float
    memory: int


Run = Callable[[], Cost]
Pairs = Sequence[tuple[Cost, Cost]]


@dataclass(frozen=True)
class Shell:
    """Runs command lines in a separate directory, without the user's settings, credentials or caches."""

    folder: Path

    def run(self, command: str, **names: object) -> Cost:
        """Run one command line, in which the shell replaces `$NAME`. Earlier writes are synced to the disk first.

        The kernel reports at least as much memory for a child as its parent had when it started the child. Therefore
        this process stays small, and images are built in separate processes.
        """
        environment = {"HOME": str(self.folder), "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        environment |= {"BENCH": str(Path(__file__).parent)} | {name: str(value) for name, value in names.items()}
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


def rounds(what: str, number: int, *runs: Run) -> Sequence[tuple[Cost, ...]]:
    """Run several commands in turn, each round beginning with another one, so that drift and order affect all."""
    found = []
    for one in range(number):
        say(f"{what}, {one + 1} of {number}")
        order = [(first + one) % len(runs) for first in range(len(runs))]
        costs = {position: runs[position]() for position in order}
        found.append(tuple(costs[position] for position in range(len(runs))))
    return found


def pairs_of(found: Sequence[tuple[Cost, ...]], other: int = 1) -> Pairs:
    """Return the first command of each round with another one."""
    return [(costs[0], costs[other]) for costs in found]


def warm(folder: Path) -> None:
    """Read a file, or every file in a directory, so that it is in the page cache."""
    buffer = bytearray(1024 * 1024)
    for path in (folder, *folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def fresh(folder: Path) -> Callable[[], Path]:
    """Return a function that returns unused names below `folder`."""
    numbers = count(1)
    return lambda: folder / f"fresh-{next(numbers)}"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
