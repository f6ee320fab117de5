"""Run the `mirror` command as a user does, and read its layouts without its own code."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.registry.transport import route
from tests.support import crash, hang, inprocess
from tests.support.fork import run_in_fork

_CODES = {0, 1, 2, 3, 4, 130}
_SMALLEST = route.SMALLEST  # unless a test changes it
_LIMIT = 60  # seconds until a command counts as hanging
_AT_START = re.compile(r"PYTHON|LANG$|LC_|SSL_CERT_DIR$|TZ$")  # variables that count when a process starts
_FRIENDLY = {"\n", "\t"}
# aiohttp reads all CAs of the system twice when it is imported, which takes a tenth of a second.
_FEW_CAS = {"SSL_CERT_FILE": str(Path(__file__).parents[1] / "data/unused-ca.pem")}

Json = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """The result of a command. `raw` is stdout as bytes."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Json:
        """Stdout, which holds one JSON object and nothing else."""
        document: Json = json.loads(self.raw)
        return document


class Mirror:
    """Runs `mirror` in a directory, with its own home directory and a clean environment.

    A call runs it in this process, which takes a tenth of the time, or in a new one with `pytest --processes`.
    """

    in_process = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        home = folder / "home"
        home.mkdir(exist_ok=True)
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "DOCKER_CONFIG": str(home / ".docker"),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": inprocess.WARNINGS,
        }

    def __call__(
        self,
        *args: object,
        code: int = 0,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        bound: bool = False,
        plan: str = "",
    ) -> Result:
        """Run it to its end and check its exit code.

        Args:
            code: the expected exit code.
            stdin: what it reads.
            env: variables to add to its environment.
            bound: whether file modes apply even to root.
            plan: the failures to simulate, see `tests.support.crash`.
        """
        command = self.command(*args)
        if plan or bound:
            result = self.fail(plan or "modes", *args, stdin=stdin, env=env)
        elif self.in_process and _suits_this_process(env or {}):
            result = self._call(args, stdin, {**self.env, **(env or {})})
        else:
            result = self.run(command, stdin, env)
        assert result.code == code, f"{' '.join(command)}\n{result.code}: {result.out}\n{result.err}"
        if code in _CODES:
            check_manners(result)
        return result

    def attempt(self, *args: object, stdin: str = "") -> Result:
        """Run it in this process, without a check of its exit code."""
        return self._call(args, stdin, self.env)

    def _call(self, args: Iterable[object], stdin: str, env: Mapping[str, str]) -> Result:
        code, out, err = inprocess.run([str(arg) for arg in args], cwd=self.folder, env=env, stdin=stdin.encode())
        return Result(code, out, err.decode())

    def fail(self, plan: str, *args: object, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """Run it with simulated failures, without a check of its exit code."""
        if not self.in_process:
            return self.run([sys.executable, "-m", "tests.support.crash", plan, *map(str, args)], stdin, env)

        def planned() -> Result:
            os.chdir(self.folder)
            crash.prepare(plan)
            return self._call(args, stdin, {**self.env, **(env or {})})

        ended = run_in_fork(planned)
        assert not ended.error, ended.error
        return ended.value or Result(-ended.signal, b"", "")

    def run(self, command: list[str], stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """Run any command line as `mirror` is run, without a check of its exit code."""
        done = subprocess.run(
            command,
            input=stdin.encode(),
            capture_output=True,
            cwd=self.folder,
            env={**_FEW_CAS, **self.env, **(env or {})},
            timeout=_LIMIT,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    def start(self, *args: object, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start it without waiting for its end."""
        return subprocess.Popen(
            self.command(*args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env={**_FEW_CAS, **self.env, **(env or {})},
        )

    def command(self, *args: object) -> list[str]:
        """Return the command line of a new process, which uses the exchange of this test."""
        if route.SMALLEST == _SMALLEST:
            return [sys.executable, "-m", "mirror", *map(str, args)]
        settings = json.dumps({"mirror.registry.transport.route.SMALLEST": route.SMALLEST})
        return [sys.executable, "-P", hang.__file__, "", "", settings, *map(str, args)]


def _suits_this_process(env: Mapping[str, str]) -> bool:
    """Exclude variables that Python reads when it starts, and threads, which cannot handle signals."""
    return threading.current_thread() is threading.main_thread() and not any(map(_AT_START.match, env))


def check_manners(result: Result) -> None:
    """Check what every command promises: no traceback, no control characters, a message for every failure."""
    assert "Traceback" not in result.err, result.err
    assert "Warning:" not in result.err, result.err
    assert not {char for char in result.err if not char.isprintable()} - _FRIENDLY, repr(result.err)
    assert result.code == 0 or result.err.strip(), "a failure without a message"


# Layouts


def tree(folder: Path) -> dict[str, bytes | str]:
    """Return everything below a layout except mirror's own files: the bytes of files, the type of other entries."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in (".mirror", ".mirror/tmp", ".mirror/partial", ".mirror/lock", ".mirror/index.lock"):
            continue
        mode = path.lstat().st_mode
        found[name] = path.read_bytes() if stat.S_ISREG(mode) else oct(stat.S_IFMT(mode))
    return found


def blob_path(layout: Path, digest: str) -> Path:
    return layout.joinpath("blobs", *digest.split(":"))


def blobs(layout: Path) -> set[str]:
    """Return the digests of all stored blobs, which may be wrong."""
    return {f"{path.parent.name}:{path.name}" for path in layout.glob("blobs/*/*")}


def entries(layout: Path) -> list[Json]:
    """Return the entries of `index.json`."""
    found: list[Json] = json.loads((layout / "index.json").read_bytes())["manifests"]
    return found


def names(layout: Path) -> list[str]:
    """Return the full names of the images."""
    return [entry["annotations"]["io.containerd.image.name"] for entry in entries(layout)]


def wrong_blobs(layout: Path) -> list[str]:
    """Return the names of stored blobs that do not match their digest."""
    return [digest for digest in sorted(blobs(layout)) if _digest_at(layout, digest) != digest]


def _digest_at(layout: Path, digest: str) -> str | None:
    path = blob_path(layout, digest)
    if not stat.S_ISREG(path.lstat().st_mode):
        return None
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, path.read_bytes()).hexdigest()}"


def lacking(layout: Path) -> list[str]:
    """Return the digests that the images of a layout reference and that it lacks."""
    if not (layout / "index.json").exists():
        return []
    return [node["digest"] for entry in entries(layout) for node in _walk(layout, entry) if not _held(layout, node)]


def _held(layout: Path, node: Json) -> bool:
    path = blob_path(layout, node["digest"])
    return path.is_file() and path.stat().st_size == node["size"]


def _walk(layout: Path, node: Json) -> Iterator[Json]:
    yield node
    if re.search(r"(index|manifest)\b", node["mediaType"]) and _held(layout, node):
        document = json.loads(blob_path(layout, node["digest"]).read_bytes())
        below = [*document.get("manifests", ()), *document.get("layers", ())]
        below += [document["config"]] if "config" in document else []
        for child in below:
            yield from _walk(layout, child)


def assert_whole(layout: Path) -> None:
    """Check that all blobs match their digests, all named images are complete, and no temporary files remain."""
    assert wrong_blobs(layout) == []
    assert lacking(layout) == []
    assert leftovers(layout) == []


def leftovers(layout: Path) -> list[str]:
    return [path.name for path in layout.glob(".mirror/tmp/*")]


def partials(layout: Path) -> dict[str, bytes]:
    """Return the partial files by the digests of their blobs; a running command may complete some meanwhile."""
    found = dict[str, bytes]()
    for path in sorted(layout.glob(".mirror/partial/*")):
        with suppress(FileNotFoundError):
            found[path.name.replace("-", ":", 1)] = path.read_bytes()
    return found
