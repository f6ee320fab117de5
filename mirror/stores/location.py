"""Locations of images, as skopeo and podman write them (containers-transports(5)), or as a plain name or path.

    docker://IMAGE                an image in a registry
    oci:PATH[:REF]                an OCI image layout
    oci-archive:PATH[:REF]        a layout in a tar archive
    docker-archive:PATH[:REF]     docker's own archive format

PATH ends at the first colon; REF may contain more. For a plain name or path, the kind of location is guessed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from mirror.errors import InvalidReference, NotFound, TransferError, UsageError
from mirror.oci.reference import DOCKER_HUB, Reference, is_only_a_registry


class Transport(StrEnum):
    """The kinds of locations, by their prefixes."""

    REGISTRY = "docker"
    LAYOUT = "oci"
    OCI_ARCHIVE = "oci-archive"
    DOCKER_ARCHIVE = "docker-archive"

    @property
    def is_archive(self) -> bool:
        return self in (Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE)


LOCAL = (Transport.LAYOUT, Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE)
# skopeo's other transports. They must not be taken for image names, which would be looked up on Docker Hub.
_UNSUPPORTED = ("atomic", "containers-storage", "dir", "docker-daemon", "ostree", "sif", "tarball")
_NOUNS = {
    Transport.REGISTRY: "an image of a registry",
    Transport.LAYOUT: "a layout",
    Transport.OCI_ARCHIVE: "an archive",
    Transport.DOCKER_ARCHIVE: "a docker-archive",
}


class Location(NamedTuple):
    """One location. `where` is the path, or the text after `docker://`; `ref` names one of the images at the path.

    `guessed`: the user typed a plain name or path.
    """

    transport: Transport
    where: str
    ref: str | None = None
    guessed: bool = False

    @classmethod
    def parse(cls, text: str, *, registry: bool = True) -> Location:
        """Parse a location as a user types it. A plain name is a path if that exists.

        Otherwise, it can be an image of a registry, unless `registry` is false. Raise UsageError if the location is not
        valid or not supported.
        """
        if text.startswith("docker://"):
            return cls(Transport.REGISTRY, text.removeprefix("docker://")).checked()
        transport, colon, rest = text.partition(":")
        if colon and transport in LOCAL:
            return cls(Transport(transport), *_split(text, rest))
        if colon and transport in _UNSUPPORTED:
            raise UsageError(
                f"{text[:300]!r}: mirror does not support {transport}: locations.",
                hint=f"skopeo copies between {transport}: and a layout: oci:PATH:TAG.",
            )
        if not registry and text:
            path = os.path.expanduser(text)
            is_archive = text == "-" or os.path.isfile(path)
            return cls(Transport.OCI_ARCHIVE if is_archive else Transport.LAYOUT, path, guessed=True)
        return _guess(text)

    @classmethod
    def of_kind(cls, argument: Path | str, *kinds: Transport) -> Location:
        """Parse the argument of a command that takes only some kinds of locations; a plain path is the first of them.

        Raise UsageError if it is a location of another kind.
        """
        location = cls.parse(str(argument), registry=False)
        if location.guessed:
            return cls(kinds[0], location.where, guessed=True)
        if location.transport not in kinds:
            raise UsageError(
                f"{location} is {_NOUNS[location.transport]}, but {_NOUNS[kinds[0]]} is needed.",
                hint=f"Use a path, or a location such as {kinds[0]}:PATH.",
            )
        return location

    @classmethod
    def parse_copy(cls, text: str) -> Location:
        """Parse a good copy for a repair: a layout, an archive, or `REGISTRY[/PREFIX]`, which begins with a host.

        Raise UsageError if it is none of them. `where` of a registry is the text itself.
        """
        if text.startswith(tuple(f"{kind}:" for kind in LOCAL)) or _looks_like_path(text) or os.path.lexists(text):
            return cls.parse(text, registry=False)
        where = text.removeprefix("docker://")
        host = where.partition("/")[0]
        if where == text and host != "localhost" and not set(".:") & set(host):
            raise UsageError(
                f"There is no directory or file {text!r}, and it is not a registry host.",
                hint="Use a source such as ./layout, images.tar, registry.internal:5000 or docker://host.",
            )
        return cls(Transport.REGISTRY, where, guessed=where == text)

    def checked(self) -> Location:
        """Return the location itself, after checking the image name of a registry location.

        Raises:
            InvalidReference: the name is not valid.
            UsageError: it is only a registry.
        """
        Reference.parse(self.where)
        if is_only_a_registry(self.where):
            hint = f"Name one of its images: {self.where}/team/app:1.0"
            raise UsageError(f"{self.where} is a registry, not an image.", hint=hint)
        return self

    @property
    def position(self) -> int | None:
        """The position of an image in an archive or a layout, from 0: skopeo's `@N`. None if `ref` is a name."""
        found = re.fullmatch(r"@([0-9]{1,9})", self.ref, re.ASCII) if self.ref else None
        return int(found[1]) if found else None

    @property
    def directory(self) -> Path:
        """The directory of a layout as a whole. Raise UsageError if the location names an image in it."""
        if self.ref:
            raise UsageError(f"{self} is an image, but a whole layout is needed.", hint=f"Use {self.where}.")
        return Path(self.where)

    @property
    def remark(self) -> str | None:
        """A note for the user about a guess; None if nothing was guessed."""
        return f"taken as {_NOUNS[self.transport]}: {self}" if self.guessed else None

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Add to the hint of an error that a plain name was taken as an image of Docker Hub; it may be a directory."""
        try:
            yield
        except (TransferError, NotFound) as error:
            if self.guessed and self.transport is Transport.REGISTRY and not set(":@") & set(self.where):
                error.hint = " ".join(filter(None, (_misread(self.where), error.hint)))
            raise

    def __str__(self) -> str:
        slashes = "//" if self.transport is Transport.REGISTRY else ""
        return f"{self.transport}:{slashes}{self.where}{':' + self.ref if self.ref else ''}"


def _misread(text: str) -> str | None:
    """Return what a name without a registry was read as, and how to write a directory."""
    reference = Reference.parse(text)
    if reference.registry != DOCKER_HUB or text.startswith("docker.io/"):
        return None
    from difflib import get_close_matches  # only for this message: the import takes 5 ms

    near = get_close_matches(text, (entry.name for entry in os.scandir() if entry.is_dir()), 1)
    meant = f"did you mean the directory ./{near[0]}?" if near else f"for a directory, write ./{text}."
    return f"{text!r} was read as {reference.name}; {meant}"


def _looks_like_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or text.endswith(".tar")


def _split(text: str, rest: str) -> tuple[str, str | None]:
    path, colon, ref = rest.partition(":")
    if not path or (colon and not ref):
        what = "a path" if not path else "a name after its last colon"
        raise UsageError(
            f"not a location: {text[:300]!r} lacks {what}.", hint="Locations look like oci:./layout or oci:./layout:v1."
        )
    return path, ref or None


def _guess(text: str) -> Location:
    """Guess by existing files, then by the form of the text; everything else is an image of a registry."""
    path = os.path.expanduser(text)
    if text == "-" or os.path.isfile(path):
        return Location(Transport.OCI_ARCHIVE, path, guessed=True)
    if os.path.isfile(os.path.join(path, "index.json")):
        return Location(Transport.LAYOUT, path, guessed=True)
    if _looks_like_path(text) or text.endswith("/"):
        if ":" in path:
            raise UsageError(
                f"{text[:300]!r} does not exist, and a colon in a path is ambiguous.",
                hint="State the kind of location, as in oci:./layout:v1 or docker://redis:4.0.",
            )
        return Location(Transport.OCI_ARCHIVE if text.endswith(".tar") else Transport.LAYOUT, path, guessed=True)
    try:
        return Location(Transport.REGISTRY, text, guessed=True).checked()
    except InvalidReference as error:
        error.hint = f"If it is a path: ./{text[:300]}. {error.hint}"
        raise
