"""The options of commands that talk to registries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mirror.cli import options
from mirror.cli.options import amount, with_each
from mirror.config.settings import Settings
from mirror.oci.reference import Reference
from mirror.stores.location import Location, Transport
from mirror.version import VERSION

if TYPE_CHECKING:
    from mirror.registry import Credentials, RegistryOptions

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_JOBS = 4
DEFAULT_RETRIES = 4
DEFAULT_TIMEOUT = 60.0

_PASSWORD_CAP = 64 * 1024  # bytes; tokens of some clouds have four thousand


def _kept(ctx: click.Context, option: click.Parameter, value: object) -> None:
    """Keep a value for this module, so that it is not a parameter of every command."""
    ctx.meta[f"mirror.{option.name}"] = value


def _rate(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    """Parse bytes per second."""
    rate = amount(value or "")
    if value is not None and rate < 1:
        raise click.BadParameter(
            f"not a rate: {value!r}; rates look like 500k or 10M, in bytes per second.", ctx, option
        )
    _kept(ctx, option, rate or None)


def with_authfile(command: F) -> F:
    return click.option(
        "--authfile",
        type=options.Place(),
        metavar="FILE",
        envvar="MIRROR_AUTHFILE",
        expose_value=False,
        callback=_kept,
        help="Credentials file to read before podman's auth.json and docker's config.json.",
    )(command)


def authfile() -> Path | None:
    """Return the credentials file of the command line, or of the settings."""
    path: Path | None = click.get_current_context().meta["mirror.authfile"]
    return path.expanduser() if path else None


def _chunk(ctx: click.Context, option: click.Parameter, value: str | None) -> None:
    """Parse the bytes of one request body."""
    size = amount(value or "")
    if value is not None and size < 1:
        raise click.BadParameter(f"not a size: {value!r}; sizes look like 500k or 8M.", ctx, option)
    _kept(ctx, option, size or None)


def with_registry(command: F) -> F:
    """Options for talking to a registry."""
    return _with_patience(_with_tls(_with_credentials(command)))


def _with_credentials(command: F) -> F:
    """Options for credentials."""
    return with_each(
        command,
        click.option(
            "--password-stdin",
            is_flag=True,
            expose_value=False,
            callback=_kept,
            help="With --username: read the password from stdin.",
        ),
        click.option(
            "-u",
            "--username",
            metavar="NAME",
            expose_value=False,
            callback=_kept,
            help="User name for the registry; the password is asked for. Overrides all credentials files.",
        ),
        with_authfile,
    )


def _with_tls(command: F) -> F:
    """Options for TLS, and how much to log."""
    return with_each(
        command,
        click.option("-v", "--verbose", is_flag=True, help="Show requests, retries and their reasons."),
        click.option(
            "--insecure",
            is_flag=True,
            envvar="MIRROR_INSECURE",
            help="Do not verify the registry's TLS certificate. Digests are still verified.",
        ),
        click.option(
            "--ca-file",
            metavar="FILE",
            envvar="MIRROR_CA_FILE",
            expose_value=False,
            callback=_kept,
            help="Additional CA certificates for all registries, in PEM format.",
        ),
        click.option(
            "--plain-http",
            is_flag=True,
            envvar="MIRROR_PLAIN_HTTP",
            help="Use HTTP without TLS. Not needed for registries on loopback.",
        ),
    )


def _with_patience(command: F) -> F:
    """Options for speed, timeouts and retries."""
    return with_each(
        command,
        click.option(
            "--limit-rate",
            metavar="RATE",
            envvar="MIRROR_LIMIT_RATE",
            expose_value=False,
            callback=_rate,
            help="Maximum bytes per second, for all blobs together: 500k, 10M.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(0.1, 3600),
            metavar="SECONDS",
            default=DEFAULT_TIMEOUT,
            show_default=True,
            envvar="MIRROR_TIMEOUT",
            expose_value=False,
            callback=_kept,
            help="How long a registry may be silent before the request is retried.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(0, 100),
            metavar="N",
            default=DEFAULT_RETRIES,
            show_default=True,
            envvar="MIRROR_RETRIES",
            help="How often a request is retried after a transient failure.",
        ),
    )


def with_connections(command: F) -> F:
    return click.option(
        "--connections-per-blob",
        type=click.IntRange(1, 16),
        metavar="N",
        envvar="MIRROR_CONNECTIONS_PER_BLOB",
        expose_value=False,
        callback=_kept,
        help="How many connections fetch one large blob.  [default: found automatically]",
    )(command)


def with_chunks(command: F) -> F:
    return click.option(
        "--chunk-size",
        metavar="SIZE",
        envvar="MIRROR_CHUNK_SIZE",
        expose_value=False,
        callback=_chunk,
        help="Maximum bytes of a blob in one request: 500k, 8M.  [default: all, or what proxies accept]",
    )(command)


def with_jobs(command: F) -> F:
    return click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 64),
        metavar="N",
        default=DEFAULT_JOBS,
        show_default=True,
        envvar="MIRROR_JOBS",
        help="How many blobs to transfer at once.",
    )(command)


def registry_options(
    plain_http: bool, insecure: bool, jobs: int = DEFAULT_JOBS, registries: Iterable[str] = ()
) -> RegistryOptions:
    """Return the options for registries, from the command line and settings; --username is for one of `registries`."""
    from mirror.registry import RegistryOptions  # loads the HTTP client, which `verify` rarely needs

    ctx = click.get_current_context()
    settings = ctx.find_object(Settings) or Settings()
    everywhere = frozenset({"*"})
    return RegistryOptions(
        plain_http=everywhere if plain_http else settings.plain_http,
        insecure=everywhere if insecure else settings.insecure,
        ca_file=ctx.meta["mirror.ca_file"],
        hosts=settings.hosts,
        jobs=jobs,
        connections_per_blob=ctx.meta.get("mirror.connections_per_blob"),
        timeout=ctx.meta["mirror.timeout"],
        chunk_size=ctx.meta.get("mirror.chunk_size"),
        limit_rate=ctx.meta["mirror.limit_rate"],
        authfile=authfile(),
        credentials=_given(ctx, registries),
        user_agent=f"oci-mirror/{VERSION}",
    )


def location_options(plain_http: bool, insecure: bool, what: str) -> RegistryOptions:
    """Return the options for registries of a command about one location, which may be in a registry."""
    location = Location.parse(what)
    remote = location.transport is Transport.REGISTRY
    return registry_options(
        plain_http, insecure, registries=[Reference.parse(location.where).registry] if remote else ()
    )


def image_options(plain_http: bool, insecure: bool, image: str) -> RegistryOptions:
    """The `RegistryOptions` for a command that is about one image, or its repository."""
    return registry_options(plain_http, insecure, registries=[Reference.parse(image).registry])


def _given(ctx: click.Context, registries: Iterable[str]) -> Mapping[str, Credentials]:
    """Return the credentials of the command line, for the one registry of the command.

    Raises:
        click.UsageError: there are several registries.
    """
    if ctx.meta["mirror.username"] is None and not ctx.meta["mirror.password_stdin"]:
        return {}
    names = sorted(set(registries))
    if len(names) > 1:
        raise click.UsageError(f"--username is for one registry, but there are several: {', '.join(names)}.", ctx)
    return {name: credentials() for name in names}


def credentials() -> Credentials:
    """Return user name and password, from --username and --password-stdin or from a prompt on the terminal.

    Raises:
        click.UsageError: there is no password, and no terminal to ask on.
    """
    from mirror.registry import Credentials

    ctx = click.get_current_context()
    user: str | None = ctx.meta["mirror.username"]
    if ctx.meta["mirror.password_stdin"]:
        if user is None:
            raise click.UsageError("--password-stdin needs --username.", ctx)
        return Credentials(user, _password(ctx))
    if not sys.stdin.isatty():
        raise click.UsageError("Not a terminal: pass --username and --password-stdin.", ctx)
    user = user or click.prompt("Username", err=True)
    return Credentials(user, click.prompt(f"Password of {user}", hide_input=True, err=True))


def _password(ctx: click.Context) -> str:
    """Read the password from stdin, without the newline that ends it."""
    try:
        text = sys.stdin.buffer.read(_PASSWORD_CAP + 1).decode()
    except UnicodeDecodeError:
        raise click.UsageError("The password on stdin is not UTF-8.", ctx) from None
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or len(text) > _PASSWORD_CAP or not password.isprintable():
        raise click.UsageError("The password on stdin must be one line, and nothing else.", ctx)
    return password
