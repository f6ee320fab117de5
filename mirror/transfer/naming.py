"""Map the names of images in a layout to names in one registry.

For each image, the first of these rules that applies decides its path; `prefix` is put in front of the result:

1. the name that the user gives for it (one image only), with its tag if that name has one
2. the longest FROM that its name begins with is replaced by its TO
3. `strip` is removed from the beginning of its path
4. its path as it is, without its registry

Names are compared component by component: `library/redis` does not begin with `lib`. A FROM or a `strip` may include
the registry, as in `quay.io/team`, or be a path only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.errors import UsageError
from mirror.layout import Entry
from mirror.oci.reference import LONGEST_NAME, Reference, is_host, is_repository, is_tag


@dataclass(frozen=True, slots=True)
class NameMapping:
    """How names change: `name` is NAME[:TAG], `maps` are pairs of FROM and TO; see the module."""

    name: str | None = None
    prefix: str = ""
    strip: str = ""
    maps: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, name: str | None, prefix: str, strip: str, maps: Sequence[str]) -> NameMapping:
        """Parse what a user typed.

        Args:
            name: NAME[:TAG] for the one image.
            prefix: a path that is put in front.
            strip: a path, with or without its registry, that is removed from the beginning.
            maps: texts such as FROM=TO.

        Raises:
            UsageError: one of them is not a path or FROM=TO, or one FROM has two TOs.
        """
        pairs: dict[str, str] = {}
        for text in maps:
            source, equals, target = text.partition("=")
            source, target = source.strip("/"), target.strip("/")
            if not equals or not _is_name(source) or (target and not is_repository(target)):
                raise UsageError(
                    f"not a mapping: {text!r}.", hint="Mappings look like docker.io/library=hub or team=a/b."
                )
            if pairs.setdefault(source, target) != target:
                raise UsageError(f"{source} is mapped to {pairs[source]!r} and to {target!r}.")
        if prefix.strip("/") and not is_repository(prefix.strip("/")):
            raise UsageError(f"not a repository path: {prefix!r}.", hint="Prefixes look like mirror or mirror/hub.")
        if strip.strip("/") and not _is_name(strip.strip("/")):
            raise UsageError(f"not a repository path: {strip!r}.", hint="It should look like library or quay.io/team.")
        if name is not None and not _is_given(name):
            raise UsageError(f"not a name in a registry: {name!r}.", hint="Names look like team/app or team/app:v1.")
        return cls(name, prefix.strip("/"), strip.strip("/"), tuple(pairs.items()))

    def path(self, reference: Reference) -> str:
        """Return the path of an image by the name it has in the layout."""
        for source, target in sorted(self.maps, key=lambda pair: _reach(pair[0], reference), reverse=True):
            rest = _after(source, reference)
            if rest is not None:
                return _joined(target, rest)
        stripped = _after(self.strip, reference) if self.strip else None
        return reference.repository if stripped is None else stripped

    def idle(self, references: Sequence[Reference]) -> list[str]:
        """Return a warning for each mapping that matches none of these images: it is probably mistyped."""
        options = {source: f"--map {source}={target}" for source, target in self.maps}
        options |= {self.strip: f"--strip-prefix {self.strip}"} if self.strip else {}
        return [
            f"{option} matched no image."
            for beginning, option in options.items()
            if self.name is None and all(_after(beginning, reference) is None for reference in references)
        ]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """`REGISTRY[/PREFIX]`, and how names change on the way there."""

    registry: str
    prefix: str = ""
    renaming: NameMapping = NameMapping()

    @classmethod
    def parse(cls, text: str, renaming: NameMapping | None = None) -> PushTarget:
        """Parse a target as a user types it.

        Raises:
            UsageError: it is not a registry host, with or without a path.
        """
        registry, _, prefix = text.removeprefix("docker://").rstrip("/").partition("/")
        if registry in ("http:", "https:"):
            raise UsageError(
                f"not a registry: {text!r} has {registry}// in front.",
                hint="Leave it out; --plain-http is for registries without TLS, and those on loopback need no flag.",
            )
        if not is_host(registry) or (prefix and not is_repository(prefix)):
            raise UsageError(
                f"not a registry: {text!r}.",
                hint="Registries look like registry.internal:5000 or registry.internal:5000/mirror.",
            )
        renaming = renaming or NameMapping()
        return cls(registry, _joined(prefix, renaming.prefix), renaming)

    def places(self, entries: Sequence[Entry]) -> dict[Reference, Entry]:
        """Return the place of each image; one that has two names there is pushed once.

        Raises:
            UsageError: two different images would land on one name, or there is no name for one.
        """
        if self.renaming.name is not None and len(entries) > 1:
            raise UsageError(
                f"{len(entries)} images cannot all become {self.renaming.name}.", hint="Choose one of them."
            )
        places: dict[Reference, Entry] = {}
        for entry in entries:
            place = self.place(entry)
            other = places.setdefault(place, entry)
            if other.root.digest != entry.root.digest:
                raise UsageError(
                    f"{other.name} and {entry.name} would both become {place}.",
                    hint="Keep them apart with --map, or push them one at a time with --as.",
                )
        return places

    def place(self, entry: Entry) -> Reference:
        """Return the place of one image.

        Raises:
            UsageError: the layout does not say which repository it is from, nothing is left of its path, or the full
                name is too long.
        """
        path, tag = self._path(entry)
        repository = _joined(self.prefix, path)
        if not repository:
            raise UsageError(
                f"The layout does not say which repository {entry.name!r} is from.",
                hint=f"Choose one: {self.registry}/some/repository, or --as some/repository.",
            )
        found = Reference(self.registry, repository, tag, None if tag else entry.root.digest)
        if len(found.name) > LONGEST_NAME:
            raise UsageError(f"{entry.name} would become {found}, which is longer than {LONGEST_NAME} characters.")
        return found

    def _path(self, entry: Entry) -> tuple[str, str | None]:
        if self.renaming.name is not None:
            path, _, tag = self.renaming.name.partition(":")
            return path, tag or entry.tag
        return self.renaming.path(entry.reference) if entry.reference else "", entry.tag


def _is_given(text: str) -> bool:
    path, colon, tag = text.partition(":")
    return is_repository(path) and (is_tag(tag) if colon else True)


def _is_name(text: str) -> bool:
    """Return whether an image's name can begin with `text`: a path, or a registry with or without one."""
    registry, _, path = text.partition("/")
    return is_repository(text) or (is_host(registry) and (not path or is_repository(path)))


def _after(beginning: str, reference: Reference) -> str | None:
    """Return what follows `beginning` in an image's name, with or without its registry; None if it begins otherwise."""
    for name in (reference.name, reference.repository):
        if f"{name}/".startswith(f"{beginning}/"):
            return name[len(beginning) + 1 :]
    return None


def _reach(beginning: str, reference: Reference) -> tuple[int, bool]:
    """Rank a beginning by how much of an image's name it covers; with equal cover, one that names the registry wins."""
    whole = f"{reference.name}/".startswith(f"{beginning}/")
    return len(beginning) + (0 if whole else len(reference.registry) + 1), whole


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)
