"""The catalog, and what each repository contains, kept up to date with `index.json`.

A layout may change while it is served: `mirror pull` replaces `index.json` atomically, other tools write it in place.
Its state is checked on every request, which takes one system call, and it is read again when it has changed. If it is
broken, a warning is logged, and the previous images are still served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

from mirror.errors import MirrorError
from mirror.fs.filestate import FileState
from mirror.layout import Entry, Layout
from mirror.layout.implied import Relations
from mirror.layout.index import CAP, entries
from mirror.serve import parts
from mirror.serve.blobs import BlobStore
from mirror.serve.catalog import Catalog, Repository
from mirror.serve.content import RepositoryContent, read_content

log = logging.getLogger(__name__)

_RETRY_AFTER = 1.0  # seconds until a repository with unreadable manifests is read again


class CatalogCache:
    """The repositories of the served layouts, and their content."""

    def __init__(self, layouts: Sequence[Layout], store: BlobStore) -> None:
        self._store = store
        self._indexes = [_IndexFile(layout) for layout in layouts]
        self._catalog = Catalog()
        self._content: dict[str, tuple[RepositoryContent, float]] = {}
        self._reloading, self._reading = asyncio.Lock(), asyncio.Lock()

    async def catalog(self) -> Catalog:
        """Return the repositories, according to each `index.json` as it was last readable."""
        if any(index.is_stale for index in self._indexes):
            async with self._reloading:
                stale = [index for index in self._indexes if index.is_stale]
                changed = [await self._store.run_in_thread(index.reload) for index in stale]
                if any(changed):
                    self._catalog = Catalog.of([(index.layout.path, index.entries) for index in self._indexes])
                    self._content = {}
                    for warning in (*self._catalog.warnings, *await self._store.run_in_thread(self._parts)):
                        log.warning("%s", warning)
        return self._catalog

    def _parts(self) -> list[str]:
        """Return warnings about images that have only some of their platforms. Blocks."""
        read, holds = self._store.read, self._store.holds
        return [text for one in self._indexes for text in parts.warnings(one.layout.path, one.entries, read, holds)]

    @property
    def is_readable(self) -> bool:
        """False while an `index.json` is broken, and the previous images are served."""
        return not any(index.error for index in self._indexes)

    async def content(self, repository: Repository) -> RepositoryContent:
        """Return what a repository contains. It is read on first use, and again later if it was incomplete."""
        content = self._cached(repository)
        if content:
            return content
        async with self._reading:
            content = self._cached(repository)
            if content is None:
                cache = self._content  # belongs to the catalog with `repository`; a reload meanwhile starts a new one
                reading = partial(
                    read_content, repository.name, repository.entries, self._store.read, self._store.holds
                )
                content = await self._store.run_in_thread(reading)
                cache[repository.name] = (content, time.monotonic())
                if content.excess:
                    log.warning("%s Not all of it is served.", content.excess)
        return content

    def _cached(self, repository: Repository) -> RepositoryContent | None:
        content, read_at = self._content.get(repository.name, (None, 0.0))
        return content if content and (content.complete or time.monotonic() - read_at < _RETRY_AFTER) else None


class _IndexFile:
    """The `index.json` of one layout: its entries, and the state of the file when they were read."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.entries: list[Entry] = []
        self._relations = Relations(layout)
        self._data = b""
        self._state: FileState | None = None
        self.error = ""

    @property
    def is_stale(self) -> bool:
        return self._state is None or self._state != self._current_state()

    def reload(self) -> bool:
        """Read the file again. Return True if the entries have changed. The same error is logged only once."""
        state = self._current_state()
        try:
            data = self.layout.read("index.json", CAP)
            changed = data != self._data
            found = self.entries
            if changed:
                self._relations.update()
                found = self._relations.complete(entries(data))
        except MirrorError as error:
            changed, message = False, str(error)
            if message != self.error:
                log.warning("%s: %s The previous images are still served.", self.layout.path, message)
            self.error = message
        else:
            self.error, self._data, self.entries = "", data, found
        # A second change within one tick of a coarse clock would go unnoticed, so a new file is read every time.
        self._state = state if state and state.is_settled else None
        return changed

    def _current_state(self) -> FileState | None:
        try:
            status = self.layout.root.status("index.json")
        except MirrorError:
            return None
        return FileState.of(status) if status else None
