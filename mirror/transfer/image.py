"""One image that is transferred from one store to another, and the part of it that is copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mirror.content.graph import Graph
from mirror.content.plan import CopyTask
from mirror.content.select import SelectedImage
from mirror.content.store import Sink, Source
from mirror.errors import MirrorError, UnsupportedManifest, UsageError
from mirror.layout import Entry, names
from mirror.layout.referring import is_list
from mirror.oci.digest import Digest
from mirror.oci.platforms import INDEX
from mirror.oci.reference import Reference
from mirror.report.transfers import TransferredImage, pinned
from mirror.stores.images import StoreImage
from mirror.transfer.referrers import ReferrerCopies, for_registry


@dataclass(eq=False, slots=True)
class ImageTransfer:
    """An image, from its name at the source to its result at the target.

    `name` is its full name or tag at the target, `place` its reference there if that is a registry. `duplicates` are
    other images of the source with the same content and place; only their referrers are copied. `entry` is set when
    the image is resolved, `selected` when it has been walked, `task` when it is being copied. `before` is the other
    digest that its name stands for at the target, if that is known before the copy. `notes` are warnings about what
    the target has of it.
    """

    image: StoreImage
    name: str
    place: Reference | None = None
    duplicates: list[StoreImage] = field(default_factory=list)
    entry: Entry | None = None
    selected: SelectedImage | None = None
    referrers: ReferrerCopies | None = None
    task: CopyTask | None = None
    before: Digest | None = None
    notes: list[str] = field(default_factory=list)
    error: MirrorError | None = None

    @property
    def failure(self) -> MirrorError | None:
        return self.error or (self.task.failure if self.task else None)

    @property
    def at_source(self) -> Entry:
        assert self.entry is not None, "resolved before"
        return self.entry

    @property
    def at_target(self) -> Reference:
        assert self.place is not None, "pushed to a registry"
        return self.place

    @property
    def host(self) -> str:
        """The registry that the image is copied to, or from; empty if there is none."""
        place = self.place or (None if self.image.entry else self.image.reference)
        return place.registry if place else ""

    @property
    def chosen(self) -> SelectedImage:
        assert self.selected is not None, "walked before"
        return self.selected

    @property
    def copied(self) -> Entry:
        """The entry of the image, with the root that is copied."""
        return self.at_source._replace(root=self.chosen.root)

    @property
    def graph(self) -> Graph:
        return self.chosen.graph

    def to(self, source: Source, sink: Sink) -> CopyTask:
        """Return the task that copies the image."""
        if self.place and is_list(self.copied):
            self.task = CopyTask(source, sink, *for_registry(self.copied, self.graph))
        else:
            name = self.place.target if self.place else self.name
            self.task = CopyTask(source, sink, self.graph, name, self.chosen.root)
        self.task.label, self.task.host = self.image.label, self.host
        return self.task

    def forget(self) -> None:
        """Prepare to transfer the image again, because the target has changed."""
        self.before, self.notes, self.error = None, [], None

    @property
    def digest(self) -> str:
        """The digest of what is copied, or would be; empty if the image could not be resolved."""
        root = self.selected.root if self.selected else self.image.entry.root if self.image.entry else None
        return root.digest if root else ""

    @property
    def line(self) -> str:
        """The result line: the name at the target, with the digest."""
        return self.place.pinned(Digest(self.digest)) if self.place else pinned(self.name, self.digest)

    def result(self) -> TransferredImage:
        return TransferredImage(
            source=self.image.label,
            image=self.line,
            digest=self.digest,
            platforms=self.selected.platforms if self.selected else (),
            replaced=None if self.failure else self.before or (self.task.replaced if self.task else None),
            error=self.failure,
            referrers=self.referrers.summary() if self.referrers else None,
            left_behind=left_behind(self.graph) if self.selected else None,
        )


def left_behind(graph: Graph, where: str = "") -> UnsupportedManifest | None:
    """Return the error for the children of an image that could not be followed, and were therefore not copied.

    `where` says what requires them, so that the image is not copied either.
    """
    left = list(graph.unsupported.values())
    if not left:
        return None
    shown = ", ".join(f"{node.digest} ({node.media_type[:80]})" for node in left)
    what = "manifest of an unsupported type was" if len(left) == 1 else "manifests of unsupported types were"
    text = where or "with everything that only such manifests reference"
    hint = "Convert it, use a tool that supports this type, or copy the other platforms with mirror copy --platform."
    return UnsupportedManifest(f"{len(left)} {what} left behind, {text}: {shown}.", hint=hint)


def name_images(images: Sequence[StoreImage], given: str | None, where: str) -> list[ImageTransfer]:
    """Name images of the store `where` in a layout or an archive: as in their store, or `given` if there is only one.

    The one image may have several names in its store.

    Raise UsageError if two images would have the same full name, and one of them would be lost.
    """
    if given is not None:
        images = list({image.entry.root.digest if image.entry else image.label: image for image in images}.values())
        return [ImageTransfer(only(images, given, where), Reference.parse(given).stored)]
    named: dict[str, StoreImage] = {}
    for image in images:
        other = named.setdefault(image.name, image)
        if image.entry and other.entry and image.reference and image.entry.root.digest != other.entry.root.digest:
            raise UsageError(
                f"{where} has two images called {image.name}.",
                hint=f"Choose one by its digest: {other.entry.root.digest} or {image.entry.root.digest}.",
            )
    return [ImageTransfer(image, image.name) for image in images]


def only(images: Sequence[StoreImage], name: str, where: str) -> StoreImage:
    """Return the only image of the store `where`, to be called `name`; raise UsageError if there are several."""
    if len(images) > 1:
        shown = ", ".join(image.label for image in images[:3]) + (", …" if images[3:] else "")
        raise UsageError(
            f"{where} contains {len(images)} images, but {name} names one.", hint=f"Choose one of them: {shown}"
        )
    return images[0]


def record(entry: Entry, selected: SelectedImage, holds: Callable[[Digest], bool]) -> SelectedImage:
    """Record in an image's annotations what is intentionally absent from it and what it was selected from.

    Foreign layers that the source `holds` are added to its graph.
    """
    graph = selected.graph
    for digest, layer in graph.foreign.items():
        if holds(digest):
            graph.blobs[digest] = layer
    outdated = (names.SPARSE, names.FOREIGN)
    annotations = {key: text for key, text in entry.root.annotations.items() if key not in outdated}
    if graph.absent:
        annotations[names.SPARSE] = ",".join(graph.kept)
    if omitted := graph.foreign.keys() - graph.blobs.keys():
        annotations[names.FOREIGN] = ",".join(sorted(omitted))
    if selected.root.digest != selected.published:
        annotations[INDEX] = selected.published
    return replace(selected, root=replace(selected.root, annotations=annotations, data=None))
