"""The repositories in which the images of layouts are served. Pure: entries in, names out.

An image can be requested in three ways:

    library/redis                 by its path, as docker does when it uses a mirror of Docker Hub
    docker.io/library/redis       by its full name, if that is a valid repository name (a host with a port is not)
    library/redis?ns=docker.io    by its path and registry, as containerd does when it uses a mirror

If several registries have the same path, the path refers to Docker Hub if it is one of them, otherwise to the first:
tags of different publishers must not be mixed. A full name takes precedence over a path that looks the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mirror.errors import InvalidReference
from mirror.layout import Entry
from mirror.layout.referring import can_refer
from mirror.oci.descriptor import Descriptor
from mirror.oci.reference import DOCKER_HUB, Reference, is_repository
from mirror.text import brief

_SHOWN = 10  # names in one warning
_MAX_LENGTH = 255  # characters of a repository name (OCI distribution-spec, "Pulling manifests")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository, with its images in all layouts, in order."""

    registry: str  # where its images come from; "" if the layout does not say
    path: str  # in that registry
    entries: tuple[Entry, ...]
    tags: Mapping[str, Descriptor]  # the root of each tag; if two images have the same tag, the first one

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.path}" if self.registry else self.path


@dataclass(frozen=True, slots=True)
class Catalog:
    """Every repository by each of its names, and `warnings` about names that collide or cannot be served."""

    by_name: Mapping[str, Repository] = field(default_factory=dict)
    by_registry: Mapping[tuple[str, str], Repository] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, layouts: Iterable[tuple[Path, Sequence[Entry]]]) -> Catalog:
        """Build the catalog of several layouts; the first one takes precedence."""
        warnings: list[str] = []
        repositories = _repositories(layouts, warnings)
        by_path = _by_path(repositories, warnings)
        by_full_name = {one.name: one for one in repositories if one.registry and _is_valid(one.name)}
        by_registry = {(one.registry, one.path): one for one in repositories}
        return cls({**by_path, **by_full_name}, by_registry, tuple(warnings))

    def find(self, name: str, registry: str | None) -> Repository | None:
        """Return the repository that a client calls `name`; `registry` is containerd's `ns`."""
        if registry is None:
            return self.by_name.get(name)
        try:
            reference = Reference.parse(f"{registry}/{name}")
        except InvalidReference:
            return None
        if reference.repository not in (name, f"library/{name}"):  # `registry` was taken for a part of the path
            return None
        return self.by_registry.get((reference.registry, reference.repository))

    @property
    def images(self) -> int:
        """The number of images, without their signatures and other referrers."""
        entries = (entry for one in self.by_registry.values() for entry in one.entries)
        return len({entry.name for entry in entries if not can_refer(entry)})

    def names(self, registry: str | None) -> list[str]:
        """Return each repository once, by its shortest name, in the order that the specification requires."""
        if registry is not None:
            return sorted(one.path for one in self.by_registry.values() if self.find(one.path, registry) is one)
        shortest: dict[tuple[str, str], str] = {}
        for name in sorted(self.by_name, key=len):
            repository = self.by_name[name]
            shortest.setdefault((repository.registry, repository.path), name)
        return sorted(shortest.values())


def _repositories(layouts: Iterable[tuple[Path, Sequence[Entry]]], warnings: list[str]) -> list[Repository]:
    entries: dict[tuple[str, str], list[Entry]] = {}
    for path, images in layouts:
        name = re.sub(r"[^a-z0-9]+", "-", path.resolve().name.lower()).strip("-")
        default = name[:_MAX_LENGTH].rstrip("-") or "layout"  # the directory's name as a repository name
        unnamed = []
        for entry in images:
            if not entry.root.is_manifest:
                warnings.append(f"{path}: {entry.name} is not served: its type is not a manifest's or an index's.")
            elif entry.reference:
                entries.setdefault((entry.reference.registry, entry.reference.repository), []).append(entry)
            else:
                unnamed.append(f"{default}:{entry.tag}" if entry.tag else f"{default}@{entry.root.digest}")
                entries.setdefault(("", default), []).append(entry)
        if unnamed:
            names = brief(unnamed, _SHOWN)
            warnings.append(f"{path}: images without a repository name are served as {names}.")
    return [
        Repository(registry, name, tuple(images), _tags(f"{registry}/{name}".lstrip("/"), images, warnings))
        for (registry, name), images in entries.items()
    ]


def _tags(name: str, entries: Sequence[Entry], warnings: list[str]) -> dict[str, Descriptor]:
    tags: dict[str, Descriptor] = {}
    for entry in entries:
        first = tags.setdefault(entry.tag, entry.root) if entry.tag else entry.root
        if first.digest != entry.root.digest:
            warnings.append(
                f"{name}:{entry.tag} exists twice: the tag is served as {first.digest}; "
                f"{entry.root.digest} is served by digest only."
            )
    return tags


def _by_path(repositories: Sequence[Repository], warnings: list[str]) -> dict[str, Repository]:
    """Assign each path to one repository, of Docker Hub if possible: docker does not send a mirror the registry."""
    by_path: dict[str, Repository] = {}
    for one in sorted(repositories, key=lambda one: one.registry != DOCKER_HUB):  # stable: the rest keeps its order
        if not _is_valid(one.path):
            warnings.append(f"{one.name} is not served: its name is longer than {_MAX_LENGTH} characters.")
            continue
        first = by_path.setdefault(one.path, one)
        if first is not one:
            has_full_name = one.registry and _is_valid(one.name)
            how = f"as {one.name}" if has_full_name else "to clients that send its registry (?ns=)"
            warnings.append(f"{one.path} refers to {first.name}; {one.name} is served only {how}.")
    return by_path


def _is_valid(name: str) -> bool:
    return len(name) <= _MAX_LENGTH and is_repository(name)
