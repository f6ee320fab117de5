"""`python -m tests.support.registry`: run the registry until SIGTERM or SIGINT."""

import argparse
import asyncio
import signal
from pathlib import Path

from tests.support.registry import Basic, Bearer, EmbeddedRegistry
from tests.support.registry.auth import Auth


def main() -> None:
    options = _parser().parse_args()
    users = dict(user.split(":", 1) for user in options.user)
    auth: Auth | None = Basic(users) if users else None
    if options.bearer:
        auth = Bearer(users, anonymous_pull=not users)
    registry = EmbeddedRegistry(options.root, auth=auth, read_only=options.read_only, port=options.port)
    asyncio.run(_serve(registry))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.registry", description="A small OCI registry on 127.0.0.1."
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="keep content here instead of in memory")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD")
    parser.add_argument("--bearer", action="store_true", help="tokens instead of Basic; without --user, pull only")
    parser.add_argument("--read-only", action="store_true")
    return parser


async def _serve(registry: EmbeddedRegistry) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with registry.started():
        print(f"listening on {registry.host}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    main()
