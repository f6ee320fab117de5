"""Where the images of a layout go: from the names that they have there to names in one registry.

For each image, the first of these that applies decides its path; `prefix` comes in front of whatever that is:

1. the name that was given for it (one image only), and its tag where that name has one
2. the longest FROM that its name begins with is replaced by its TO
3. `strip` is taken off the front of its path
4. its path as it is, without its registry

Names begin with each other part by part: `lib` is no beginning of `library/redis`. A FROM or a `strip` may have the
registry in it, as in `quay.io/team`, or only be a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.errors import UsageError
from mirror.layout import Entry
from mirror.oci.reference import LONGEST_NAME, Reference, is_host, is_repository, is_tag


@dataclass(frozen=True, slots=True)
class NameMapping:
    """How paths change: `name` is NAME[:TAG], `maps` are pairs of FROM and TO; see the module."""

    name: str | None = None
    prefix: str = ""
    strip: str = ""
    maps: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, name: str | None, prefix: str, strip: str, maps: Sequence[str]) -> NameMapping:
        """Read what a person typed, `maps` as FROM=TO.

        Raises:
            UsageError: something is no path, no FROM=TO, or one FROM has two TOs.
        """
        pairs: dict[str, str] = {}
        for text in maps:
            source, equals, target = text.partition("=")
            source, target = source.strip("/"), target.strip("/")
            if not equals or not _is_name(source) or (target and not is_repository(target)):
                raise UsageError(
                    f"{text!r} is no mapping.", hint="Mappings look like docker.io/library=hub or team=a/b."
                )
            if pairs.setdefault(source, target) != target:
                raise UsageError(f"{source} is mapped to {pairs[source]!r} and to {target!r}.")
        if prefix.strip("/") and not is_repository(prefix.strip("/")):
            raise UsageError(f"{prefix!r} is no path.", hint="Prefixes look like mirror or mirror/hub.")
        if strip.strip("/") and not _is_name(strip.strip("/")):
            raise UsageError(f"{strip!r} is no path.", hint="What is stripped looks like library or quay.io/team.")
        if name is not None and not _is_given(name):
            raise UsageError(f"{name!r} is no name in a registry.", hint="Names look like team/app or team/app:v1.")
        return cls(name, prefix.strip("/"), strip.strip("/"), tuple(pairs.items()))

    def path(self, reference: Reference) -> str:
        """The path that an image gets by its name in the layout."""
        for source, target in sorted(self.maps, key=lambda pair: _reach(pair[0], reference), reverse=True):
            rest = _after(source, reference)
            if rest is not None:
                return _joined(target, rest)
        stripped = _after(self.strip, reference) if self.strip else None
        return reference.repository if stripped is None else stripped

    def idle(self, references: Sequence[Reference]) -> list[str]:
        """What was asked for and fits none of these images: more often than not somebody mistyped it."""
        beginnings = [source for source, _ in self.maps] + ([self.strip] if self.strip else [])
        return [
            f"No image's name begins with {beginning}, so nothing was changed by it."
            for beginning in beginnings
            if self.name is None and all(_after(beginning, reference) is None for reference in references)
        ]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """`REGISTRY[/PREFIX]`, and how paths change on the way there."""

    registry: str
    prefix: str = ""
    renaming: NameMapping = NameMapping()

    @classmethod
    def parse(cls, text: str, renaming: NameMapping | None = None) -> PushTarget:
        """Read a target as a person types it.

        Raises:
            UsageError: it is no registry host, with or without a path.
        """
        registry, _, prefix = text.removeprefix("docker://").rstrip("/").partition("/")
        if registry in ("http:", "https:"):
            raise UsageError(
                f"{text!r} is no registry: it has {registry}// in front.",
                hint="Leave it out; --plain-http is for registries without TLS, and those on loopback need no flag.",
            )
        if not is_host(registry) or (prefix and not is_repository(prefix)):
            raise UsageError(
                f"{text!r} is no registry.",
                hint="Registries look like registry.internal:5000 or registry.internal:5000/mirror.",
            )
        renaming = renaming or NameMapping()
        return cls(registry, _joined(prefix, renaming.prefix), renaming)

    def places(self, entries: Sequence[Entry]) -> dict[Reference, Entry]:
        """Where each image goes; one that has two names there is pushed once.

        Raises:
            UsageError: two different images would land on one name, or there is no name for one.
        """
        if self.renaming.name is not None and len(entries) > 1:
            raise UsageError(
                f"{len(entries)} images cannot all become {self.renaming.name}.", hint="Name the one that is meant."
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
        """Where one image goes.

        Raises:
            UsageError: the layout does not say which repository it is from, nothing is left of its path, or the
                whole name is longer than a name may be.
        """
        path, tag = self._path(entry)
        repository = _joined(self.prefix, path)
        if not repository:
            raise UsageError(
                f"Nothing says which repository {entry.name!r} goes to.",
                hint=f"Name it: {self.registry}/some/repository, or --as some/repository.",
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
    """Whether `text` is the beginning of an image's name: a path, or a registry with or without one."""
    registry, _, path = text.partition("/")
    return is_repository(text) or (is_host(registry) and (not path or is_repository(path)))


def _after(beginning: str, reference: Reference) -> str | None:
    """What comes after `beginning` in an image's name, with or without its registry; None where it begins otherwise."""
    for name in (reference.name, reference.repository):
        if f"{name}/".startswith(f"{beginning}/"):
            return name[len(beginning) + 1 :]
    return None


def _reach(beginning: str, reference: Reference) -> tuple[int, bool]:
    """How much of an image's name a beginning covers, its registry included; of two equals, the one that names it."""
    whole = f"{reference.name}/".startswith(f"{beginning}/")
    return len(beginning) + (0 if whole else len(reference.registry) + 1), whole


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)
