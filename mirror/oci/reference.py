"""Image names as people type them: `redis:4.0`, `localhost:5000/a/b:tag`, `name@sha256:…`, `docker://…`.

Grammar: OCI distribution-spec, "Pulling manifests", and the reference grammar that docker made common (host, port and
IPv6 literals). A name is data here; where its registry answers is `mirror.registry`'s business.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from mirror.errors import InvalidDigest, InvalidReference
from mirror.oci.digest import Digest

DOCKER_HUB = "docker.io"
HUB_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[(?P<v6>[a-fA-F0-9:.]+)\])(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII)
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
LONGEST_NAME = 255  # characters of registry and repository together, as registries limit them


@dataclass(frozen=True, slots=True)
class Reference:
    """One image: a registry host, a repository in it, and a tag, a digest or both (then the digest decides)."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as a person types it; without tag and digest it means `latest`.

        Raises:
            InvalidReference: the name is outside the grammar.
        """
        rest = text.removeprefix("docker://")
        rest, at, digest = rest.partition("@")
        rest, tag = _split_tag(rest)
        registry, repository = _split_registry(rest)
        found = cls(registry, repository, tag, _digest(text, digest) if at else None)
        found._check(text)
        return found if found.tag or found.digest else replace(found, tag="latest")

    def _check(self, text: str) -> None:
        name = f"{self.registry}/{self.repository}"
        if self.registry in ("http:", "https:"):
            raise _invalid(text, f"names have no {self.registry}// in front")
        if not is_host(self.registry):
            raise _invalid(text, f"{self.registry[:80]!r} is no registry host")
        if not _REPOSITORY.fullmatch(self.repository):
            why = "must be lower case" if self.repository != self.repository.lower() else "is not allowed"
            raise _invalid(text, f"the repository {self.repository[:80]!r} {why}")
        if self.tag is not None and not _TAG.fullmatch(self.tag):
            raise _invalid(text, f"{self.tag[:140]!r} is no tag")
        if len(name) > LONGEST_NAME:
            raise _invalid(text, f"it is longer than {LONGEST_NAME} characters")

    @property
    def name(self) -> str:
        """`registry/repository`, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def target(self) -> str:
        """What to ask the registry for: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    @property
    def stored(self) -> str:
        """The name under which a layout keeps the image: by its tag where it has one, else by its digest."""
        return f"{self.name}:{self.tag}" if self.tag else f"{self.name}@{self.digest}"

    @property
    def familiar(self) -> str:
        """The shortest name that means the same, as docker shows it: `redis:4.0`."""
        names = (self.repository.removeprefix("library/"), self.repository)
        short = (name for name in names if _split_registry(name) == (self.registry, self.repository))
        return str(self).replace(self.name, next(short, self.name), 1)

    def pinned(self, digest: Digest) -> str:
        """`registry/repository:tag@digest`: the result line of a pull and of a push."""
        return f"{self.name}{':' + self.tag if self.tag else ''}@{digest}"

    def __str__(self) -> str:
        return f"{self.name}{':' + self.tag if self.tag else ''}{'@' + self.digest if self.digest else ''}"


def is_tag(text: str) -> bool:
    """Whether `text` is a tag by the distribution specification's grammar."""
    return bool(_TAG.fullmatch(text))


def is_host(text: str) -> bool:
    """Whether `text` is a registry host, with or without a port."""
    found = _HOST.fullmatch(text)
    if not found:
        return False
    return 0 < int(found["port"] or 1) < 2**16 and (found["v6"] is None or _is_ipv6(found["v6"]))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_repository(text: str) -> bool:
    """Whether `text` is a repository path by the distribution specification's grammar."""
    return bool(_REPOSITORY.fullmatch(text))


def _split_tag(rest: str) -> tuple[str, str | None]:
    head, colon, tail = rest.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (rest, None)


def _split_registry(rest: str) -> tuple[str, str]:
    """Docker's rule: the first part is a host if it looks like one (a dot, a port, `localhost`, upper case)."""
    first, slash, tail = rest.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    registry, repository = (first, tail) if slash and looks_like_host else (DOCKER_HUB, rest)
    if registry in HUB_ALIASES:
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    return registry, repository


def _digest(text: str, digest: str) -> Digest:
    try:
        return Digest.parse(digest)
    except InvalidDigest as error:
        raise _invalid(text, str(error).rstrip(".")) from None


def _invalid(text: str, why: str) -> InvalidReference:
    return InvalidReference(
        f"{text[:300]!r} is no image name: {why}.",
        hint="Names look like redis:4.0, registry.internal:5000/team/app:v1 or name@sha256:….",
    )
