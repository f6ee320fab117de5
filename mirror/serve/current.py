"""The catalog as `index.json` is now, and what each repository holds.

A layout changes while it is served: `mirror pull` replaces `index.json` as a whole, other tools write it in place. Its
state is looked at with every request, which costs a system call; where it has changed it is read again. One that is
broken changes nothing but the log: what was served before still is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from mirror.content.graph import MOST_BYTES
from mirror.errors import MirrorError
from mirror.fs.stamp import Stamp
from mirror.layout import Entry, Layout
from mirror.layout.index import CAP, entries
from mirror.serve.catalog import Catalog, Repository
from mirror.serve.content import RepositoryContent, survey
from mirror.serve.store import Store

_PATIENCE = 1.0  # seconds until a repository with something broken in it is looked through again


class Current:
    """What is served at this moment. `say` takes sentences for the person who runs the server."""

    def __init__(self, layouts: Sequence[Layout], store: Store, say: Callable[[str], None]) -> None:
        self._store, self._say = store, say
        self._indexes = [_Index(layout) for layout in layouts]
        self._catalog = Catalog()
        self._holdings: dict[str, tuple[RepositoryContent, float]] = {}
        self._reading, self._surveying = asyncio.Lock(), asyncio.Lock()

    async def catalog(self) -> Catalog:
        """The repositories, by `index.json` as it is now, or was when it could last be read."""
        if any(one.moved for one in self._indexes):
            async with self._reading:
                await self._read()
        return self._catalog

    async def _read(self) -> None:
        moved = [one for one in self._indexes if one.moved]
        changed = [await self._store.hop(partial(one.read, self._say)) for one in moved]
        if any(changed):
            self._catalog = Catalog.of([(one.layout.path, one.entries) for one in self._indexes])
            self._holdings = {}
            for note in self._catalog.notes:
                self._say(note)

    async def holdings(self, repository: Repository) -> RepositoryContent:
        """What a repository holds; read when it is first asked for, and again after a while where it is not whole."""
        found = self._remembered(repository)
        if found is None:
            async with self._surveying:
                found = self._remembered(repository) or await self._survey(repository)
        return found

    async def _survey(self, repository: Repository) -> RepositoryContent:
        where = self._holdings  # of the catalog that the repository is from
        found = await self._store.hop(partial(survey, repository.entries, self._store.read))
        where[repository.name] = (found, time.monotonic())
        if found.size > MOST_BYTES:
            self._say(f"{repository.name} has more than {MOST_BYTES} bytes of manifests; not all of it is served.")
        return found

    def _remembered(self, repository: Repository) -> RepositoryContent | None:
        found, since = self._holdings.get(repository.name, (None, 0.0))
        return found if found and (found.complete or time.monotonic() - since < _PATIENCE) else None


class _Index:
    """The `index.json` of one layout: its entries, and the state that it had when they were read."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.entries: list[Entry] = []
        self._data = b""
        self._stamp: Stamp | None = None
        self._trouble = ""

    @property
    def moved(self) -> bool:
        return self._stamp is None or self._stamp != self._state()

    def read(self, say: Callable[[str], None]) -> bool:
        """Read it again; whether the images are others now. Trouble is said once."""
        stamp = self._state()
        try:
            data = self.layout.read("index.json", CAP)
            changed = data != self._data
            found = entries(data) if changed else self.entries
        except MirrorError as error:
            trouble, changed = f"{self.layout.path}: {error} The images that were there before are still served.", False
        else:
            trouble, self._data, self.entries = "", data, found
        if trouble and trouble != self._trouble:
            say(trouble)
        # A change that comes in the same tick of a coarse clock does not show, so a young file is read each time.
        self._trouble, self._stamp = trouble, stamp if stamp and stamp.settled else None
        return changed

    def _state(self) -> Stamp | None:
        try:
            status = self.layout.root.status("index.json")
        except MirrorError:
            return None
        return Stamp.of(status) if status else None
