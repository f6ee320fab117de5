"""Run other projects' programs as processes: Debian's docker-registry, skopeo, umoci and nginx."""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import IO, Any, NoReturn

import pytest

from tests.support import inprocess
from tests.support.images import Image, Remote

_LIMIT = 120  # seconds until a program counts as hung
_REQUEST = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.1" (\d{3})')

Json = dict[str, Any]


def needed(program: str) -> str:
    """Return the path of a peer; if it is not installed, skip the test, or fail if peers are required."""
    return shutil.which(program) or lacking(f"{program} is not installed")


def lacking(why: str) -> NoReturn:
    """Skip the test because something outside of this repository is missing, or fail if peers are required."""
    if os.environ.get("TEST_PEERS") == "required":
        pytest.fail(why, pytrace=False)
    pytest.skip(why)


@dataclass(frozen=True)
class Result:
    """The exit code and the output of a program; `raw` is its stdout in bytes."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Json:
        document: Json = json.loads(self.raw)
        return document


@dataclass(frozen=True)
class Program:
    """A command that runs in its home directory, with a minimal environment."""

    command: tuple[str, ...]
    folder: Path

    def __call__(self, *args: object, code: int = 0, env: Mapping[str, str] | None = None, stdin: str = "") -> Result:
        """Run the command, and check that it exits with `code`."""
        result = self._run([str(arg) for arg in args], {**self._environment(), **(env or {})}, stdin.encode())
        assert result.code == code, f"{self.command[0]} {args}: {result.code}\n{result.out}\n{result.err}"
        assert "Traceback" not in result.err, result.err
        return result

    def _run(self, args: list[str], env: dict[str, str], stdin: bytes) -> Result:
        done = subprocess.run(
            [*self.command, *args],
            input=stdin,
            capture_output=True,
            cwd=self.folder,
            env=env,
            timeout=_LIMIT,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    def _environment(self) -> dict[str, str]:
        path = os.environ.get("PATH", os.defpath)
        return {"PATH": path, "HOME": str(self.folder), "XDG_RUNTIME_DIR": str(self.folder), "LANG": "C.UTF-8"}


class InProcessMirror(Program):
    """The command under test, run in this process."""

    def _run(self, args: list[str], env: dict[str, str], stdin: bytes) -> Result:
        code, out, err = inprocess.run(args, cwd=self.folder, env=env, stdin=stdin)
        return Result(code, out, err.decode())


class Skopeo(Program):
    """skopeo, which does not verify TLS of registries on loopback."""

    def copy(self, source: str, target: str, *flags: str, platform: str = "") -> None:
        """Copy an image; of an index, copy the image for `platform`, or all images with the flag `--all`."""
        override = zip(("os", "arch", "variant"), platform.split("/") if platform else (), strict=False)
        general = ["--insecure-policy", *(f"--override-{name}={value}" for name, value in override)]
        self(*general, "copy", "--src-tls-verify=false", "--dest-tls-verify=false", *flags, source, target)

    def raw(self, image: str) -> bytes:
        """Return the manifest that a name refers to, byte for byte."""
        return self("inspect", "--tls-verify=false", "--raw", image).raw


# docker-registry


@dataclass(frozen=True)
class Request:
    """A line of the access log."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class DockerRegistry:
    """A running docker-registry that keeps its content in `storage`."""

    host: str
    storage: Path
    log: Path = field(repr=False)

    def publish(self, image: Image, repo: str, tag: str) -> str:
        """Upload an image without code under test, and return its name."""
        remote = Remote(self.host)
        try:
            image.publish(remote, repo, tag)
        finally:
            remote.close()
        return f"{self.host}/{repo}:{tag}"

    def requests(self, start: int = 0) -> list[Request]:
        """Return the answered requests, without the first `start`."""
        found = _REQUEST.findall(self.log.read_text())
        return [Request(method, path, int(status)) for method, path, status in found[start:]]

    def tags(self, repo: str) -> list[str]:
        folder = self.storage / "docker/registry/v2/repositories" / repo / "_manifests/tags"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def contents(self, repo: str) -> dict[str, bytes]:
        """Return the blobs of a repository by their digests."""
        links = self.storage.glob(f"docker/registry/v2/repositories/{repo}/_layers/*/*/link")
        return {digest: self.blob(digest).read_bytes() for digest in (link.read_text() for link in links)}

    def blob(self, digest: str) -> Path:
        """Return the path of the file that holds a blob or a manifest."""
        algorithm, hexadecimal = digest.split(":")
        return self.storage / "docker/registry/v2/blobs" / algorithm / hexadecimal[:2] / hexadecimal / "data"


@contextmanager
def docker_registry(folder: Path, storage: Path | None = None, **settings: Json) -> Iterator[DockerRegistry]:
    """Run docker-registry on a free port of loopback; `settings` are sections of its configuration.

    The access log goes to a file, and has a request before its response is sent. The port is in the log on stderr,
    which is read to its end, so that the registry never blocks on a full pipe.
    """
    program = needed("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    storage = storage or folder / "storage"
    configuration, log = folder / "config.json", folder / "access.log"
    configuration.write_text(json.dumps(_configuration(storage, settings)))  # JSON is valid YAML
    with (
        log.open("wb") as access,
        subprocess.Popen(
            [program, "serve", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=access,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        ) as process,
    ):
        assert process.stderr
        addresses: Queue[str] = Queue()
        reader = threading.Thread(target=_read_log, args=(process.stderr, addresses))
        reader.start()
        try:
            host = addresses.get(timeout=_LIMIT)
            assert host, "docker-registry did not start"
            yield DockerRegistry(host, storage, log)
        finally:
            process.terminate()
            reader.join()


def _configuration(storage: Path, settings: Json) -> Json:
    return {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        **settings,
        "http": {"addr": "127.0.0.1:0", "secret": "none", **settings.get("http", {})},
    }


def _read_log(lines: IO[str], addresses: "Queue[str]") -> None:
    for line in lines:
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
            addresses.put(found[1])
    addresses.put("")  # the registry has ended: stop waiting for its address


# nginx


@dataclass(frozen=True)
class Nginx:
    """A running nginx that forwards requests, and writes them to `log`."""

    host: str
    log: Path = field(repr=False)

    def requests(self) -> list[Request]:
        """Return the requests that have been answered so far."""
        return [Request(method, path, int(status)) for method, path, status in _REQUEST.findall(self.log.read_text())]


@contextmanager
def nginx(folder: Path, upstream: str, settings: str = "") -> Iterator[Nginx]:
    """Run nginx in front of the server `upstream`; `settings` are lines of its `server` section.

    The port is chosen here, because nginx does not report a port that it chose itself.
    """
    program = needed("nginx")
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        host = f"127.0.0.1:{free.getsockname()[1]}"
    configuration, log = folder / "nginx.conf", folder / "access.log"
    configuration.write_text(_NGINX.format(folder=folder, host=host, upstream=upstream, settings=settings))
    with subprocess.Popen([program, "-c", str(configuration), "-p", str(folder)], stdin=subprocess.DEVNULL) as process:
        try:
            _wait_for(host, process)
            yield Nginx(host, log)
        finally:
            process.terminate()


_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen {host};
        location / {{ proxy_pass http://{upstream}; proxy_set_header Host $http_host; }}
        {settings}
    }}
}}
"""


def _wait_for(host: str, process: "subprocess.Popen[bytes]") -> None:
    name, _, port = host.partition(":")
    for _ in range(_LIMIT * 100):
        assert process.poll() is None, "nginx did not start"
        try:
            socket.create_connection((name, int(port))).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("nginx does not listen")
