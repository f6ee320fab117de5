"""Log in and out: check credentials with the registry, and store them where docker and podman find them too.

1. check the credentials with a request to the registry
2. choose the file: the explicit one, else the first with an entry for the registry, else docker's, which all tools read
3. give them to the credential helper that the file names for the registry, else write them to the file
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from mirror.errors import BrokenLayout, ConfigError, NotFound, StorageError, Unauthorized, UsageError
from mirror.fs.atomic import replace_file
from mirror.fs.directory import Directory, Lock, make_directories
from mirror.oci.reference import is_host, is_repository
from mirror.registry import Client, Credentials, RegistryOptions
from mirror.registry.auth import credential_store
from mirror.registry.auth.authfile import AuthFile, normalize, prefixes, server_of
from mirror.registry.mirrors.endpoints import find_unblocked
from mirror.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """The place where the credentials for a registry are stored.

    Attributes:
        registry: `REGISTRY[/PATH]`.
        file: the path of the credentials file.
        helper: the short name of the credential helper that stores them; None if the file itself does.
    """

    registry: str
    file: str
    helper: str | None


@dataclass(frozen=True, slots=True)
class LoginResult(StoredLogin):
    """A login. `checked` is True if the registry accepted the credentials; False if it does not require any."""

    schema: ClassVar[str] = "mirror.login/1"

    user: str
    checked: bool


@dataclass(frozen=True, slots=True)
class LogoutResult:
    """The logins that were removed."""

    schema: ClassVar[str] = "mirror.logout/1"

    removed: tuple[StoredLogin, ...]


@dataclass(frozen=True, slots=True)
class LoginOptions:
    """Options for logging in and out. `log_out` uses only the `authfile` of `registries`.

    Attributes:
        retry: how often to try the check of the credentials.
        registries: how to connect to the registry; `authfile` is the file to change.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def log_in(registry: str, user: str, password: str, options: LoginOptions | None = None) -> LoginResult:
    """Store credentials for a registry, or for a path in it, if the registry accepts them.

    Args:
        registry: `REGISTRY[/PATH]`, such as `quay.io/team`.
        user: the user name.
        password: the password, or an access token.
        options: how to check the credentials, and the file to store them in.

    Raises:
        UsageError: `registry` is not a registry, `registries.conf` blocks it, or the user or password is invalid
            (RFC 7617).
        Unauthorized: the registry rejects them; nothing was stored.
        TransferError: the registry could not be reached.
        ConfigError: a credentials file is invalid, or a helper fails.
        StorageError: the file cannot be written.
    """
    options, name, credentials = options or LoginOptions(), _parse(registry), Credentials(user, password)
    if not user or ":" in user or not user.isprintable() or not password:
        raise UsageError("A user name must not contain colons or control characters, and a password must not be empty.")
    try:
        checked = await options.retry.run(lambda: _check(name, credentials, options.registries))
    except Unauthorized as error:
        hint = "Check the user name and password. Many registries require an access token in place of the password."
        raise Unauthorized(str(error), hint=hint, status=error.status) from None
    file = _choose_file(name, options.registries.authfile)
    helper = file.helper(name)
    if helper:
        await helper.store(server_of(name), credentials)
    _rewrite(file.path, lambda file: file.with_entry(name, None if helper else credentials))
    return LoginResult(name, str(file.path), helper.name if helper else None, user, checked)


async def log_out(registry: str | None = None, options: LoginOptions | None = None) -> LogoutResult:
    """Remove the credentials for a registry, or for a path in it.

    They are removed from the file in `options` or `REGISTRY_AUTH_FILE`, else from all files that are searched.

    `registry` is `REGISTRY[/PATH]`; None: all of them.

    Raises:
        UsageError: `registry` is not a registry.
        NotFound: there are no credentials for it.
        ConfigError: a credentials file is invalid, or a helper fails.
        StorageError: a file cannot be written.
    """
    name = None if registry is None else _parse(registry)
    explicit = credential_store.explicit_path((options or LoginOptions()).registries.authfile)
    files = list(credential_store.auth_files(explicit))[: 1 if explicit else None]
    removed = []
    for file in files:
        for each in file.names() if name is None else [name]:
            removed += await _remove(file, each)
    if name and not removed:
        where = ", ".join(str(file.path) for file in files) or "any file"
        raise NotFound(f"There are no credentials for {name} in {where}.")
    return LogoutResult(tuple(removed))


def _parse(registry: str) -> str:
    """Return `REGISTRY[/PATH]` as in the keys of credentials files."""
    name = normalize(registry)
    host, _, path = name.partition("/")
    if not is_host(host) or (path and not is_repository(path)):
        raise UsageError(
            f"{registry!r} is not a registry.",
            hint="Registries look like registry.internal:5000, quay.io or quay.io/team.",
        )
    return name


async def _check(name: str, credentials: Credentials, options: RegistryOptions) -> bool:
    """Return whether the registry requires credentials; raise if it rejects these (step 1)."""
    host = name.partition("/")[0]
    async with Client(replace(options, credentials={host: credentials})) as client:
        table = find_unblocked(name, client.registries_conf)
        registry = client.registry(host, insecure=table is not None and table.endpoint.insecure)
        async with registry.send("GET", "", scope="") as response:
            return "Authorization" in response.sent


def _choose_file(name: str, authfile: Path | None) -> AuthFile:
    """Choose the file to write (step 2). A file with an entry for the registry would take precedence over docker's."""
    explicit = credential_store.explicit_path(authfile)
    if explicit is None:
        for file in credential_store.auth_files():
            if set(prefixes(name)) & set(file.names()):
                return file
    path = explicit or credential_store.docker_path()
    return AuthFile.read(path) or AuthFile(path)


async def _remove(file: AuthFile, name: str) -> list[StoredLogin]:
    """Remove the credentials for `name` from a file and its helper; return where they were stored."""
    helper = file.helper(name)
    if helper and await helper.get(server_of(name)):
        await helper.erase(server_of(name))
    else:
        helper = None
    if file.has(name):
        _rewrite(file.path, lambda file: file.without_entry(name))
    elif not helper:
        return []
    return [StoredLogin(name, str(file.path), helper.name if helper else None)]


def _rewrite(path: Path, change: Callable[[AuthFile], AuthFile]) -> None:
    """Change a file as it is now, atomically, readable only by its owner.

    Its directory may belong to another user, who can replace the file at any moment. So it is opened once, and its
    owner is that of the open file.
    """
    target = Path(os.path.realpath(path))  # it may be a symbolic link, which stays one
    try:
        make_directories(target.parent, 0o700)
        with Directory.open(target.parent) as folder, Lock(folder.open_with(".", os.O_RDONLY), target.parent) as lock:
            lock.take()  # otherwise a login at the same moment could overwrite this change
            file, owner = AuthFile(target), None
            with suppress(FileNotFoundError), folder.open_regular(target.name) as before:
                file, owner = AuthFile.parse(target, before.read()), os.fstat(before.fileno())
            owner = owner if os.geteuid() == 0 else None  # under sudo, keep the owner
            replace_file(folder, target.name, [change(file).to_bytes()], mode=0o600, owner=owner)
    except BrokenLayout as error:
        raise ConfigError(str(error), hint="Use another file with --authfile.") from None
    except StorageError as error:
        raise StorageError(str(error), hint="Use another file with --authfile.") from None
