"""Run nginx and squid as processes on free ports of loopback."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.peers.programs import needed

_LIMIT = 30  # seconds for a server to start or to stop


@contextmanager
def nginx(folder: Path, server: str, **files: str) -> Iterator[str]:
    """Run nginx with one `server` block, in which PORT and FOLDER are replaced, and yield its address.

    The access log, `FOLDER/access.log`, has a line `METHOD PATH STATUS CACHE` for each request.
    """
    program = needed("nginx")
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    for name, text in files.items():
        (folder / name).write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    log = "log_format short '$request_method $uri $status $upstream_cache_status';"
    block = server.replace("PORT", str(port)).replace("FOLDER", str(folder))
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        "events {}\n"
        f"http {{ {temporary} {log} access_log {folder}/access.log short;\n{block}\n}}\n"
    )
    with _running([program, "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(configuration)], port):
        yield f"127.0.0.1:{port}"


@contextmanager
def squid(hosts: dict[str, str], rules: str = "http_access allow all") -> Iterator[str]:
    """Run squid as a forward proxy that resolves `hosts`, addresses by name, and yield its own address.

    squid drops root privileges, so its files must be readable by all users.
    """
    program = needed("squid")
    port = _free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        lines = [f"{address} {host}" for host, address in hosts.items()]
        (folder / "hosts").write_text("\n".join([*lines, ""]))
        configuration = folder / "squid.conf"
        configuration.write_text(
            f"http_port 127.0.0.1:{port}\n"
            f"hosts_file {folder}/hosts\n"
            "pid_filename none\ncache deny all\naccess_log none\ncache_log /dev/null\nshutdown_lifetime 0 seconds\n"
            f"dns_nameservers 127.0.0.1\n{rules}\n"
        )
        with _running([program, "-N", "-f", str(configuration)], port):
            yield f"127.0.0.1:{port}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            _wait_for(process, port)
            yield
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()[0]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{process.args!r} does not listen on {port}")
