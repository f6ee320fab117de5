"""Run `mirror serve`, and nginx for the same files, each on a free port of this machine."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path

from tests.bench.measure import SCRIPTS
from tests.bench.registry import free_port, wait_for

_NGINX = """daemon off; user {user}; worker_processes auto; pid {folder}/pid;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen {host}; root {root}; }}
}}
"""


@contextmanager
def mirror_serve(layout: Path, port: int = 0) -> Iterator[str]:
    """Serve a layout without a log, like nginx, and yield HOST:PORT."""
    command = [str(SCRIPTS / "mirror"), "serve", str(layout), "--listen", f"127.0.0.1:{port}", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[str]:
    """Serve the files below `root`, and yield HOST:PORT. Its own files are in `folder`."""
    folder.mkdir()
    host = f"127.0.0.1:{free_port()}"
    settings = folder / "nginx.conf"
    settings.write_text(_NGINX.format(user=getuser(), folder=folder, host=host, root=root))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["nginx", "-e", folder / "errors", "-c", settings], stdout=log, stderr=log) as process,
    ):
        try:
            wait_for(host, process, folder / "log")
            yield host
        finally:
            process.terminate()
