"""The part of an image that a layout already has: a transfer adds to it, and drops nothing of it (docs/adr/0019)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from mirror.content.graph import Keep
from mirror.content.image_config import platform_of, read_config
from mirror.content.select import PlatformSelection, SelectedImage, select
from mirror.content.store import Source
from mirror.content.walk import leaves, read_node
from mirror.content.wrappers import FallbackSource
from mirror.errors import MirrorError, UsageError
from mirror.layout import Entry, Layout
from mirror.oci.descriptor import Descriptor, Platform
from mirror.oci.platforms import INDEX, fits
from mirror.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class HeldImage:
    """An image in a layout, when another version or part of it is about to get its name.

    Attributes:
        entry: its entry.
        published: the digest of the index that it was selected from, or of its root.
        children: its manifests, without indexes.
        complete: the layout has everything that was published.
    """

    entry: Entry
    published: str
    children: tuple[Descriptor, ...]
    complete: bool

    @classmethod
    async def read(cls, layout: Layout, entry: Entry) -> HeldImage:
        """Read the indexes of an image, or the platform of an image without an index. Damaged content is left out."""
        root, published = entry.root, entry.root.annotations.get(INDEX, entry.root.digest)
        children = [root]
        with suppress(MirrorError):
            if root.is_index:
                children = []
                children = [child for child in (await leaves(layout, root)).children if not child.is_index]
            elif root.platform is None:
                config = await read_config(layout, await read_node(layout, root))
                children = [replace(root, platform=platform_of(config) if config else None)]
        held = tuple(filter(await layout.there(entry), children)) if children else ()
        sparse = len(held) < len(children) or (entry.kept is not None and not children)
        return cls(entry, published, held, published == root.digest and not sparse)

    @property
    def platforms(self) -> tuple[str, ...]:
        known = [str(child.platform) for child in self.children if child.platform and child.platform.known]
        return tuple(dict.fromkeys(known))

    def has_moved(self, published: str, children: Sequence[Descriptor]) -> bool:
        """Return whether the name now stands for another published image, with these `children` if it is an index.

        An image that another tool has stored alone may be one of them.
        """
        return published != self.published and all(child.digest != self.entry.root.digest for child in children)

    def keeps(self, root: Descriptor, children: Sequence[Descriptor]) -> Keep:
        """Return which children of the published index `root` the layout has, or had of the earlier index."""
        if self.complete and self.entry.root.is_index:
            return lambda _: True
        if self.has_moved(root.digest, children):
            return lambda child: _fits_any(self._any_version, child.platform)
        digests = {child.digest for child in self.children} | (self.entry.kept or set())
        return lambda child: child.digest in digests

    @property
    def _any_version(self) -> list[Platform]:
        """The platforms without their versions, which change from one version of a Windows image to the next."""
        return [replace(child.platform, os_version=None) for child in self.children if child.platform]

    def lost(self, selected: SelectedImage) -> tuple[str, ...]:
        """Return the platforms that the layout has, and that are not selected."""
        offered = _parsed(selected)
        lost = [one for one in self._any_version if one.known and not any(fits(one, other) for other in offered)]
        return tuple(dict.fromkeys(map(str, lost)))

    def notes(self, name: str, selected: SelectedImage, requested: Sequence[Platform], *, moved: bool) -> list[str]:
        """Return warnings about platforms that are kept although they were not `requested`, or dropped."""
        texts = []
        kept = [str(platform) for platform in _parsed(selected) if requested and not _fits_any(requested, platform)]
        if kept:
            what = "fetched too, because the layout had it" if moved else "kept"
            texts.append(f"{name}: {', '.join(kept)}: {what}. --replace drops the platforms that are not requested.")
        if lost := self.lost(selected):
            texts.append(f"{name}: {', '.join(lost)}: no longer part of the image in the layout.")
        return texts


async def merged(
    held: HeldImage,
    layout: Layout,
    source: Source,
    where: str,
    entry: Entry,
    selected: SelectedImage,
    retry: RetryPolicy,
) -> tuple[Entry, SelectedImage]:
    """Add to the `selected` part of a local image what the layout has of the same published index.

    Return the entry and the parts together. Raise UsageError if the layout would lose a platform that the store `where`
    does not have.
    """
    old = {child.digest for child in held.children}
    new = set(selected.graph.kept) if selected.root.is_index else {selected.root.digest}
    same = held.published == entry.root.annotations.get(INDEX, selected.published)
    if new <= old and held.entry.root.is_index:
        entry = held.entry
    elif old <= new or (not same and not held.lost(selected)):
        return entry, selected
    elif same and held.published == held.entry.root.digest:
        entry = held.entry
    elif not same or held.published != selected.root.digest:
        raise UsageError(
            f"{held.entry.name} in {layout.path} is for {', '.join(held.platforms)}, but in {where} only for "
            f"{', '.join(selected.platforms)}. The other platforms would be lost.",
            hint="To replace the image: --replace. To keep both, give the new one another name: --as NAME.",
        )
    both = FallbackSource(layout, source)
    whole = PlatformSelection(all=True)
    wanted = old | new
    return entry, await select(
        both, entry.root, whole, entry.name, retry, lambda child: child.is_index or child.digest in wanted
    )


def _parsed(selected: SelectedImage) -> list[Platform]:
    """Return the platforms of an image; an index may contain names that no user could type."""
    found = []
    for text in selected.platforms:
        with suppress(MirrorError):
            found.append(Platform.parse(text))
    return found


def _fits_any(wanted: Sequence[Platform], offered: Platform | None) -> bool:
    return any(fits(platform, offered) for platform in wanted)
