"""What a layout or a registry holds: the result of `ls`, `inspect`, `rm` and `tags`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mirror.strictjson import JsonObject
from mirror.text import count, size, table

_FEW = 3  # platforms that are named in a table; the rest is counted


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of `ls`. `problem` is set where the image cannot be read; then nothing is known but its name.

    `referrers` counts the manifests that are about the image, and about those.
    """

    name: str
    digest: str
    media_type: str
    platforms: tuple[str, ...] = ()
    blobs: int = 0
    size: int = 0
    sparse: bool = False
    problem: str | None = None
    referrers: int = 0

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            "digest": self.digest,
            "mediaType": self.media_type,
            "platforms": list(self.platforms),
            "blobs": self.blobs,
            "size": self.size,
            "sparse": self.sparse,
            "problem": self.problem,
            "referrers": self.referrers,
        }

    def row(self) -> list[str]:
        few = ", ".join(self.platforms[:_FEW]) or "-"
        more = f" + {len(self.platforms) - _FEW} more" if len(self.platforms) > _FEW else ""
        notes = ["sparse"] if self.sparse else []
        notes += [count(self.referrers, "referrer")] if self.referrers else []
        noted = f" ({', '.join(notes)})" if notes else ""
        shown = "broken: see mirror verify" if self.problem else few + more + noted
        return [self.name, self.digest.partition(":")[2][:12], "-" if self.problem else size(self.size), shown]


@dataclass(frozen=True, slots=True)
class Listing:
    """The images of a layout; `size` and `referrers` count what several share once, and `size` both."""

    path: str
    images: tuple[Listed, ...]
    size: int
    referrers: int = 0

    def to_json(self) -> JsonObject:
        return {
            "schema": "mirror.ls/1",
            "path": self.path,
            "images": [image.to_json() for image in self.images],
            "size": self.size,
            "referrers": self.referrers,
        }

    def lines(self) -> list[str]:
        return table(["IMAGE", "DIGEST", "SIZE", "PLATFORMS"], [image.row() for image in self.images], right=[2])

    def summary(self) -> str:
        referrers = f", {count(self.referrers, 'referrer')}" if self.referrers else ""
        return f"{self.path}: {count(len(self.images), 'image')}{referrers}, {size(self.size)}."


@dataclass(frozen=True, slots=True)
class Part:
    """A blob of an image."""

    digest: str
    media_type: str
    size: int

    def to_json(self) -> JsonObject:
        return {"digest": self.digest, "mediaType": self.media_type, "size": self.size}


@dataclass(frozen=True, slots=True)
class Platformed:
    """One manifest of an image. `settings` are the fields of its config that tell what it runs.

    `about` is the digest of the image that an attestation is about.
    """

    platform: str | None
    manifest: Part
    config: Part | None
    layers: tuple[Part, ...]
    settings: JsonObject
    about: str | None = None

    @property
    def size(self) -> int:
        return sum(layer.size for layer in self.layers) + (self.config.size if self.config else 0)

    def to_json(self) -> JsonObject:
        return {
            "platform": self.platform,
            "manifest": self.manifest.to_json(),
            "config": self.config.to_json() if self.config else None,
            "layers": [layer.to_json() for layer in self.layers],
            "settings": self.settings,
            "about": self.about,
        }

    def lines(self) -> list[str]:
        title = f"attestation about {self.about}" if self.about else self.platform or "no platform"
        found = ["", f"{title}, {count(len(self.layers), 'layer')}, {size(self.size)}"]
        found.append(f"  manifest  {self.manifest.digest}")
        if self.config:
            found.append(f"  config    {self.config.digest}  {size(self.config.size)}")
        found += [f"  {name:<9} {_words(value)}" for name, value in self.settings.items()]
        for number, layer in enumerate(self.layers):
            found.append(f"  {'layers' if number == 0 else '':<9} {layer.digest}  {size(layer.size):>9}")
        return found


def _words(value: object) -> str:
    """A command as a shell would show it."""
    return shlex.join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True, slots=True)
class Referring:
    """A manifest that is about `subject`: by its own word, or by `tag`, where cosign put it."""

    subject: str
    manifest: Part
    artifact_type: str | None
    tag: str | None = None

    def to_json(self) -> JsonObject:
        return {
            "subject": self.subject,
            "manifest": self.manifest.to_json(),
            "artifactType": self.artifact_type,
            "tag": self.tag,
        }

    def lines(self) -> list[str]:
        return [
            "",
            f"referrer, {self.artifact_type or self.manifest.media_type}",
            f"  manifest  {self.manifest.digest}",
            f"  about     {self.subject}",
            *([f"  tag       {self.tag}"] if self.tag else []),
        ]


@dataclass(frozen=True, slots=True)
class Inspected:
    """One image, whole. `annotations` are those of its entry in the layout.

    `referrers` is None where nobody has looked for them: in a registry.
    """

    name: str
    root: Part
    parts: tuple[Platformed, ...]
    blobs: int
    size: int
    annotations: JsonObject
    raw: bytes
    referrers: tuple[Referring, ...] | None = None

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            **self.root.to_json(),
            "manifests": [part.to_json() for part in self.parts],
            "blobs": self.blobs,
            "blobSize": self.size,
            "annotations": dict(self.annotations),
            "referrers": None if self.referrers is None else [one.to_json() for one in self.referrers],
        }

    def lines(self) -> list[str]:
        head = [
            self.name,
            f"  digest    {self.root.digest}",
            f"  type      {self.root.media_type}",
            f"  content   {count(self.blobs, 'blob')}, {size(self.size)}",
            *(f"  {name}  {text}" for name, text in self.annotations.items()),
        ]
        referring = [line for one in self.referrers or () for line in one.lines()]
        return [*head, *(line for part in self.parts for line in part.lines()), *referring]


@dataclass(frozen=True, slots=True)
class Removed:
    """What `rm` has taken away; `kept` blobs are needed by other images, `attached` are the entries that went along."""

    name: str
    digest: str
    blobs: int
    size: int
    kept: int
    attached: Sequence[str] = ()

    def to_json(self) -> JsonObject:
        return {
            "schema": "mirror.rm/1",
            "name": self.name,
            "digest": self.digest,
            "deleted": {"blobs": self.blobs, "size": self.size},
            "kept": self.kept,
            "attached": list(self.attached),
        }

    def lines(self) -> list[str]:
        return [f"{self.name}@{self.digest}"]

    def summary(self) -> str:
        needed = "others are" if self.kept > 1 else "other is"
        kept = f"; {self.kept} {needed} needed by other images" if self.kept else ""
        along = f" and {count(len(self.attached), 'name')} of what refers to it" if self.attached else ""
        return f"removed {self.name}{along}: {count(self.blobs, 'file')} deleted, {size(self.size)} freed{kept}."


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a repository."""

    name: str
    tags: tuple[str, ...]

    def to_json(self) -> JsonObject:
        return {"schema": "mirror.tags/1", "name": self.name, "tags": list(self.tags)}

    def lines(self) -> list[str]:
        return list(self.tags)

    def summary(self) -> str:
        return f"{self.name}: {count(len(self.tags), 'tag')}."
