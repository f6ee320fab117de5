"""Compare two records of one image, value by value: the one that was published, and one of the image that was found.

The dates of layers are not compared: they belong to a registry, not to the image. Values that only one record has are
listed as not compared.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import zip_longest

from mirror.oci.descriptor import DOCKER_MANIFEST, OCI_MANIFEST
from mirror.oci.digest import Digest
from mirror.records.document import HistoryEntry, Record, RecordedConfig, RecordedImage, RecordedLayer, RecordedManifest
from mirror.records.formatting import format_http_date, format_list, format_platform

_MAX_SHOWN = 120  # characters of a text, around the first difference
_CONTEXT = 40  # characters in front of the first difference
_RUN_PREFIX = re.compile(r"^(?:RUN )* *")


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs: its place in the image, the value in the record, and the value found."""

    where: str
    recorded: str
    found: str


class Reason(StrEnum):
    """A reason why values could not be compared."""

    NOT_SELECTED = "it is not among the selected platforms"
    NO_MANIFEST = "its manifest is not available"
    NO_CONFIG = "its config is not available"
    NOT_RECORDED = "the record does not contain them"


@dataclass(frozen=True, slots=True)
class NotCompared:
    """Values that only one record has: where, why, and in which manifest."""

    where: str
    reason: Reason
    manifest: Digest


@dataclass(slots=True)
class Comparison:
    """The result of a comparison. `agreed` counts the equal values by kind."""

    differences: list[Difference] = field(default_factory=list)
    not_compared: list[NotCompared] = field(default_factory=list)
    agreed: Counter[str] = field(default_factory=Counter)


def compare(recorded: Record, found: Record, *, partial: bool = False) -> Comparison:
    """Compare a trusted, complete record with that of the image that was found.

    `partial`: `found` has only some of the manifests under another root, as after a pull of some platforms.
    """
    comparer = _Comparer(partial, platforms=(recorded.media_type is None) is (found.media_type is None))
    if not partial:
        comparer.compare("digest", recorded.digest, found.digest, kind="digest")
        comparer.compare("media type", recorded.media_type, found.media_type)
    partners = _partners(recorded.manifests, found.manifests)
    for number, (manifest, partner) in enumerate(zip(recorded.manifests, partners, strict=True), 1):
        other = None if partner is None else found.manifests[partner]
        comparer.compare_manifest(f"manifest {number} ({manifest.platform})", manifest, other)
    order = [partner for partner in partners if partner is not None]
    for index in sorted(set(range(len(found.manifests))) - set(order)):
        extra = found.manifests[index]
        comparer.compare(f"additional manifest {index + 1} ({extra.platform})", None, extra.digest)
    if order != sorted(order):
        before, after = (", ".join(str(index + 1) for index in indexes) for indexes in (sorted(order), order))
        comparer.compare("order of the manifests", before, after)
    return comparer.result


def _partners(recorded: Sequence[RecordedManifest], found: Sequence[RecordedManifest]) -> list[int | None]:
    """Return, for each recorded manifest, the index of its partner in `found`: by digest, or else by platform."""
    keys: tuple[Callable[[RecordedManifest], object], ...] = (
        lambda manifest: (manifest.digest, manifest.platform),
        lambda manifest: manifest.digest,
        lambda manifest: manifest.platform,
    )
    partners: list[int | None] = [None] * len(recorded)
    unmatched = dict(enumerate(found))
    for key in keys:
        candidates: dict[object, deque[int]] = {}
        for index, manifest in unmatched.items():
            candidates.setdefault(key(manifest), deque()).append(index)
        for number, manifest in enumerate(recorded):
            if partners[number] is None and (queue := candidates.get(key(manifest))):
                partners[number] = index = queue.popleft()
                del unmatched[index]
    return partners


class _Comparer:
    """Compares one part after the other, and collects the result."""

    def __init__(self, partial: bool, platforms: bool) -> None:
        self.result = Comparison()
        self._partial, self._platforms = partial, platforms

    def compare(self, where: str, recorded: object, found: object, *, kind: str = "") -> bool:
        """Compare one value. If it is equal, count it under `kind`, otherwise note the difference."""
        if recorded == found:
            self.result.agreed.update([kind] if kind else [])
            return True
        self.result.differences.append(Difference(where, *_excerpts(_text(recorded), _text(found))))
        return False

    def compare_manifest(self, where: str, recorded: RecordedManifest, found: RecordedManifest | None) -> None:
        if found is None:
            if self._partial:
                self._skip(where, Reason.NOT_SELECTED, recorded.digest)
            else:
                self.compare(where, recorded.digest, None)
            return
        self.compare(f"{where}: digest", recorded.digest, found.digest, kind="manifest")
        if self._platforms and (found.platform.known or (found.image and found.image.config)):
            # Without a platform in the index, only the config has it.
            self.compare(f"{where}: platform", format_platform(recorded.platform), format_platform(found.platform))
        if recorded.image and found.image:
            self._compare_image(where, recorded.image, found.image, recorded.digest)
        else:
            self._skip(where, Reason.NO_MANIFEST, recorded.digest)

    def _compare_image(self, where: str, recorded: RecordedImage, found: RecordedImage, manifest: Digest) -> None:
        if (recorded.media_type, found.media_type) != (DOCKER_MANIFEST, OCI_MANIFEST):
            # The public generator prints Docker's type for OCI manifests, too; the digest covers the real one.
            self.compare(f"{where}: media type", recorded.media_type, found.media_type)
        self.compare(f"{where}: image ID", recorded.image_id, found.image_id, kind="image ID")
        for number, (ours, theirs) in enumerate(zip_longest(recorded.layers, found.layers), 1):
            self._compare_layer(f"{where}: layer {number}", ours, theirs)
        if recorded.config and found.config:
            self._compare_config(where, recorded.config, found.config)
        else:
            self._skip(f"{where}: entrypoint, command and history", Reason.NO_CONFIG, manifest)
        if any(layer.size is None for layer in recorded.layers):
            self._skip(f"{where}: sizes of layers", Reason.NOT_RECORDED, manifest)

    def _compare_layer(self, where: str, recorded: RecordedLayer | None, found: RecordedLayer | None) -> None:
        if recorded is None or found is None:
            self.compare(where, recorded and recorded.digest, found and found.digest)
            return
        if recorded.digest != found.digest:
            with_sizes = recorded.size not in (None, found.size)
            texts = (f"{one.digest}, {one.size} bytes" if with_sizes else one.digest for one in (recorded, found))
            self.compare(f"{where}: digest", *texts)
            return  # for another layer, the other differences follow
        agree = recorded.size is None or self.compare(f"{where}: size", recorded.size, found.size)
        agree &= self.compare(f"{where}: media type", recorded.media_type, found.media_type)
        self.result.agreed.update(["layer"] if agree else [])

    def _compare_config(self, where: str, recorded: RecordedConfig, found: RecordedConfig) -> None:
        before = len(self.result.differences)
        self.compare(f"{where}: Docker version", recorded.docker_version, found.docker_version)
        self.compare(f"{where}: entrypoint", recorded.entrypoint, found.entrypoint)
        self.compare(f"{where}: command", recorded.command, found.command)
        self.compare(f"{where}: shell", recorded.shell, found.shell)
        steps = list(zip_longest(recorded.history, found.history))
        different = [number for number, pair in enumerate(steps) if _normalized(pair[0]) != _normalized(pair[1])]
        if different:  # note only the first step: the differences after it usually follow from it
            more = f" and {len(different) - 1} more" if len(different) > 1 else ""
            self.compare(f"{where}: history, step {different[0] + 1}{more}", *map(_step_text, steps[different[0]]))
        self.result.agreed.update(["config"] if len(self.result.differences) == before else [])

    def _skip(self, where: str, reason: Reason, manifest: Digest) -> None:
        self.result.not_compared.append(NotCompared(where, reason, manifest))


def _normalized(entry: HistoryEntry | None) -> tuple[int | None, str] | None:
    """Return an entry without the RUN and the spaces that older generators put before every instruction."""
    if entry is None:
        return None
    arguments, newline, instruction = entry.command.rpartition("\n")
    return entry.created, arguments + newline + _RUN_PREFIX.sub("", instruction)


def _step_text(entry: HistoryEntry | None) -> str | None:
    if entry is None:
        return None
    return f"{'no date' if entry.created is None else format_http_date(entry.created)}: {entry.command}"


def _text(value: object) -> str:
    if value is None:
        return "nothing"
    return format_list(value) if isinstance(value, tuple) else str(value)


def _excerpts(recorded: str, found: str) -> tuple[str, str]:
    """Return both texts, shortened to the part around the first difference if they are long."""
    if max(len(recorded), len(found)) <= _MAX_SHOWN:
        return recorded, found
    pairs = enumerate(zip(recorded, found, strict=False))
    first = next((index for index, (ours, theirs) in pairs if ours != theirs), min(len(recorded), len(found)))
    start = max(0, first - _CONTEXT)
    end = start + _MAX_SHOWN
    before, after = (
        ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "") for text in (recorded, found)
    )
    return before, after
