"""The flags of the commands that talk to registries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mirror import __version__
from mirror.config import Settings
from mirror.registry import Options

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_JOBS = 4
DEFAULT_RETRIES = 4


def with_registry(command: F) -> F:
    """How to talk to a registry."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Say what is tried again, and why."),
        click.option(
            "--insecure",
            is_flag=True,
            envvar="MIRROR_INSECURE",
            help="Do not verify TLS certificates. Digests are verified all the same.",
        ),
        click.option(
            "--plain-http",
            is_flag=True,
            envvar="MIRROR_PLAIN_HTTP",
            help="Use HTTP without TLS. Registries on loopback need no flag.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(0, 100),
            metavar="N",
            default=DEFAULT_RETRIES,
            show_default=True,
            envvar="MIRROR_RETRIES",
            help="How often a request is tried again after a transient failure.",
        ),
    ):
        command = option(command)
    return command


def with_jobs(command: F) -> F:
    return click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 64),
        metavar="N",
        default=DEFAULT_JOBS,
        show_default=True,
        envvar="MIRROR_JOBS",
        help="How many blobs move at once.",
    )(command)


def registry_options(plain_http: bool, insecure: bool, jobs: int = DEFAULT_JOBS) -> Options:
    """The `Options` for registries, from flags and settings."""
    settings = click.get_current_context().find_object(Settings) or Settings()
    everywhere = frozenset({"*"})
    return Options(
        plain_http=everywhere if plain_http else settings.plain_http,
        insecure=everywhere if insecure else settings.insecure,
        jobs=jobs,
        agent=f"oci-mirror/{__version__}",
    )
