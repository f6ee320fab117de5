"""A server in a thread of this process, layouts for it, and a client that sends requests unchanged."""

import asyncio
import hashlib
import http.client
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mirror import ServeOptions, serve_layouts
from mirror.report.layouts import ServerInfo
from tests.support.images import Image, Json, digest_of

IMAGE_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
ANY = ServeOptions(listen="127.0.0.1:0", idle_timeout=30.0, send_timeout=30.0, shutdown_timeout=5.0)


# Layouts


def make_layout(folder: Path, images: Mapping[str, Image]) -> Path:
    """Write a layout with images under their full names, without using any code under test.

    A name without a slash is a bare tag, as skopeo writes it. A name that begins with `@` stands for an entry of
    `index.json` without a name.
    """
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for image in images.values():
        contents = {**image.blobs, **{digest: data for digest, (data, _) in image.manifests.items()}}
        for digest, data in contents.items():
            put(folder, digest, data)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    write_index(folder, images)
    return folder


def write_index(folder: Path, images: Mapping[str, Image]) -> None:
    entries = [{**image.descriptor(), "annotations": _annotations(name)} for name, image in images.items()]
    replace_file(folder / "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


def _annotations(name: str) -> dict[str, str]:
    if name.startswith("@"):
        return {}
    if "/" not in name:
        return {REF_NAME: name}
    return {IMAGE_NAME: name}


def blob_path(folder: Path, digest: str) -> Path:
    return folder.joinpath("blobs", *digest.split(":"))


def put(folder: Path, digest: str, data: bytes) -> None:
    replace_file(blob_path(folder, digest), data)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically: write a new one, then rename it."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    fresh.replace(path)


def wait_for_file_times() -> None:
    """Wait until the server trusts the times of the files that were just written."""
    time.sleep(3.2)


# The server


@dataclass
class Server:
    """A running server, with the messages and the access log that it has written so far."""

    serving: ServerInfo
    messages: list[str] = field(default_factory=list)
    access_log: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.serving.address

    def get(self, path: str, method: str = "GET", **headers: str) -> "Reply":
        """Send a request on a new connection; the path is sent unchanged."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(self.host, timeout=240)) as connection:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in named.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            return Reply(response.status, dict(response.getheaders()), response.read())

    def raw(self, data: bytes, timeout: float = 30) -> bytes:
        """Send bytes, and read until the server closes the connection."""
        with self.connect(timeout) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def connect(self, timeout: float = 30) -> socket.socket:
        name, port = self.host.rsplit(":", 1)
        return socket.create_connection((name, int(port)), timeout)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code in the JSON body that the specification requires."""
        errors: list[Json] = self.json["errors"]
        assert self.headers["Content-Type"] == "application/json"
        return str(errors[0]["code"])

    @property
    def digest(self) -> str:
        return digest_of(self.body)


@contextmanager
def running(*layouts: Path, **options: Any) -> Iterator[Server]:
    """Serve layouts from a separate thread; `options` are fields of `ServeOptions`."""
    ready: Future[tuple[Server, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        done = asyncio.Event()
        messages: list[str] = []
        access_log: list[str] = []
        with collected("mirror.serve", messages), collected("mirror.serve.access", access_log):
            async with serve_layouts(layouts, replace(ANY, **options)) as serving:
                ready.set_result((Server(serving, messages, access_log), asyncio.get_running_loop(), done))
                await done.wait()

    def main() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=main, name="server", daemon=True)
    thread.start()
    server, loop, done = ready.result(30)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(30)
        assert not thread.is_alive(), "the server does not stop"


@contextmanager
def collected(name: str, lines: list[str]) -> Iterator[None]:
    """Collect the messages of a logger and its children; the access log does not propagate to `mirror.serve`."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger(name), Collector(logging.INFO)
    before = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
