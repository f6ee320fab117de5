"""Image references as users type them: `redis:4.0`, `localhost:5000/a/b:tag`, `name@sha256:…`, `docker://…`.

Grammar: OCI distribution-spec, "Pulling manifests", and Docker's grammar for hosts, ports and IPv6 literals.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from mirror.errors import InvalidDigest, InvalidReference
from mirror.oci.digest import Digest
from mirror.text.redaction import excerpt

DOCKER_HUB = "docker.io"
HUB_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<v6>[a-fA-F0-9:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
LONGEST_NAME = 255  # characters of registry and repository together, as in registries


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry host, a repository, and a tag, a digest, or both; then the digest takes precedence."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference as users type it; the tag is `latest` if there is neither tag nor digest.

        Raises:
            InvalidReference: outside the grammar.
        """
        rest = text.removeprefix("docker://")
        rest, at, digest = rest.partition("@")
        name, colon, last = rest.rpartition(":")
        has_tag = bool(colon) and "/" not in last  # otherwise the colon precedes a port
        registry, repository = _split_registry(name if has_tag else rest)
        try:
            found = cls(registry, repository, last if has_tag else None, Digest.parse(digest) if at else None)
        except InvalidDigest as error:
            raise _invalid(text, str(error).rstrip(".")) from None
        found._check(text)
        return found if found.tag or found.digest else replace(found, tag="latest")

    def _check(self, text: str) -> None:
        if self.registry in ("http:", "https:"):
            raise _invalid(text, f"leave out the {self.registry}// in front")
        if "".join(text.split()) != text:
            raise _invalid(text, "it contains a space")
        if self.repository in ("", "library/"):
            raise _invalid(text, "it has no repository")
        if not is_host(self.registry):
            raise _invalid(text, f"{excerpt(self.registry, 80)!r} is not a registry host")
        if not _REPOSITORY.fullmatch(self.repository):
            why = "must be lower case" if self.repository != self.repository.lower() else "is not valid"
            raise _invalid(text, f"the repository {excerpt(self.repository, 80)!r} {why}")
        if self.tag is not None and not _TAG.fullmatch(self.tag):
            raise _invalid(text, f"{excerpt(self.tag, 140)!r} is not a valid tag")
        if len(self.name) > LONGEST_NAME:
            raise _invalid(text, f"registry and repository have more than {LONGEST_NAME} characters")

    @property
    def name(self) -> str:
        """`registry/repository`, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """The digest if there is one, else the tag: what is requested from the registry."""
        return self.digest or self.tag or "latest"

    @property
    def stored(self) -> str:
        """The name of the image in a layout: with its tag if it has one, else with its digest."""
        return f"{self.name}:{self.tag}" if self.tag else f"{self.name}@{self.digest}"

    @property
    def familiar(self) -> str:
        """The shortest equivalent reference, as docker shows it: `redis:4.0`."""
        names = (self.repository.removeprefix("library/"), self.repository)
        short = (name for name in names if _split_registry(name) == (self.registry, self.repository))
        return str(self).replace(self.name, next(short, self.name), 1)

    def pinned(self, digest: Digest) -> str:
        """Return the reference with a digest, as pull and push print it: `registry/repository:tag@digest`."""
        return f"{self.name}{':' + self.tag if self.tag else ''}@{digest}"

    def __str__(self) -> str:
        return f"{self.name}{':' + self.tag if self.tag else ''}{'@' + self.digest if self.digest else ''}"


def is_tag(text: str) -> bool:
    """Return whether `text` is a valid tag (OCI distribution-spec)."""
    return bool(_TAG.fullmatch(text))


def is_host(text: str) -> bool:
    """Return whether `text` is a registry host, with or without a port."""
    found = _HOST.fullmatch(text)
    if not found or not 0 < int(found["port"] or 1) < 2**16:
        return False
    try:
        return found["v6"] is None or bool(ipaddress.IPv6Address(found["v6"]))
    except ValueError:
        return False


def is_repository(text: str) -> bool:
    """Return whether `text` is a valid repository name (OCI distribution-spec)."""
    return bool(_REPOSITORY.fullmatch(text))


def is_location(text: str) -> bool:
    """Return whether `text` is `HOST[:PORT][/PATH]`: a registry, a namespace or a repository."""
    host, slash, path = text.rstrip("/").partition("/")
    return is_host(host) and (not slash or is_repository(path))


def is_only_a_registry(text: str) -> bool:
    """Return whether a name is a host and a port, such as `localhost:5000`; to docker, it is an image of Docker Hub."""
    host, _, port = text.partition(":")
    return port.isdigit() and "/" not in host and ("." in host or host == "localhost")


def _split_registry(rest: str) -> tuple[str, str]:
    """Split off the registry: the first part if it has a dot, a port or upper case, or is `localhost`, as in Docker."""
    first, slash, tail = rest.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    registry, repository = (first, tail) if slash and looks_like_host else (DOCKER_HUB, rest)
    if registry in HUB_ALIASES:
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(
        f"{excerpt(text, 300)!r} is not a valid image reference: {why}.",
        hint="Image references look like redis:4.0, registry.internal:5000/team/app:v1 or name@sha256:….",
    )
