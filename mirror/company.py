"""What refers to images that somebody has chosen from a layout or an archive, to go with them (docs/adr/0012)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mirror.attachments import Attachment, beside, companions
from mirror.layout import Entry
from mirror.layout.attached import Attachments, subjects_of
from mirror.outgoing import Outgoing, Store, offer, whole
from mirror.report.transfers import Companions, TransferReport


class Listed(Store, Protocol):
    """A store that lists its images."""

    def entries(self) -> list[Entry]: ...


@dataclass(frozen=True, slots=True)
class Party:
    """Images that go together: where some were chosen, these, what refers to them, and `about` how much that is."""

    images: Sequence[Outgoing]
    about: Sequence[Companions] | None = None

    def counted(self, report: TransferReport) -> TransferReport:
        """A report of them all, as one of those that were chosen."""
        if self.about is None:
            return report
        pairs = zip(report.images, self.about, strict=False)
        return replace(report, images=tuple(replace(image, referrers=about) for image, about in pairs))


async def accompanied(source: Listed, chosen: Sequence[Outgoing]) -> Party:
    """Find what refers to images, and to that. What cannot be read stays behind, and is counted as a failure.

    Raises:
        MirrorError: as `outgoing.whole`.
    """
    known = Attachments(source, source.entries())
    more: dict[str, Entry] = {}
    about = []
    for image in chosen:
        attached = await known.of(image.offer.entry, image.graph)
        called = {beside(image.offer.name, one.entry): one for one in attached if not one.failure}
        found = [Attachment(one.subject, name, one.graph, one.entry.root, one.members) for name, one in called.items()]
        failures = {one.subject: one.failure for one in attached if one.failure}
        about.append(companions(subjects_of(image.offer.entry, image.graph), found, failures))
        more |= {name: one.entry for name, one in called.items()}
    for image in chosen:
        more.pop(image.offer.name, None)
    return Party([*chosen, *[await whole(await offer(source, *one)) for one in more.items()]], about)
