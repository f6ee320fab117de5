"""Map the names of images in a layout to names in one registry.

The first of these rules that applies determines the path of an image; `prefix` is put in front of the result:

1. the name that the user gives (for one image only), with a tag if that name has one
2. the longest FROM that the image name starts with is replaced by its TO
3. `strip` is removed from the start of the path
4. the path stays as it is, without the registry

With `flat`, the slashes of the result become hyphens, unless the user gave the name.

Names are compared component by component: `library/redis` does not start with `lib`. A FROM or a `strip` may include
the registry, as in `quay.io/team`, or be a path only.

An image whose name in the layout is not the name of an image, such as `v1.2/stable`, needs rule 1, or a FROM that is
its whole name with a TO that has a tag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.errors import UsageError
from mirror.layout import Entry
from mirror.oci.reference import LONGEST_NAME, Reference, is_host, is_repository, is_tag


@dataclass(frozen=True, slots=True)
class NameMapping:
    """The rules for names: `name` is NAME[:TAG], `maps` are pairs of FROM and TO; see the module."""

    name: str | None = None
    prefix: str = ""
    strip: str = ""
    maps: tuple[tuple[str, str], ...] = ()
    flat: bool = False

    @classmethod
    def parse(
        cls, name: str | None, prefix: str, strip: str, maps: Sequence[str], *, flat: bool = False
    ) -> NameMapping:
        """Parse options as a user types them.

        Args:
            name: NAME[:TAG] for the one image.
            prefix: a path that is put in front.
            strip: a path, with or without its registry, that is removed from the start.
            maps: texts such as FROM=TO, or NAME=TO:TAG.
            flat: make each path one component, for registries with few levels.

        Raises:
            UsageError: one of them is not valid, or a FROM has two different TOs.
        """
        pairs: dict[str, str] = {}
        for text in maps:
            source, equals, target = text.partition("=")
            source, target = source.strip("/"), target.strip("/")
            path, tagged, tag = target.partition(":")
            fits = is_tag(tag) and is_repository(path) if tagged else _can_start(source)
            if not (equals and source and fits) or (target and not is_repository(path)):
                raise UsageError(
                    f"not a mapping: {text!r}.", hint="Mappings look like docker.io/library=hub or team=a/b."
                )
            if pairs.setdefault(source, target) != target:
                raise UsageError(f"{source} is mapped to {pairs[source]!r} and to {target!r}.")
        if prefix.strip("/") and not is_repository(prefix.strip("/")):
            raise UsageError(f"not a repository path: {prefix!r}.", hint="Prefixes look like mirror or mirror/hub.")
        if strip.strip("/") and not _can_start(strip.strip("/")):
            raise UsageError(f"not a repository path: {strip!r}.", hint="It should look like library or quay.io/team.")
        if name is not None:
            path, colon, tag = name.partition(":")
            if not is_repository(path) or (colon and not is_tag(tag)):
                raise UsageError(f"not a valid name: {name!r}.", hint="Names look like team/app or team/app:v1.")
        return cls(name, prefix.strip("/"), strip.strip("/"), tuple(pairs.items()), flat)

    def path(self, reference: Reference) -> str:
        """Return the path of an image in the registry by rules 2 to 4, flat if that is wanted."""
        path = self._path(reference)
        return path.replace("/", "-") if self.flat else path

    def _path(self, reference: Reference) -> str:
        for source, target in sorted(self.maps, key=lambda pair: _length(pair[0], reference), reverse=True):
            rest = None if ":" in target else _rest(source, reference)
            if rest is not None:
                return _joined(target, rest)
        stripped = _rest(self.strip, reference) if self.strip else None
        return reference.repository if stripped is None else stripped

    def exact(self, entry: Entry) -> tuple[str, str] | None:
        """Return the path and the tag for an image that has no image name; None if no rule gives it both."""
        path, _, tag = dict(self.maps).get(entry.name, "").partition(":")
        return (path, tag) if tag and entry.reference is None else None

    def unused(self, entries: Sequence[Entry]) -> list[str]:
        """Return a warning for each option that matches none of these images: it is probably mistyped."""
        references = [entry.reference for entry in entries if entry.reference]
        options = {source: f"--map {source}={target}" for source, target in self.maps}
        options |= {self.strip: f"--strip-prefix {self.strip}"} if self.strip else {}
        whole = {source for source, target in self.maps if ":" in target}
        used = {entry.name for entry in entries if self.exact(entry)}
        used |= {start for start in options.keys() - whole if any(_rest(start, one) is not None for one in references)}
        idle = [option for start, option in options.items() if self.name is None and start not in used]
        return [f"{option} matched no image." for option in idle]


@dataclass(frozen=True, slots=True)
class PushTarget:
    """`REGISTRY[/PREFIX]`, and the mapping of names."""

    registry: str
    prefix: str = ""
    mapping: NameMapping = NameMapping()

    @classmethod
    def parse(cls, text: str, mapping: NameMapping | None = None) -> PushTarget:
        """Parse a target as a user types it."""
        registry, _, prefix = text.removeprefix("docker://").rstrip("/").partition("/")
        if registry in ("http:", "https:"):
            raise UsageError(
                f"not a registry: {text!r} has {registry}// in front.",
                hint="Remove it; --plain-http is for registries without TLS, and those on loopback need no flag.",
            )
        if not is_host(registry) or (prefix and not is_repository(prefix)):
            raise UsageError(
                f"not a registry: {text!r}.",
                hint="Registries look like registry.internal:5000 or registry.internal:5000/mirror.",
            )
        mapping = mapping or NameMapping()
        return cls(registry, _joined(prefix, mapping.prefix), mapping)

    def places(self, entries: Sequence[Entry]) -> dict[Reference, list[Entry]]:
        """Return the images by their references in the registry; images with the same content may share one.

        Raise UsageError if two different images would have the same reference.
        """
        if self.mapping.name is not None and len(entries) > 1:
            shown = ", ".join(entry.name for entry in entries[:3]) + (", …" if entries[3:] else "")
            raise UsageError(
                f"{len(entries)} images cannot all become {self.mapping.name}.",
                hint=f"Name one of them after the registry: {shown}",
            )
        places: dict[Reference, list[Entry]] = {}
        for entry in entries:
            place = self.place(entry)
            same = places.setdefault(place, [])
            same.append(entry)
            if same[0].root.digest != entry.root.digest:
                raise UsageError(
                    f"{same[0].name} and {entry.name} would both become {place}.",
                    hint="Keep them apart with --map, or push them one at a time with --as.",
                )
        return places

    def place(self, entry: Entry) -> Reference:
        """Return the reference of one image in the registry; raise UsageError if it cannot have one."""
        path, tag = self.mapping.path(entry.reference) if entry.reference else "", entry.tag
        if self.mapping.name is not None:
            path, _, given = self.mapping.name.partition(":")
            tag = given or tag
        elif exact := self.mapping.exact(entry):
            path, tag = exact
        elif entry.name not in (entry.tag, entry.root.digest) and not entry.reference:
            raise UsageError(
                f"{entry.name!r} is not the name of an image, so it cannot be one in {self.registry}.",
                hint=f"Choose a name: --as some/repository:tag, or --map {entry.name}=some/repository:tag",
            )
        repository = _joined(self.prefix, path)
        if not repository:
            raise UsageError(
                f"The layout does not record the repository of {entry.name!r}.",
                hint=f"Choose one: {self.registry}/some/repository, or --as some/repository.",
            )
        found = Reference(self.registry, repository, tag, None if tag else entry.root.digest)
        if len(found.name) > LONGEST_NAME:
            raise UsageError(f"{entry.name} would become {found}, which is longer than {LONGEST_NAME} characters.")
        return found


def _can_start(text: str) -> bool:
    """Return whether an image name can start with `text`: a path, or a registry with or without a path."""
    registry, _, path = text.partition("/")
    return is_repository(text) or (is_host(registry) and (not path or is_repository(path)))


def _rest(start: str, reference: Reference) -> str | None:
    """Return what follows `start` in an image name, with or without its registry; None if it starts otherwise."""
    for name in (reference.name, reference.repository):
        if f"{name}/".startswith(f"{start}/"):
            return name[len(start) + 1 :]
    return None


def _length(start: str, reference: Reference) -> tuple[int, bool]:
    """Rank the start of an image name by its length with the registry; on a tie, one that includes it wins."""
    explicit = f"{reference.name}/".startswith(f"{start}/")
    return len(start) + (0 if explicit else len(reference.registry) + 1), explicit


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)
