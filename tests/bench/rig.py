"""The registries, images and layouts of the benchmarks, and a shell. Everything is in one directory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.bench.measure import Cost, Shell, fresh, say, warm
from tests.bench.registry import docker_registry, make_certificate
from tests.bench.table import MIB, Row
from tests.bench.workload import Workload

MEMORY = 128 * MIB
CORES = len(os.sched_getaffinity(0))
PULL = "mirror pull $HOST/bench:1 --all-platforms -o $FRESH"


@dataclass(frozen=True)
class Case:
    """One benchmark: its commands, as they are run, and the function that returns its rows."""

    commands: Sequence[str]
    measure: "Callable[[Rig], list[Row]]"


class Rig:
    """The state of a run of the benchmarks. Registries, images and layouts are made when they are first needed."""

    def __init__(self, folder: Path, workload: Workload, stack: ExitStack) -> None:
        self.folder, self.workload, self.shell, self._stack = folder, workload, Shell(folder), stack
        self._fresh = fresh(folder)

    @cached_property
    def tls(self) -> Path:
        """A directory with a certificate, which is its own authority, and its key."""
        folder = self.folder / "tls"
        make_certificate(folder)
        return folder

    @cached_property
    def host(self) -> str:
        """A registry over HTTP."""
        return self._stack.enter_context(docker_registry(self.folder / "registry"))

    @cached_property
    def tls_host(self) -> str:
        """A registry over TLS, with the same content."""
        return self._stack.enter_context(docker_registry(self.folder / "registry", self.tls))

    @cached_property
    def layout(self) -> Path:
        """The benchmark image, pulled by mirror; it is in the registry too."""
        folder = self.folder / "layout"
        self.publish("tests.support.images", "bench", 1, "--bench", "--divisor", self.workload.divisor)
        self.shell.run(PULL, HOST=self.host, FRESH=folder)
        return folder

    @cached_property
    def large(self) -> Path:
        """An image with one large blob, pulled by mirror; it is in the registry too, as `large:1`."""
        folder = self.folder / "large"
        self.publish("tests.bench.large", "large", 1, self.workload.large)
        self.shell.run("mirror pull $HOST/large:1 -o $FRESH", HOST=self.host, FRESH=folder)
        return folder

    @cached_property
    def edge(self) -> Path:
        """An image with many blobs of 1 MB, pulled by mirror; it is in the registry too, as `edge:1`."""
        folder = self.folder / "edge"
        self.publish("tests.bench.samples", "edge", self.workload.blobs)
        self.shell.run("mirror pull $HOST/edge:1 -o $FRESH", HOST=self.host, FRESH=folder)
        return folder

    @cached_property
    def archive(self) -> Path:
        """The benchmark image, exported by mirror."""
        path = self.folder / "images.tar"
        self.shell.run("mirror export $LAYOUT $ARCHIVE", LAYOUT=self.layout, ARCHIVE=path)
        return path

    def publish(self, module: str, *arguments: object) -> list[str]:
        """Run a module that publishes images to the registry, in another process; return the words that it prints."""
        say(f"publishing {' '.join(map(str, arguments))}")
        command = [sys.executable, "-m", module, self.host, *map(str, arguments)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()

    def made(self, name: str, module: str, *arguments: object) -> Path:
        """Return a layout that a module writes, in a separate process."""
        folder = self.folder / name
        if not folder.exists():
            say(f"making {name}")
            subprocess.run([sys.executable, "-m", module, str(folder), *map(str, arguments)], check=True)
        return folder

    @contextmanager
    def space(self) -> Iterator[Path]:
        """Yield an unused name for a directory, which is removed."""
        folder = self._fresh()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def pull(self, command: str, **names: object) -> Cost:
        """Run a command that writes `$FRESH`, from the registries at `$HOST` and `$TLS`, with their CA in `$CERTS`."""
        with self.space() as folder:
            return self.shell.run(command, **self._names(command), FRESH=folder, **names)

    def push(self, command: str, layout: Path, *, tls: bool = False) -> Cost:
        """Run a command that pushes `$LAYOUT` to a new, empty registry at `$HOST` or `$TLS`."""
        warm(layout)
        with self.space() as folder, docker_registry(folder, self.tls if tls else None) as host:
            return self.shell.run(command, HOST=host, TLS=host, CERTS=self.tls / "certs", LAYOUT=layout)

    def read(self, command: str, layout: Path, **names: object) -> Cost:
        """Run a command that reads `$LAYOUT`, whose files are in the page cache."""
        warm(layout)
        return self.shell.run(command, LAYOUT=layout, **names)

    def _names(self, command: str) -> dict[str, object]:
        names: dict[str, object] = {"HOST": self.host} if "$HOST" in command else {}
        return names | ({"TLS": self.tls_host, "CERTS": self.tls / "certs"} if "$TLS" in command else {})


def size_of(count: int) -> str:
    """Return a size for the name of a row: 2 GB."""
    return f"{count / 1e9:g} GB" if count >= 10**9 else f"{count / 1e6:g} MB"
