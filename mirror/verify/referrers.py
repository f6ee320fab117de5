"""The referrers of single images that are verified: an image that is copied or pushed is so with its referrers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from mirror.content.hashing import BlobCheck, Reader
from mirror.content.store import VerifiableStore
from mirror.errors import BrokenLayout, StorageError
from mirror.layout import Entry
from mirror.layout.implied import Relations
from mirror.layout.referring import can_refer, home
from mirror.oci import manifest
from mirror.oci.digest import Digest
from mirror.oci.referrers import tags_about


class _Stored(NamedTuple):
    """A store whose blobs can be listed; `checkpoint` is called for each of them."""

    store: VerifiableStore
    checkpoint: Callable[[], None]

    def stored(self) -> Iterator[tuple[str, str]]:
        for name in self.store.stored():
            self.checkpoint()
            yield name

    def look(self, digest: Digest) -> Reader | BlobCheck:
        return self.store.open(digest)


class ReferrersOf:
    """Finds what refers to manifests of the `images`: among the `entries` of the store, and where no entry leads to.

    Like a copy, it finds only what is in the repositories of the images. Creating it reads every small blob; it blocks.
    """

    def __init__(
        self,
        store: VerifiableStore,
        entries: Sequence[Entry],
        images: Sequence[Entry],
        checkpoint: Callable[[], None],
    ) -> None:
        self._homes = {home(image) for image in images}
        self._stored: dict[str, list[Entry]] = {}
        for entry in entries:
            self._stored.setdefault(entry.name, []).append(entry)
        self._by_name: dict[tuple[str | None, str | None], list[Entry]] = {}
        relations = Relations(_Stored(store, checkpoint))
        with suppress(StorageError, BrokenLayout):  # reported with the images: nothing else can be read either
            relations.update()
        for entry in filter(can_refer, relations.complete(entries)):
            self._by_name.setdefault((home(entry), entry.tag), []).append(entry)

    def __call__(self, subject: Digest) -> Iterator[Entry]:
        """Yield entries with the manifests that refer to `subject`."""
        for where in self._homes:
            for tag in tags_about(subject):
                for entry in self._by_name.get((where, tag), ()):
                    yield from self._as_stored(entry)

    def _as_stored(self, entry: Entry) -> Iterator[Entry]:
        """Yield what is in the store of an entry that `Relations.complete` has made."""
        yield from self._stored.get(entry.name, self._stored.get(entry.root.digest, ()))  # cosign 2 names none
        if entry.root.data:
            document = manifest.parse(entry.root.data, entry.root.media_type, entry.root.digest)
            yield from map(Entry.of, document.manifests)
