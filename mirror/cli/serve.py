"""mirror serve"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from functools import partial
from pathlib import Path

import click

from mirror.cli import console, options
from mirror.serve import ServeOptions, serve_layouts

_HELP = """Serve layouts in place as a read-only registry: for docker, podman, containerd and skopeo.

\b
  mirror serve ./layout                        at 127.0.0.1:5000
  mirror serve /media/a /media/b               two layouts as one
  mirror serve ./layout --listen 127.0.0.1:0   any free port, on stdout
  mirror serve ./layout --listen 0.0.0.0:5000 --cert tls.crt --key tls.key

docker.io/library/redis:4.0 is served as library/redis:4.0, and under its full name; containerd's ?ns= chooses by
registry. Nothing is written, so read-only media work. A blob is hashed before its first byte is served, and again when
its file has changed; one that is corrupt is never served. index.json is read again when it changes.

stdout gets one line as soon as the server listens, HOST:PORT; stderr gets a line for each request. SIGTERM or Ctrl-C
ends it, exit 0, when running transfers are done, after 5 seconds at most; a second one ends it at once, exit 130.
"""

_PATIENCE = 5.0  # seconds that a disk gets to let go of the threads that read it, after those that transfers get


@click.command(help=_HELP)
@click.argument("layouts", metavar="DIR...", nargs=-1, required=True, type=options.Place())
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=ServeOptions().listen,
    show_default=True,
    help="Address to listen on; port 0 takes a free one.",
)
@click.option("--cert", type=options.Place(), metavar="FILE", help="Certificate for TLS, in PEM.")
@click.option("--key", type=options.Place(), metavar="FILE", help="Its key, where it is in another file.")
@click.option(
    "--htpasswd",
    type=options.Place(),
    metavar="FILE",
    help="Ask for a user and a password of this file, written by htpasswd -B.",
)
@click.option("-q", "--quiet", is_flag=True, help="Nothing but results and errors: no line for each request.")
@options.with_json
def command(
    layouts: tuple[Path, ...],
    listen: str,
    cert: Path | None,
    key: Path | None,
    htpasswd: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    _allow_many_files()
    serving = ServeOptions(listen=listen, certificate=cert, key=key, htpasswd=htpasswd)
    asyncio.run(_serve(layouts, serving, quiet, as_json))


async def _serve(layouts: tuple[Path, ...], serving: ServeOptions, quiet: bool, as_json: bool) -> None:
    stop = _signals(serving.grace)
    say, log = partial(_say, quiet=False), partial(console.status, quiet=quiet)
    async with serve_layouts(layouts, serving, say=say, log=log) as found:
        for note in found.notes:
            say(note)
        console.status(found.summary(), quiet=quiet)
        console.result_json(found.to_json()) if as_json else console.result(found.lines())
        await stop.wait()


def _say(text: str, *, quiet: bool) -> None:
    console.warning(text, quiet=quiet)


def _signals(grace: float) -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()
        loop.call_later(grace + _PATIENCE, os._exit, 130)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    return stop


def _allow_many_files() -> None:
    """As many as the system lets us have: each connection is one, and each blob on its way another."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS calls it unlimited and allows less
        return
