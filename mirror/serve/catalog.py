"""Which repository an image of a layout appears as. Pure: entries in, names out.

An image has two names here, and a third way to it:

    library/redis             its path, as after `mirror push`; a mirror for Docker Hub is asked for that
    docker.io/library/redis   its whole name, where that is legal (a host with a port is not)
    library/redis?ns=docker.io    as containerd asks a mirror

A path belongs to one registry alone, or a client that means one publisher would be given tags of another: to Docker
Hub where it has it, else to the registry that comes first. A whole name beats a path that looks the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror.errors import InvalidReference
from mirror.layout import Entry
from mirror.layout.referrers import is_attachable
from mirror.oci.descriptor import Descriptor
from mirror.oci.reference import DOCKER_HUB, Reference, is_repository

_SHOWN = 10  # names in one sentence
_LONGEST = 255  # characters of a repository (OCI distribution-spec, "Pulling manifests")


@dataclass(frozen=True, slots=True)
class Repository:
    """Images that are served under one name. `registry` is "" where the layout does not say where they are from.

    `entries` are those of all layouts, in order; of two with one tag, the first has it.
    """

    registry: str
    path: str
    entries: tuple[Entry, ...]
    tags: Mapping[str, Descriptor]

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.path}" if self.registry else self.path


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every repository by each of its names. `notes` are sentences about what is not as one might think."""

    by_name: Mapping[str, Repository] = field(default_factory=dict)
    by_registry: Mapping[tuple[str, str], Repository] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, layouts: Iterable[tuple[Path, Sequence[Entry]]]) -> Catalog:
        """The catalog of several layouts, the first of them first."""
        notes: list[str] = []
        found = _repositories(layouts, notes)
        paths = _paths(found, notes)
        whole = {one.name: one for one in found if one.registry and _legal(one.name)}
        return cls({**paths, **whole}, {(one.registry, one.path): one for one in found}, tuple(notes))

    def find(self, name: str, registry: str | None) -> Repository | None:
        """The repository that a client means by a name; `registry` is containerd's `ns`."""
        if registry is None:
            return self.by_name.get(name)
        try:
            asked = Reference.parse(f"{registry}/{name}")
        except InvalidReference:
            return None
        if asked.repository not in (name, f"library/{name}"):  # the text was no registry, and became a path
            return None
        return self.by_registry.get((asked.registry, asked.repository))

    @property
    def images(self) -> int:
        """How many; what is about others, such as their signatures, is none."""
        entries = (entry for one in self.by_registry.values() for entry in one.entries)
        return len({entry.name for entry in entries if not is_attachable(entry)})

    def names(self, registry: str | None) -> list[str]:
        """Each repository once, by the shortest name that leads to it, sorted as the specification wants it."""
        if registry is not None:
            return sorted(one.path for one in self.by_registry.values() if self.find(one.path, registry) is one)
        shortest: dict[tuple[str, str], str] = {}
        for name in sorted(self.by_name, key=len):
            one = self.by_name[name]
            shortest.setdefault((one.registry, one.path), name)
        return sorted(shortest.values())


def _repositories(layouts: Iterable[tuple[Path, Sequence[Entry]]], notes: list[str]) -> list[Repository]:
    entries: dict[tuple[str, str], list[Entry]] = {}
    for path, images in layouts:
        folder, nameless = _folder_name(path), []
        for entry in images:
            if not entry.root.is_manifest:
                notes.append(f"{entry.name} in {path} is no manifest, so a registry cannot serve it.")
                continue
            if entry.reference:
                home = entry.reference.registry, entry.reference.repository
            else:  # of nobody's, so it is called like the folder of its layout
                home = "", folder
                nameless.append(f"{folder}:{entry.tag}" if entry.tag else f"{folder}@{entry.root.digest}")
            entries.setdefault(home, []).append(entry)
        if nameless:
            more = f" and {len(nameless) - _SHOWN} more" if len(nameless) > _SHOWN else ""
            shown = ", ".join(nameless[:_SHOWN]) + more
            notes.append(f"{path} does not say which repository these are from; they are served as {shown}.")
    return [Repository(*home, tuple(some), _tags(home, some, notes)) for home, some in entries.items()]


def _folder_name(layout: Path) -> str:
    """The name of a folder as a repository: lower case, and a dash for whatever is not allowed."""
    name = re.sub(r"[^a-z0-9]+", "-", layout.resolve().name.lower()).strip("-")
    return name[:_LONGEST].rstrip("-") or "layout"


def _tags(home: tuple[str, str], entries: Sequence[Entry], notes: list[str]) -> dict[str, Descriptor]:
    tags: dict[str, Descriptor] = {}
    for entry in entries:
        if entry.tag is None:
            continue
        first = tags.setdefault(entry.tag, entry.root)
        if first.digest != entry.root.digest:
            name = "/".join(filter(None, home))
            notes.append(
                f"{name}:{entry.tag} is there twice: {first.digest} is served, {entry.root.digest} by its digest only."
            )
    return tags


def _paths(found: Sequence[Repository], notes: list[str]) -> dict[str, Repository]:
    """Who has each path. Docker asks its mirrors for Docker Hub's paths, and cannot say that it means those."""
    paths: dict[str, Repository] = {}
    for one in sorted(found, key=lambda one: one.registry != DOCKER_HUB):  # and else in their own order
        if not _legal(one.path):
            notes.append(f"{one.name} is not served: its name is longer than {_LONGEST} characters.")
            continue
        first = paths.setdefault(one.path, one)
        if first is not one:
            way = f"as {one.name}" if _legal(one.name) and one.registry else "to clients that say its registry (?ns=)"
            notes.append(f"{one.path} is {first.name}; {one.name} is served {way} only.")
    return paths


def _legal(name: str) -> bool:
    return len(name) <= _LONGEST and is_repository(name)
