"""mirror serve"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

import click

from mirror.cli import console, options
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import ACCESS_LOG, log_to_stderr
from mirror.report.text import to_text
from mirror.serve import ServeOptions, serve_layouts

_HELP = """Serve layouts in place as a read-only registry: for docker, podman, containerd and skopeo.

\b
  mirror serve                                 ./layout, at 127.0.0.1:5000
  mirror serve /media/a /media/b               two layouts as one
  mirror serve ./layout --listen 127.0.0.1:0   any free port, on stdout
  mirror serve ./layout --listen 0.0.0.0:5000 --cert tls.crt --key tls.key

docker.io/library/redis:4.0 is served as library/redis:4.0 and under its full name; containerd's ?ns= selects the
registry. Nothing is written, so read-only media work. A blob is hashed before its first byte is served, again if its
file changes, and again as it is sent; a corrupt blob is never served. index.json is read again when it changes.

/healthz says whether the layouts can be read, and /metrics counts requests, bytes, hashed blobs and refusals, for
Prometheus.

As soon as the server listens, stdout gets one line, HOST:PORT; stderr gets a line for each request. SIGTERM or Ctrl-C
stops the server with exit code 0 when transfers in progress are done, after at most 5 seconds; a second signal stops it
at once with exit code 130.
"""

_DISK_TIMEOUT = 5.0  # seconds for threads that are blocked on a disk, after those for the requests in progress


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("layouts", metavar="[DIR]...", nargs=-1, type=options.Place())
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=ServeOptions().listen,
    show_default=True,
    help="Address to listen on; port 0 picks a free port.",
)
@click.option("--cert", type=options.Place(), metavar="FILE", help="TLS certificate (PEM).")
@click.option("--key", type=options.Place(), metavar="FILE", help="Private key (PEM), if not in the --cert file.")
@click.option(
    "--htpasswd",
    type=options.Place(),
    metavar="FILE",
    help="Require a user name and password from FILE, as written by htpasswd -B.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only results, warnings and errors, no line for each request.")
@options.with_json
def command(
    layouts: tuple[Path, ...], listen: str, cert: Path | None, key: Path | None, htpasswd: Path | None, quiet: bool
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS reports "unlimited" and allows less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each connection and each open blob is a file
    serving = ServeOptions(listen=listen, certificate=cert, key=key, htpasswd=htpasswd)
    if not quiet:
        logging.getLogger(ACCESS_LOG).setLevel(logging.INFO)
    with log_to_stderr():
        asyncio.run(_serve(layouts or (options.DEFAULT_LAYOUT,), serving, quiet))


async def _serve(layouts: tuple[Path, ...], serving: ServeOptions, quiet: bool) -> None:
    stop = _stop_on_signals(serving.shutdown_timeout)
    async with serve_layouts(layouts, serving) as server:
        result = to_text(server)
        if not quiet:
            console.status(result.summary)
        options.show_result(server, result)
        await stop.wait()


def _stop_on_signals(timeout: float) -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; a second one ends the process."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        loop.call_later(timeout + _DISK_TIMEOUT, os._exit, 130)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    return stop
