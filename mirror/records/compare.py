"""Two records of one image, compared figure by figure: the one that was published, and what is found.

The dates of layers are not compared: they are a registry's, not the image's. What the found side does not have at
hand is not compared either, and said.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from mirror.oci.descriptor import DOCKER_MANIFEST, OCI_MANIFEST
from mirror.oci.digest import Digest
from mirror.records import figures
from mirror.records.document import Record, RecordedImage, RecordedLayer, RecordedManifest, Runtime, Step

_LONG = 120  # characters of a text that are shown, around the first that differs
_BEFORE = 40
NOT_IN_PART = "it is not in this part of the image"
_RUNS = re.compile(r"^(?:RUN )* *")


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure that is not the same: where, what the record says, and what is there."""

    where: str
    recorded: str
    found: str


@dataclass(frozen=True, slots=True)
class Uncompared:
    """Figures that only one side has at hand: where, why, and of which manifest."""

    where: str
    why: str
    manifest: Digest


@dataclass(slots=True)
class Comparison:
    """What came out.

    `agreed` counts what is the same, by kind; `uncompared` is what could not be compared.
    """

    differences: list[Difference] = field(default_factory=list)
    uncompared: list[Uncompared] = field(default_factory=list)
    agreed: Counter[str] = field(default_factory=Counter)


def compare(recorded: Record, found: Record, *, part: bool = False) -> Comparison:
    """Compare what was recorded with what is found.

    Args:
        recorded: what is trusted, and whole.
        found: what there is. Where its `image` or `runtime` is None, that is not at hand.
        part: whether `found` is some of the manifests under another root, as after a pull of some platforms.
    """
    work = _Comparing(part, platforms=(recorded.media_type is None) is (found.media_type is None))
    if not part:
        work.same("digest", recorded.digest, found.digest, counted="digest")
        work.same("media type", recorded.media_type, found.media_type)
    order = []
    for number, theirs in enumerate(_partners(recorded.manifests, found.manifests), 1):
        ours = recorded.manifests[number - 1]
        work.manifest(f"manifest {number} ({ours.platform})", ours, found.manifests[theirs] if theirs >= 0 else None)
        order += [theirs] if theirs >= 0 else []
    for place in sorted(set(range(len(found.manifests))) - set(order)):
        extra = found.manifests[place]
        work.same(f"manifest {place + 1} that is found ({extra.platform})", None, extra.digest)
    if order != sorted(order):
        work.same("order of the manifests", _numbers(sorted(order)), _numbers(order))
    return work.done


def _partners(recorded: Sequence[RecordedManifest], found: Sequence[RecordedManifest]) -> list[int]:
    """For each manifest that is recorded, the place of the same one: by digest, else by platform; -1 where none is."""
    partners = [-1] * len(recorded)
    left = dict(enumerate(found))
    for key in _KEYS:
        waiting: dict[object, deque[int]] = {}
        for place, manifest in left.items():
            waiting.setdefault(key(manifest), deque()).append(place)
        for number, manifest in enumerate(recorded):
            if partners[number] < 0 and (queue := waiting.get(key(manifest))):
                partners[number] = queue.popleft()
                del left[partners[number]]
    return partners


_KEYS: tuple[Callable[[RecordedManifest], object], ...] = (
    lambda manifest: (manifest.digest, manifest.platform),
    lambda manifest: manifest.digest,
    lambda manifest: manifest.platform,
)


class _Comparing:
    """A comparison, as far as it has come."""

    def __init__(self, part: bool, platforms: bool) -> None:
        self.done = Comparison()
        self._part, self._platforms = part, platforms

    def same(self, where: str, recorded: object, found: object, *, counted: str = "") -> bool:
        """Compare one figure, and note it where it differs."""
        if recorded == found:
            self.done.agreed.update([counted] if counted else [])
            return True
        self.done.differences.append(Difference(where, *_excerpts(_text(recorded), _text(found))))
        return False

    def manifest(self, where: str, recorded: RecordedManifest, found: RecordedManifest | None) -> None:
        if found is None:
            if self._part:
                self._leave_open(where, NOT_IN_PART, recorded.digest)
            else:
                self.same(where, recorded.digest, None)
            return
        self.same(f"{where}: digest", recorded.digest, found.digest, counted="manifest")
        ours, theirs = recorded.image, found.image
        if self._platforms and (found.platform.known or (theirs and theirs.runtime)):
            # An index says more of a platform than a config; and where a config has to tell, it has to be here.
            self.same(f"{where}: platform", figures.platform(recorded.platform), figures.platform(found.platform))
        if ours and theirs:
            self._image(where, ours, theirs, recorded.digest)
        else:
            self._leave_open(where, "its manifest is not at hand", recorded.digest)

    def _image(self, where: str, recorded: RecordedImage, found: RecordedImage, manifest: Digest) -> None:
        if (recorded.media_type, found.media_type) != (DOCKER_MANIFEST, OCI_MANIFEST):
            # The public generator calls OCI manifests Docker's; what they really are, their digest covers.
            self.same(f"{where}: media type", recorded.media_type, found.media_type)
        self.same(f"{where}: image ID", recorded.image_id, found.image_id, counted="image ID")
        for number, (ours, theirs) in enumerate(zip_longest(recorded.layers, found.layers), 1):
            self._layer(f"{where}: layer {number}", ours, theirs)
        if recorded.runtime and found.runtime:
            self._runtime(where, recorded.runtime, found.runtime)
        else:
            self._leave_open(f"{where}: entrypoint, command and history", "its config is not at hand", manifest)
        if any(layer.size is None for layer in recorded.layers):
            self._leave_open(f"{where}: sizes of layers", "the record does not say them", manifest)

    def _leave_open(self, where: str, why: str, manifest: Digest) -> None:
        self.done.uncompared.append(Uncompared(where, why, manifest))

    def _layer(self, where: str, recorded: RecordedLayer | None, found: RecordedLayer | None) -> None:
        if recorded is None or found is None:
            self.same(where, recorded and recorded.digest, found and found.digest)
            return
        if recorded.digest != found.digest:
            sized = recorded.size not in (None, found.size)
            texts = (f"{one.digest}, {one.size} bytes" if sized else one.digest for one in (recorded, found))
            self.same(f"{where}: digest", *texts)
            return  # what else differs, does so because it is another layer
        agree = recorded.size is None or self.same(f"{where}: size", recorded.size, found.size)
        agree &= self.same(f"{where}: media type", recorded.media_type, found.media_type)
        self.done.agreed.update(["layer"] if agree else [])

    def _runtime(self, where: str, recorded: Runtime, found: Runtime) -> None:
        before = len(self.done.differences)
        self.same(f"{where}: Docker version", recorded.docker_version, found.docker_version)
        self.same(f"{where}: entrypoint", recorded.entrypoint, found.entrypoint)
        self.same(f"{where}: command", recorded.command, found.command)
        self.same(f"{where}: shell", recorded.shell, found.shell)
        self._history(f"{where}: history", recorded.history, found.history)
        self.done.agreed.update(["config"] if len(self.done.differences) == before else [])

    def _history(self, where: str, recorded: Sequence[Step], found: Sequence[Step]) -> None:
        """One difference, however many steps differ: after the first, most of them only say so again."""
        steps = list(zip_longest(recorded, found))
        other = [number for number, (ours, theirs) in enumerate(steps) if _shown(ours) != _shown(theirs)]
        if other:
            ours, theirs = steps[other[0]]
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            self.same(f"{where}, step {other[0] + 1}{more}", _whole(ours), _whole(theirs))


def _shown(step: Step | None) -> tuple[int | None, str] | None:
    return None if step is None else (step.created, _bare(step.command))


def _whole(step: Step | None) -> str | None:
    if step is None:
        return None
    return f"{'no date' if step.created is None else figures.http_date(step.created)}: {step.command}"


def _bare(command: str) -> str:
    """A command without the RUN that older generators put before every instruction, and the spaces that they left."""
    arguments, newline, text = command.rpartition("\n")
    return arguments + newline + _RUNS.sub("", text)


def _numbers(places: Sequence[int]) -> str:
    return ", ".join(str(place + 1) for place in places)


def _text(value: object) -> str:
    if value is None:
        return "nothing"
    return figures.words(value) if isinstance(value, tuple) else str(value)


def _excerpts(recorded: str, found: str) -> tuple[str, str]:
    """Both texts, or of long ones the part around the first character that differs."""
    if max(len(recorded), len(found)) <= _LONG:
        return recorded, found
    same = next(
        (i for i, (a, b) in enumerate(zip(recorded, found, strict=False)) if a != b), min(len(recorded), len(found))
    )
    start = max(0, same - _BEFORE)
    return _cut(recorded, start), _cut(found, start)


def _cut(text: str, start: int) -> str:
    return ("…" if start else "") + text[start : start + _LONG] + ("…" if len(text) > start + _LONG else "")
