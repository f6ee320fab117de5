"""Finding credentials: those given to the command, else those in files, in the order of containers-auth.json(5).

1. the file given with `--authfile`, else `REGISTRY_AUTH_FILE`
2. `DOCKER_AUTH_CONFIG`, the content of such a file, as in docker and GitLab's runners
3. `$XDG_RUNTIME_DIR/containers/auth.json`, written by podman and skopeo
4. `$XDG_CONFIG_HOME/containers/auth.json`
5. `$DOCKER_CONFIG/config.json`, written by docker

The first file with credentials for the repository, or for its registry, wins. `credential-helpers` in `registries.conf`
are asked before or after 3 to 5, which the list calls `containers-auth.json`.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from mirror.config.registriesconf import AUTH_FILES
from mirror.errors import ConfigError
from mirror.registry.auth.authfile import AuthFile, normalize, server_of
from mirror.registry.auth.credential_helpers import CredentialHelper
from mirror.registry.credentials import Credentials
from mirror.retry import SharedAttempts

_CACHE_TIME = 60.0  # seconds for which a helper's answer is reused for other repositories: some take a second
_FILE_TIME = 1.0  # seconds for which the content of a file is reused
_Question = tuple[str, str]  # the name of a helper, and a server
_Answer = tuple[float, Credentials | None]  # with the monotonic time until which it is used


class CredentialStore:
    """Finds credentials: those `given` by registry, else those in files, first in `authfile` (`--authfile`).

    `helpers` returns the `credential-helpers` of `registries.conf`, each with the file that names it.
    """

    def __init__(
        self,
        authfile: Path | None = None,
        given: Mapping[str, Credentials] | None = None,
        helpers: Callable[[], Sequence[tuple[str, Path]]] = tuple,
    ) -> None:
        self._authfile, self._given, self._helpers = authfile, given or {}, helpers
        self._read: list[AuthFile] = []  # and those that are not read yet, used until a monotonic time
        self._unread: Iterator[AuthFile] = iter(())
        self._until = 0.0
        self._cache: dict[_Question, _Answer] = {}
        self._asking: defaultdict[_Question, SharedAttempts] = defaultdict(SharedAttempts)

    async def find(self, registry: str, repository: str = "") -> Credentials | None:
        """Return the credentials for a repository, or for a registry as a whole; None if there are none."""
        if registry in self._given:
            return self._given[registry]
        name = f"{registry.lower()}/{repository}".rstrip("/")
        for source in self._sources():
            if isinstance(source, CredentialHelper):
                found = await self._ask_helper(source, server_of(normalize(registry)))
            else:
                found = await source.find(name, self._ask_helper)
            if found:
                return found
        return None

    def _sources(self) -> Iterator[AuthFile | CredentialHelper]:
        files = self._files()
        if explicit_path(self._authfile):
            yield next(files)
        if text := os.environ.get("DOCKER_AUTH_CONFIG"):
            yield AuthFile.parse(Path("DOCKER_AUTH_CONFIG"), text.encode(errors="surrogateescape"))
        for name, path in self._helpers():
            if name != AUTH_FILES:
                yield CredentialHelper(name, path)
            else:
                yield from files
        yield from files  # if they are not in the list: `mirror login` writes to them

    def _files(self) -> Iterator[AuthFile]:
        """Yield what `auth_files` does; each file is read when it is needed, and at most once a second."""
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + _FILE_TIME
            self._read, self._unread = [], auth_files(self._authfile)
        read, unread, position = self._read, self._unread, 0
        while True:
            if position == len(read):
                if (file := self._next(unread)) is None:
                    return
                read.append(file)
            yield read[position]
            position += 1

    def _next(self, unread: Iterator[AuthFile]) -> AuthFile | None:
        try:
            return next(unread, None)
        except ConfigError:
            self._until = 0.0  # the next call reads the file again
            raise

    async def _ask_helper(self, helper: CredentialHelper, server: str) -> Credentials | None:
        """Run a helper, once even for many concurrent calls: it may ask the user to unlock a keychain."""
        key = (helper.name, server)

        def known() -> _Answer | None:
            until, found = self._cache.get(key, (0.0, None))
            return (until, found) if until > time.monotonic() else None

        async def ask() -> _Answer:
            found = await helper.get(server)
            self._cache[key] = time.monotonic() + _CACHE_TIME, found
            return self._cache[key]

        return (await self._asking[key].run(known, ask))[1]


def auth_files(authfile: Path | None = None) -> Iterator[AuthFile]:
    """Yield the credentials files that exist, in the order in which they are searched; the explicit one must exist."""
    if path := explicit_path(authfile):
        file = AuthFile.read(path)
        if file is None:
            raise ConfigError(f"The credentials file {path} does not exist.", hint="mirror login creates it.")
        yield file
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    paths = [Path(home, "containers", "auth.json"), docker_path()]
    if directory := os.environ.get("XDG_RUNTIME_DIR"):
        paths.insert(0, Path(directory, "containers", "auth.json"))
    else:  # there is no login session, as under cron
        fallback = Path(f"/run/containers/{os.getuid()}/auth.json")
        paths[:0] = [fallback] if os.access(fallback, os.R_OK) else []
    for path in paths:
        if file := AuthFile.read(path):
            yield file


def explicit_path(authfile: Path | None) -> Path | None:
    """Return the credentials file set with `--authfile` or in the environment, if any."""
    variable = os.environ.get("REGISTRY_AUTH_FILE")
    return authfile or (Path(variable) if variable else None)


def docker_path() -> Path:
    """Return the path of docker's own file, which podman, skopeo, buildah and oras read too."""
    return Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
