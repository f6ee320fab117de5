"""The results of a transfer so far, counted image by image, and its report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from mirror.content.plan import Plan
from mirror.layout.referrers import members, subjects_of
from mirror.layout.referring import can_refer, home
from mirror.oci.digest import Digest
from mirror.oci.referrers import tags_about
from mirror.report.transfers import PAST, Amount, TransferredImage, TransferReport
from mirror.text import count
from mirror.transfer.image import ImageTransfer
from mirror.transfer.layout_target import LayoutTarget
from mirror.transfer.target import ImageTarget


class Outcome:
    """The result rows, blobs and warnings of one transfer from the store `where`.

    `left_out` are referrers that were found but not copied, because the target cannot hold them.
    """

    def __init__(self, verb: str, where: str) -> None:
        self.referrer_warnings: list[str] = []
        self.left_out: set[Digest] = set()
        self._verb, self._where, self._started = verb, where, time.monotonic()
        self._rows: dict[ImageTransfer, TransferredImage] = {}  # an image that is transferred again has one row
        self._moved: dict[tuple[Digest, int], None] = {}
        self._reused: dict[Digest, int] = {}
        self._healed: set[Digest] = set()
        self._warnings: dict[ImageTransfer, list[str]] = {}  # replaced, too
        # Images that may refer to another of these images, by repository and tag.
        self._possible_referrers: dict[tuple[str | None, str | None], str] = {}
        self._members: dict[str, int] = {}  # the number of manifests in each that refer to others
        self._referring: set[str] = set()  # those that do refer to another image

    def expect(self, images: Sequence[ImageTransfer]) -> None:
        """Note which of these images could refer to others, judging by their names."""
        for image in images:
            if image.image.entry and can_refer(image.image.entry):
                self._possible_referrers[home(image.image.entry), image.image.entry.tag] = image.image.label

    def count(self, plan: Plan, target: ImageTarget) -> None:
        """Count the blobs of a plan that has been carried out, or that would be in a dry run."""
        self._moved |= {(node.digest, node.size): None for node in plan.missing}
        self._reused |= {node.digest: node.size for node in plan.reused}
        if isinstance(target, LayoutTarget):
            self._healed |= target.lacking(plan)

    def add(self, images: Sequence[ImageTransfer], target: ImageTarget) -> None:
        """Add the results of images, and free everything else that they hold."""
        for image in images:
            self._warnings.pop(image, None)  # of an attempt before
            if image.selected:
                texts = [*image.chosen.warnings, *target.warnings(image)]
                self._warnings[image] = [*texts, *self._foreign(image, target), *self._parts(image)]
                self._note_referring(image)
            self._rows[image] = image.result()
            image.selected = image.referrers = image.task = None
            if image.entry:
                image.entry = image.entry._replace(root=replace(image.entry.root, data=None))

    def _note_referring(self, image: ImageTransfer) -> None:
        if not self._possible_referrers:
            return
        entry = image.at_source
        if can_refer(entry):
            self._members[entry.name] = len(members(entry, image.graph))
        for subject in subjects_of(entry, image.graph):
            keys = ((home(entry), tag) for tag in tags_about(subject))
            self._referring |= {self._possible_referrers[key] for key in keys if key in self._possible_referrers}

    def _foreign(self, image: ImageTransfer, target: ImageTarget) -> list[str]:
        """Return a warning about foreign layers (OCI image-spec, layer.md, "Non-Distributable Layers")."""
        text = f"not {PAST[self._verb]}: such layers stay where they are stored."
        if self._verb in ("push", "copy") and not target.takes_foreign:
            text += f" --include-foreign pushes those that {self._where} has."
        elif self._verb == "push":
            text = f"not pushed: {self._where} does not have them. Pull the image again with --include-foreign."
        elif self._verb == "pull":
            text = "left out: registries do not store such layers. --include-foreign fetches them from their URLs."
        number = len(image.graph.foreign.keys() - image.graph.blobs.keys())
        return [f"{image.image.label}: {count(number, 'foreign layer')} {text}"] if number else []

    def _parts(self, image: ImageTransfer) -> list[str]:
        """Return a warning about an image that the store has only partly, without a record of that."""
        missing = image.graph.absent.keys() - image.graph.unsupported.keys()
        absent = [digest for digest in missing if not image.at_source.lacks(image.graph.absent[digest])]
        if not (absent and image.image.entry and image.chosen.root.digest == image.chosen.published):
            return []
        kept = len(image.graph.kept)
        return [
            f"{image.name}: {self._where} has {kept} of the {kept + len(absent)} manifests of its index; "
            f"the others are {'not pushed' if self._verb == 'push' else 'recorded as absent'}."
        ]

    def report(self, target: ImageTarget, *, dry_run: bool) -> TransferReport:
        writer = target.writer if isinstance(target, LayoutTarget) else None
        left_out = self.left_out - {row.digest for row in self._rows.values()}
        if left_out:
            stay = "stays" if len(left_out) == 1 else "stay"
            text = f"{count(len(left_out), 'referrer')} of these images {stay} out: docker has no place for them."
            self.referrer_warnings.append(text)
        return TransferReport(
            verb=self._verb,
            images=tuple(
                replace(row, as_referrer=self._members.get(row.source, 0) if row.source in self._referring else 0)
                for row in self._rows.values()
            ),
            moved=Amount(len(self._moved), sum(size for _, size in self._moved)),
            reused=Amount(len(self._reused), sum(self._reused.values())),
            seconds=time.monotonic() - self._started,
            dry_run=dry_run,
            healed=tuple(sorted(self._healed | set(writer.damaged))) if writer else (),
            moved_aside=tuple(map(str, writer.quarantined_files)) if writer else (),
            resumed=writer.resumed if writer else 0,
            disk=target.disk if dry_run else None,
            warnings=tuple(dict.fromkeys((*chain(*self._warnings.values()), *self.referrer_warnings))),
        )
