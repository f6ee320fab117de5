"""Debian's docker-registry on a free port of this machine."""

import http.client
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SETTINGS = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "{host}"}}
"""
_PATIENCE = 30  # seconds


@contextmanager
def docker_registry(root: Path) -> Iterator[str]:
    """Serve from the directory `root`, and yield HOST:PORT."""
    root.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{free_port()}"
    settings = root / "config.yml"
    settings.write_text(_SETTINGS.format(root=root / "storage", host=host))
    with (
        (root / "log").open("wb") as log,  # it logs every HEAD that finds nothing as an error
        subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(host, process, root)
            yield host
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(host: str, process: "subprocess.Popen[bytes]", root: Path) -> None:
    """Send requests until the server responds."""
    ending = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < ending:
        connection = http.client.HTTPConnection(host, timeout=_PATIENCE)
        try:
            connection.request("GET", "/v2/")
            connection.getresponse()
        except ConnectionError:
            time.sleep(0.02)
        else:
            return
        finally:
            connection.close()
    raise SystemExit(f"{host} does not answer: {(root / 'log').read_text()}")
