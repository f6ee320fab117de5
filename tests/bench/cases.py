"""The benchmarks: the command of mirror, the command to compare it with, and the target."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from tests.bench import scale, table
from tests.bench.link import slow_link
from tests.bench.measure import Cost, Run, Shell, fresh, paired, say, warm
from tests.bench.registry import docker_registry
from tests.bench.servers import mirror_serve, nginx
from tests.bench.table import MIB, Row

_MEMORY = 128 * MIB
_TOGETHER = os.cpu_count() or 1

PULL = "mirror pull $HOST/bench:1 --all-platforms -o $FRESH"
SKOPEO_PULL = "skopeo copy --insecure-policy --all --src-tls-verify=false docker://$HOST/bench:1 oci:$FRESH:1"
LARGE = "mirror pull $HOST/large:1 -o $FRESH"
SLOW = "mirror pull $LINK/slow:1 -o $FRESH"
SLOW_ALONE = "mirror pull $LINK/slow:1 -o $FRESH --connections-per-blob 1"
SKOPEO_SLOW = "skopeo copy --insecure-policy --src-tls-verify=false docker://$LINK/slow:1 oci:$FRESH:1"
VERIFY = "mirror verify $LAYOUT"
SHA256SUM = "sha256sum $LAYOUT/blobs/sha256/*"
SHA256SUMS = f"ls $LAYOUT/blobs/sha256/* | xargs -P {_TOGETHER} -n 1 sha256sum"
OPENSSL = "openssl dgst -sha256 $LAYOUT/blobs/sha256/*"
LAYERS = "mirror verify $LAYOUT --level layers"
GUNZIP = "for blob in $LAYOUT/blobs/sha256/*; do gunzip -c $blob 2>/dev/null | sha256sum; done"
STRUCTURE = "mirror verify $LAYOUT --level structure"
LIMIT = "python -m tests.bench.limit measure $LAYOUT 5"
PUSH = "mirror push $LAYOUT $HOST"
SKOPEO_PUSH = "skopeo copy --insecure-policy --all --dest-tls-verify=false oci:$LAYOUT:1 docker://$HOST/bench:1"
PULL_AGAIN = "mirror pull $HOST/bench:1 --all-platforms -o $LAYOUT"
EXPORT = "mkdir $FRESH && mirror export $LAYOUT $FRESH/x.tar"
TAR = "mkdir $FRESH && tar -C $LAYOUT -cf $FRESH/x.tar ."
TAR_SYNC = f"{TAR} && sync $FRESH/x.tar"
IMPORT = "mirror import $ARCHIVE $FRESH"
UNTAR = "mkdir $FRESH && tar -C $FRESH -xf $ARCHIVE"
UNTAR_SYNC = f"{UNTAR} && sync --file-system $FRESH"
SERVE = "curl -sSf -o /dev/null http://$HOST/v2/large/blobs/sha256:$HEX"
NGINX = "curl -sSf -o /dev/null http://$HOST/$HEX"
VERSION = "mirror --version"
PYTHON = "python -c pass"


@dataclass(frozen=True)
class Case:
    """One benchmark: its commands, as they are run, and the function that returns its rows."""

    commands: Sequence[str]
    measure: "Callable[[Bench], list[Row]]"


class Bench:
    """The state that the benchmarks share: a registry with images, and a layout. Everything is below `folder`."""

    def __init__(self, folder: Path, pairs: int, host: str) -> None:
        self.folder, self.pairs, self.host = folder, pairs, host
        self._shell = Shell(folder)
        self._fresh = fresh(folder)

    @cached_property
    def layout(self) -> Path:
        """The benchmark image, pulled by mirror."""
        folder = self.folder / "layout"
        self._publish("tests.support.images", "--bench", self.host, "bench", "1")
        self._shell.run(PULL, HOST=self.host, FRESH=folder)
        warm(folder)
        return folder

    @cached_property
    def archive(self) -> Path:
        """The benchmark image, exported by mirror."""
        path = self.folder / "images.tar"
        self._shell.run("mirror export $LAYOUT $ARCHIVE", LAYOUT=self.layout, ARCHIVE=path)
        warm(path)
        return path

    def pull(self) -> list[Row]:
        assert self.layout, "published"
        pairs = paired("pull", self.pairs, lambda: self._pull(PULL), lambda: self._pull(SKOPEO_PULL))
        ours, other = zip(*pairs, strict=True)
        return [
            table.wall("pull, wall / skopeo", pairs, 0.45, stretch=0.35),
            table.cpu("pull, CPU / skopeo", pairs),
            table.memory("pull, peak memory / skopeo", ours, other, _MEMORY),
        ]

    def memory(self) -> list[Row]:
        assert self.layout, "published"
        self._publish("tests.bench.large", self.host, "large", "1")
        rows = []
        for what, command in (("one 2 GB blob", LARGE), ("1.2 GB in 24 blobs", PULL)):
            for jobs in (4, 16):
                say(f"memory, {what}, -j {jobs}")
                costs = [self._pull(f"{command} -j {jobs}") for _ in range(min(2, self.pairs))]
                rows.append(table.memory(f"pull, {what}, -j {jobs}, peak memory", costs, most=_MEMORY))
        return rows

    def slow(self) -> list[Row]:
        """Pull one blob of 400 MB over a link with 10 MB/s per connection and a round trip of 50 ms."""
        self._publish("tests.bench.large", self.host, "slow", "1", "400000000")
        with slow_link(self.host, 10_000_000, 0.025) as link:

            def pull(command: str) -> Run:
                return lambda: self._slow(command, link)

            pairs = paired("slow link", self.pairs, pull(SLOW), pull(SKOPEO_SLOW))
            alone = paired("slow link, alone", 1, pull(SLOW), pull(SLOW_ALONE))
        ours, _ = zip(*pairs, strict=True)
        return [
            table.wall("pull over a slow link, wall / skopeo", pairs, 0.25),
            table.wall("pull over a slow link, wall / one connection", alone, 0.25),
            table.memory("pull over a slow link, peak memory", ours, most=_MEMORY),
        ]

    def _slow(self, command: str, link: str) -> Cost:
        with self._space() as folder:
            return self._shell.run(command, LINK=link, FRESH=folder)

    def verify(self) -> list[Row]:
        return [
            *self._verify("sha256sum", SHA256SUM, 0.25),
            *self._verify(f"sha256sum, {_TOGETHER} at once", SHA256SUMS, 0.25),
            *self._verify("openssl dgst", OPENSSL, 0.8),
        ]

    def _verify(self, what: str, command: str, most: float) -> list[Row]:
        pairs = paired(f"verify / {what}", self.pairs, lambda: self._read(VERIFY), lambda: self._read(command))
        return [
            table.wall(f"verify, wall / {what}", pairs, most),
            table.cpu(f"verify, CPU / {what}", pairs),
        ]

    def limit(self) -> list[Row]:
        """Compare the content level with hashlib in memory: at least 0.8 of its speed."""
        layout = self._made("limit", "tests.bench.limit", "make")
        say("limit")
        command = [sys.executable, "-m", "tests.bench.limit", "measure", str(layout), str(self.pairs)]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        pairs = [tuple(Cost(float(text), 1, 0) for text in line.split()) for line in lines]
        return [table.wall("verify 4 GB, wall / hashlib in memory on all cores", [(a, b) for a, b in pairs], 1 / 0.8)]

    def layers(self) -> list[Row]:
        layout = self._made("layers", "tests.bench.layers")
        warm(layout)
        runs = [lambda command=command: self._shell.run(command, LAYOUT=layout) for command in (LAYERS, GUNZIP)]
        pairs = paired("layers", self.pairs, *runs)
        ours, _ = zip(*pairs, strict=True)
        return [
            table.wall("verify --level layers, wall / gunzip and sha256sum", pairs, 0.3),
            table.cpu("verify --level layers, CPU / gunzip and sha256sum", pairs),
            table.memory("verify --level layers, peak memory", ours, most=_MEMORY),
        ]

    def structure(self) -> list[Row]:
        """Verify 100,000 blobs in less than 3 s and 300 MiB; and measure the memory per blob."""
        rows = []
        costs = {}
        for blobs in (1_000, 100_000, 200_000):
            layout = self._made(f"many-{blobs}", "tests.bench.many", after=[str(blobs)])
            say(f"structure of {blobs} blobs")
            costs[blobs] = [self._shell.run(STRUCTURE, LAYOUT=layout) for _ in range(self.pairs)]
        rows.append(table.seconds("verify --level structure, 100,000 blobs", costs[100_000], 3))
        rows.append(
            table.memory("verify --level structure, 100,000 blobs, peak memory", costs[100_000], most=300 * MIB)
        )
        each = (max(c.memory for c in costs[200_000]) - max(c.memory for c in costs[1_000])) / 199_000
        rows.append(Row("verify, memory of one blob", f"{each:.0f} B", "", "", "≤ 250 B", each <= 250))
        return rows

    def _made(self, name: str, module: str, *before: str, after: Sequence[str] = ()) -> Path:
        """Return a layout that another module creates, in a separate process."""
        folder = self.folder / name
        if not folder.exists():
            say(f"making {name}")
            subprocess.run([sys.executable, "-m", module, *before, str(folder), *after], check=True)
        return folder

    def push(self) -> list[Row]:
        pairs = paired("push", self.pairs, lambda: self._push(PUSH), lambda: self._push(SKOPEO_PUSH))
        ours, other = zip(*pairs, strict=True)
        return [
            table.wall("push, wall / skopeo", pairs, 0.7),
            table.cpu("push, CPU / skopeo", pairs),
            table.memory("push, peak memory / skopeo", ours, other, _MEMORY),
        ]

    def again(self) -> list[Row]:
        pairs = paired("pull again", self.pairs, lambda: self._read(PULL_AGAIN), lambda: self._read(VERIFY))
        return [table.wall("pull with nothing new, wall / mirror verify", pairs, 1.3, plus=0.3)]

    def archives(self) -> list[Row]:
        """Compare with tar, which does not sync what it writes, and with tar and sync; mirror always syncs."""
        exports = [
            (what, paired(f"export / {what}", self.pairs, lambda: self._write(EXPORT), partial(self._write, command)))
            for what, command in (("tar cf", TAR), ("tar cf and sync", TAR_SYNC))
        ]
        imports = [
            (what, paired(f"import / {what}", self.pairs, lambda: self._write(IMPORT), partial(self._write, command)))
            for what, command in (("tar xf", UNTAR), ("tar xf and sync", UNTAR_SYNC))
        ]
        return [
            *(table.wall(f"export, wall / {what}", pairs, 1.2) for what, pairs in exports),
            table.memory("export, peak memory", (ours for _, pairs in exports for ours, _ in pairs), most=_MEMORY),
            *(table.wall(f"import, wall / {what}", pairs, 1.5) for what, pairs in imports),
            table.memory("import, peak memory", (ours for _, pairs in imports for ours, _ in pairs), most=_MEMORY),
        ]

    def serve(self) -> list[Row]:
        """Serve one blob of 2 GB that has been hashed. A time of at most 1.25 is a throughput of at least 0.8."""
        self._publish("tests.bench.large", self.host, "large", "1")
        with self._space() as layout, self._space() as folder:
            self._shell.run(LARGE, HOST=self.host, FRESH=layout)
            blobs = layout / "blobs/sha256"
            large = max(blobs.iterdir(), key=lambda path: path.stat().st_size).name
            with mirror_serve(layout) as ours, nginx(blobs, folder) as other:
                first = self._shell.run(SERVE, HOST=ours, HEX=large)
                time.sleep(3)  # until the file is older than the coarsest clock, so that it is not hashed again
                self._shell.run(SERVE, HOST=ours, HEX=large)
                pairs = paired(
                    "serve",
                    self.pairs,
                    lambda: self._shell.run(SERVE, HOST=ours, HEX=large),
                    lambda: self._shell.run(NGINX, HOST=other, HEX=large),
                )
        say(f"serve: the first request, which hashes, took {first.wall:.2f} s")
        return [table.wall("serve a 2 GB blob, wall / nginx", pairs, 1.25)]

    def version(self) -> list[Row]:
        pairs = paired("--version", 3 * self.pairs, lambda: self._shell.run(VERSION), lambda: self._shell.run(PYTHON))
        return [table.cpu("mirror --version, CPU / python -c pass", pairs, 0.12)]

    def scale(self) -> list[Row]:
        """Measure whether the cost of a list is linear in its length."""
        return scale.measure(self.folder)

    def _pull(self, command: str) -> Cost:
        with self._space() as folder:
            return self._shell.run(command, HOST=self.host, FRESH=folder)

    def _push(self, command: str) -> Cost:
        """Push to a new, empty registry."""
        layout = self.layout
        with self._space() as folder, docker_registry(folder) as host:
            return self._shell.run(command, HOST=host, LAYOUT=layout)

    def _read(self, command: str) -> Cost:
        return self._shell.run(command, HOST=self.host, LAYOUT=self.layout)

    def _write(self, command: str) -> Cost:
        archive, layout = self.archive, self.layout
        with self._space() as folder:
            return self._shell.run(command, LAYOUT=layout, ARCHIVE=archive, FRESH=folder)

    @contextmanager
    def _space(self) -> Iterator[Path]:
        folder = self._fresh()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, module: str, *arguments: str) -> None:
        say(f"publishing {' '.join(arguments)}")
        subprocess.run([sys.executable, "-m", module, *arguments], check=True, stdout=subprocess.DEVNULL)


CASES = {
    "pull": Case((PULL, SKOPEO_PULL), Bench.pull),
    "memory": Case((f"{LARGE} -j 4", f"{LARGE} -j 16", f"{PULL} -j 4", f"{PULL} -j 16"), Bench.memory),
    "slow": Case((SLOW, SKOPEO_SLOW, SLOW_ALONE), Bench.slow),
    "verify": Case((VERIFY, SHA256SUM, SHA256SUMS, OPENSSL), Bench.verify),
    "limit": Case((LIMIT,), Bench.limit),
    "layers": Case((LAYERS, GUNZIP), Bench.layers),
    "structure": Case((STRUCTURE,), Bench.structure),
    "push": Case((PUSH, SKOPEO_PUSH), Bench.push),
    "again": Case((PULL_AGAIN, VERIFY), Bench.again),
    "archives": Case((EXPORT, TAR, TAR_SYNC, IMPORT, UNTAR, UNTAR_SYNC), Bench.archives),
    "serve": Case((SERVE, NGINX), Bench.serve),
    "scale": Case(tuple(scale.STEPS.values()), Bench.scale),
    "version": Case((VERSION, PYTHON), Bench.version),
}
