"""The options of commands that talk to registries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mirror.cli import files
from mirror.cli.context import kept, kept_option
from mirror.cli.options import Place, amount, with_each
from mirror.config.settings import Settings
from mirror.oci.reference import Reference
from mirror.stores.location import Location, Transport
from mirror.version import VERSION

if TYPE_CHECKING:
    from mirror.registry import Credentials, RegistryOptions
    from mirror.retry import RetryPolicy

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_JOBS = 4
DEFAULT_RETRIES = 4
DEFAULT_TIMEOUT = 60.0
DEFAULT_MAX_WAIT = 300.0

_PASSWORD_CAP = 64 * 1024  # bytes; the tokens of some clouds have 4,000


def authfile_option(help_text: str) -> Callable[[F], F]:
    """Return a decorator that adds --authfile."""
    return kept_option("--authfile", type=Place(), metavar="FILE", envvar="MIRROR_AUTHFILE", help=help_text)


def jobs_option(help_text: str) -> Callable[[F], F]:
    """Return a decorator that adds --jobs."""
    return kept_option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 64),
        metavar="N",
        default=DEFAULT_JOBS,
        show_default=True,
        envvar="MIRROR_JOBS",
        help=help_text,
    )


with_jobs = jobs_option("Number of blobs to transfer at once.")
with_connections = kept_option(
    "--connections-per-blob",
    type=click.IntRange(1, 16),
    metavar="N",
    envvar="MIRROR_CONNECTIONS_PER_BLOB",
    help="Number of connections that fetch one large blob.  [default: found automatically]",
)
with_chunks = kept_option(
    "--chunk-size",
    type=amount("size", "500k or 8M"),
    metavar="SIZE",
    envvar="MIRROR_CHUNK_SIZE",
    help="Maximum bytes of a blob in one request: 500k, 8M.  [default: all, or what proxies accept]",
)
_WITH_USER = (
    kept_option("--password-stdin", is_flag=True, help="With --username: read the password from stdin."),
    kept_option(
        "-u",
        "--username",
        metavar="NAME",
        help="User name for the registry; the password is asked for. Overrides all credentials files.",
    ),
)
_WITH_CONNECTIONS = (
    kept_option(
        "--insecure",
        is_flag=True,
        envvar="MIRROR_INSECURE",
        help="Do not verify the registry's TLS certificate. Digests are still verified.",
    ),
    kept_option(
        "--ca-file",
        metavar="FILE",
        envvar="MIRROR_CA_FILE",
        help="Additional CA certificates for all registries, in PEM format.",
    ),
    kept_option(
        "--plain-http",
        is_flag=True,
        envvar="MIRROR_PLAIN_HTTP",
        help="Use HTTP without TLS. Not needed for registries on loopback.",
    ),
    kept_option(
        "--limit-rate",
        type=amount("rate", "500k or 10M, in bytes per second"),
        metavar="RATE",
        envvar="MIRROR_LIMIT_RATE",
        help="Maximum bytes per second, for all blobs together: 500k, 10M.",
    ),
    kept_option(
        "--timeout",
        type=click.FloatRange(0.1, 3600),
        metavar="SECONDS",
        default=DEFAULT_TIMEOUT,
        show_default=True,
        envvar="MIRROR_TIMEOUT",
        help="Time that a registry may be silent before the request is retried.",
    ),
    kept_option(
        "--max-wait",
        type=click.FloatRange(0, 7 * 24 * 3600),
        metavar="SECONDS",
        default=DEFAULT_MAX_WAIT,
        show_default=True,
        envvar="MIRROR_MAX_WAIT",
        help="Longest pause that a registry may ask for (Retry-After); a longer one is an error at once.",
    ),
    kept_option(
        "--retries",
        type=click.IntRange(0, 100),
        metavar="N",
        default=DEFAULT_RETRIES,
        show_default=True,
        envvar="MIRROR_RETRIES",
        help="Maximum number of retries of a request after transient failures.",
    ),
)


def with_registry(command: F, verbose: str = "Show requests, retries and their reasons.") -> F:
    """Add the options for talking to a registry: credentials, TLS, speed, timeouts and retries."""
    authfile_help = "Credentials file to read before podman's auth.json and docker's config.json."
    return _with_registry(command, authfile_help, verbose)


def with_login(command: F) -> F:
    """As `with_registry`, for a command that writes credentials."""
    authfile_help = "Credentials file to write to; it is created if it does not exist."
    return _with_registry(command, authfile_help, "Show requests, retries and their reasons.")


def _with_registry(command: F, authfile_help: str, verbose_help: str) -> F:
    verbose = kept_option("-v", "--verbose", is_flag=True, help=verbose_help)
    return with_each(command, *_WITH_USER, authfile_option(authfile_help), verbose, *_WITH_CONNECTIONS)


def registry_options(registries: Iterable[str] = (), *, writes_authfile: bool = False) -> RegistryOptions:
    """Return the options for registries, from the command line and settings. --username needs a single registry.

    The files that they name are checked now, since a transfer may not come to need them. With `writes_authfile`, the
    credentials file need not exist.

    Raises:
        ConfigError: the CA certificates or the credentials file cannot be used.
    """
    check_files(writes_authfile=writes_authfile)
    from mirror.registry import RegistryOptions  # loads the HTTP client, which `verify` rarely needs

    settings = click.get_current_context().find_object(Settings) or Settings()
    everywhere = frozenset({"*"})
    return RegistryOptions(
        plain_http=everywhere if kept("plain_http") else settings.plain_http,
        insecure=everywhere if kept("insecure") else settings.insecure,
        ca_file=kept("ca_file"),
        hosts=settings.hosts,
        jobs=kept("jobs") or DEFAULT_JOBS,
        connections_per_blob=kept("connections_per_blob"),
        timeout=kept("timeout"),
        max_wait=kept("max_wait"),
        chunk_size=kept("chunk_size"),
        limit_rate=kept("limit_rate"),
        authfile=authfile(),
        credentials=_credentials_by_registry(registries),
        user_agent=f"oci-mirror/{VERSION}",
    )


def check_files(*, writes_authfile: bool = False) -> None:
    """Check the files that options for registries name, as in `registry_options`, which does it too."""
    files.check_ca(kept("ca_file"))
    if not writes_authfile:
        files.check_credentials(authfile())


def location_options(text: str) -> RegistryOptions:
    """Return the options for registries of a command about one location, which may be in a registry."""
    location = Location.parse(text)
    in_registry = location.transport is Transport.REGISTRY
    return registry_options([Reference.parse(location.where).registry] if in_registry else ())


def retry_policy() -> RetryPolicy:
    """Return the policy that --retries sets."""
    from mirror.retry import RetryPolicy  # a layout is verified without

    return RetryPolicy(kept("retries"))


def authfile() -> Path | None:
    """Return the credentials file from the command line or the settings."""
    path: Path | None = kept("authfile")
    return path.expanduser() if path else None


def credentials() -> Credentials:
    """Return user name and password, from --username and --password-stdin or from prompts on the terminal."""
    from mirror.registry import Credentials

    ctx, user = click.get_current_context(), kept("username")
    if kept("password_stdin"):
        if user is None:
            raise click.UsageError("--password-stdin needs --username.", ctx)
        return Credentials(user, _read_password(ctx))
    if not sys.stdin.isatty():
        raise click.UsageError("Not a terminal: pass --username and --password-stdin.", ctx)
    user = user or click.prompt("Username", err=True)
    return Credentials(user, click.prompt(f"Password of {user}", hide_input=True, err=True))


def _credentials_by_registry(registries: Iterable[str]) -> Mapping[str, Credentials]:
    if kept("username") is None and not kept("password_stdin"):
        return {}
    ctx, names = click.get_current_context(), sorted(set(registries))
    if len(names) > 1:
        raise click.UsageError(f"--username is for one registry, but there are several: {', '.join(names)}.", ctx)
    return {name: credentials() for name in names}


def _read_password(ctx: click.Context) -> str:
    """Read a password from stdin, without one newline at its end. A key file (`_json_key`) has several lines."""
    data = sys.stdin.buffer.read(_PASSWORD_CAP + 1)
    if len(data) > _PASSWORD_CAP:
        raise click.UsageError(f"The password on stdin has more than {_PASSWORD_CAP // 1024} KiB.", ctx)
    try:
        password = data.removesuffix(b"\r\n" if data.endswith(b"\r\n") else b"\n").decode()
    except UnicodeDecodeError:
        raise click.UsageError("The password on stdin is not UTF-8.", ctx) from None
    if not password:
        raise click.UsageError("There is no password on stdin.", ctx)
    return password
