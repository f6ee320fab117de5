"""Log in and out: credentials are tried with the registry, and kept where docker and podman find them too.

1. ask the registry, with the credentials
2. choose the file: the one that is named, else the first that knows the registry, else docker's, which all tools read
3. give them to the helper that the file names for the registry, else write them into the file
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mirror.errors import NotFound, StorageError, Unauthorized, UsageError
from mirror.fs.atomic import AtomicFile
from mirror.fs.directory import Directory, Lock, os_errors
from mirror.oci.reference import is_host, is_repository
from mirror.registry import Client, Credentials, RegistryOptions
from mirror.registry.auth import credential_store
from mirror.registry.auth.authfile import AuthFile, normal, prefixes, server
from mirror.registry.logins import Kept, LoggedIn, LoggedOut
from mirror.retry import RetryPolicy


async def log_in(
    registry: str, user: str, password: str, options: RegistryOptions | None = None, retry: RetryPolicy | None = None
) -> LoggedIn:
    """Keep credentials for a registry, or for a path in it (`quay.io/team`), if the registry takes them.

    Raises:
        UsageError: `registry` is none, or the user or the password cannot be one.
        Unauthorized: the registry does not take them; nothing was kept.
        TransferError: it could not be asked.
        ConfigError: a credentials file cannot be understood, or a helper fails.
        StorageError: the file cannot be written.
    """
    options, name, who = options or RegistryOptions(), _name(registry), Credentials(user, password)
    if not user or ":" in user or not user.isprintable() or not password:  # RFC 7617
        raise UsageError("A user name has no colon and no control characters, and a password is not empty.")
    try:
        checked = await (retry or RetryPolicy()).run(lambda: _is_asked(name, who, options))
    except Unauthorized as error:
        hint = "Check the user and the password; many registries want an access token in place of the password."
        raise Unauthorized(str(error), hint=hint, status=error.status) from None
    file = _in_force(name, options.authfile)
    helper = file.helper(name)
    if helper:
        await helper.store(server(name), who)
    _rewrite(file.path, lambda file: file.with_(name, None if helper else who))
    return LoggedIn(user, Kept(name, str(file.path), helper.name if helper else None), checked)


async def log_out(registry: str | None = None, options: RegistryOptions | None = None) -> LoggedOut:
    """Forget the credentials for a registry, or for a path in it; for all of them where none is named.

    They are removed from the file that is named in `options` or `REGISTRY_AUTH_FILE`, else from all files in which they
    would be found.

    Raises:
        UsageError: `registry` is none.
        NotFound: there are no credentials for it.
        ConfigError: a credentials file cannot be understood, or a helper fails.
        StorageError: a file cannot be written.
    """
    name = None if registry is None else _name(registry)
    named = credential_store.named_file((options or RegistryOptions()).authfile)
    files = list(credential_store.files(named))[: 1 if named else None]
    removed = []
    for file in files:
        for one in file.names() if name is None else [name]:
            removed += await _forget(file, one)
    if name and not removed:
        where = ", ".join(str(file.path) for file in files) or "any file"
        raise NotFound(f"There are no credentials for {name} in {where}.")
    return LoggedOut(tuple(removed))


def _name(registry: str) -> str:
    """`REGISTRY[/PATH]` as files have it.

    Raises:
        UsageError: it is none.
    """
    name = normal(registry)
    host, _, path = name.partition("/")
    if not is_host(host) or (path and not is_repository(path)):
        raise UsageError(
            f"{registry!r} is no registry.",
            hint="Registries look like registry.internal:5000, quay.io or quay.io/team.",
        )
    return name


async def _is_asked(name: str, who: Credentials, options: RegistryOptions) -> bool:
    """Step 1: whether the registry asks for credentials at all. It takes these, or this raises."""
    host = name.partition("/")[0]
    async with Client(replace(options, credentials={host: who})) as client:
        rule = client.rules.find(name)
        registry = client.registry(host, lenient=rule is not None and rule.endpoint.insecure)
        async with registry.send("GET", "", scope="") as response:
            return "Authorization" in response.request_info.headers


def _in_force(name: str, authfile: Path | None) -> AuthFile:
    """Step 2. A file that knows the registry already is read before docker's, and would go on to win."""
    named = credential_store.named_file(authfile)
    if named is None:
        for file in credential_store.files():
            if set(prefixes(name)) & set(file.names()):
                return file
    path = named or credential_store.docker_file()
    return AuthFile.read(path) or AuthFile(path)


async def _forget(file: AuthFile, name: str) -> list[Kept]:
    helper = file.helper(name)
    held = await helper.get(server(name)) if helper else None
    if helper and held:
        await helper.erase(server(name))
    if file.has(name):
        _rewrite(file.path, lambda file: file.without(name))
    return [Kept(name, str(file.path), helper.name if helper and held else None)] if held or file.has(name) else []


def _rewrite(path: Path, change: Callable[[AuthFile], AuthFile]) -> None:
    """Change a file as it is now: whole or not at all, and for its owner alone.

    Raises:
        StorageError: it cannot be written.
    """
    target = Path(os.path.realpath(path))  # people who keep their settings elsewhere have a link here
    try:
        with os_errors(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = target.stat() if target.exists() else None
        with Directory.open(target.parent) as folder, Lock(folder.open_with(".", os.O_RDONLY), target.parent) as lock:
            lock.take()  # another login that reads the file now would write it without ours
            _replace(folder, target.name, change(AuthFile.read(target) or AuthFile(target)).to_bytes())
        if owner and os.geteuid() == 0:  # sudo must not take the file away from whose it is
            os.chown(target, owner.st_uid, owner.st_gid)
    except StorageError as error:
        raise StorageError(str(error), hint="Name another file with --authfile.") from None


def _replace(folder: Directory, name: str, data: bytes) -> None:
    temporary = AtomicFile.create(folder, 0o600)
    try:
        temporary.write([data])
    except BaseException:
        temporary.discard()
        raise
    temporary.commit(folder, name)
