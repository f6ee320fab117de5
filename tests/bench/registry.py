"""Debian's docker-registry on a free port of this machine, over HTTP or TLS."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 30  # seconds
_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    " -addext subjectAltName=IP:127.0.0.1 -addext keyUsage=critical,digitalSignature,keyCertSign"
)


def make_certificate(folder: Path) -> None:
    """Write `certs/ca.crt`, a certificate for 127.0.0.1 that is its own authority, and `key.pem`, with openssl."""
    (folder / "certs").mkdir(parents=True)
    command = [*_CERTIFICATE.split(), "-keyout", str(folder / "key.pem"), "-out", str(folder / "certs/ca.crt")]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def docker_registry(root: Path, tls: Path | None = None) -> Iterator[str]:
    """Serve from the directory `root`, and yield HOST:PORT. `tls` is the directory of `make_certificate`."""
    root.mkdir(parents=True, exist_ok=True)
    host = f"127.0.0.1:{free_port()}"
    settings, log = root / f"{host}.json", root / f"{host}.log"
    settings.write_text(json.dumps(_settings(root / "storage", host, tls)))  # JSON is valid YAML
    with (
        log.open("wb") as output,  # it logs every HEAD that finds nothing as an error
        subprocess.Popen(["docker-registry", "serve", settings], stdout=output, stderr=output) as process,
    ):
        try:
            wait_for(host, process, log)
            yield host
        finally:
            process.terminate()


def _settings(storage: Path, host: str, tls: Path | None) -> dict[str, object]:
    files = {"certificate": str(tls / "certs/ca.crt"), "key": str(tls / "key.pem")} if tls else {}
    return {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"cache": {"blobdescriptor": "inmemory"}, "filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": host, "secret": "none", **({"tls": files} if tls else {})},
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def wait_for(host: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Connect until the server accepts."""
    ending = time.monotonic() + _PATIENCE
    name, _, port = host.partition(":")
    while process.poll() is None and time.monotonic() < ending:
        try:
            socket.create_connection((name, int(port)), timeout=_PATIENCE).close()
        except ConnectionError:
            time.sleep(0.02)
        else:
            return
    raise SystemExit(f"{host} does not answer: {log.read_text()}")
