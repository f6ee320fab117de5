"""`index.json` on disk, written in batches.

Writing the whole file for every name would take longer with every image. So changes are made in memory and staged.
Staged changes are written every half second while the file is small. A larger file waits for more names, or for half a
minute, and always for ten times as long as the last write took. The rest is written at the end. Each batch:

    1. take `.mirror/index.lock`, as every mirror process that writes to the layout does
    2. hash the file; if it has changed since it was last read or written here, parse it and repeat the staged changes
    3. replace the file, durably

So no change is lost that another mirror process makes, or that another tool makes between two batches. Two processes
may write the same image: a name that does not stand for what was expected keeps its entry, and is in `conflicts`. A
batch that fails stays staged, and the next call raises its error.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Lock
from typing import TypeVar

from mirror.concurrency import BackgroundTasks, gives_up, to_thread
from mirror.errors import MirrorError, StorageError
from mirror.fs.atomic import replace_file
from mirror.fs.directory import Directory
from mirror.layout.index import CAP, EMPTY, Entry
from mirror.layout.index_editor import IndexEditor
from mirror.oci.descriptor import Descriptor

R = TypeVar("R")
Change = Callable[[IndexEditor], R]

log = logging.getLogger(__name__)

_PAUSE = 0.5  # seconds between two batches, at least
_SHARE = 10  # pauses last this many times as long as the last batch took, so writing takes at most a tenth of the time
_GROWTH = 32  # a batch has at least one change for this many entries, so the bytes written stay linear in the entries
_LONGEST = 30.0  # seconds after which a smaller batch is written too


class IndexWriter:
    """The `index.json` of the layout `root`, open for writing. Call `load` before anything else.

    `metadata` is its `.mirror`, where the lock is; files are written in `temporary` before they get their final name.
    `read` returns the bytes of `index.json`.
    """

    def __init__(self, root: Directory, metadata: Directory, temporary: Directory, read: Callable[[], bytes]) -> None:
        self._root, self._metadata, self._temporary, self._read = root, metadata, temporary, read
        self._memory = Lock()  # guards the fields below, which the event loop and the writing thread change
        self._editor = IndexEditor(EMPTY)
        self._seen: bytes | None = None  # SHA-256 of the file when it was last read or written
        self._staged: list[Change[object]] = []
        self._flushing, self._more = asyncio.Lock(), asyncio.Event()
        self._took = 0.0  # seconds that the last batch took
        self._failure: MirrorError | None = None
        self._waiting: list[tuple[Collection[str], Callable[[], None]]] = []  # as in `when_written`
        self.expected: dict[str, Entry | None] = {}  # by full name, what it should stand for when it is changed
        self._conflicts: dict[str, Entry | None] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other mirror process from writing `oci-layout` and `index.json`."""
        with self._metadata.lock("index.lock") as lock:
            lock.take()
            yield

    def load(self) -> None:
        """Read the file; raise BrokenLayout if it is missing or not valid."""
        data = self._read()
        self._editor, self._seen = IndexEditor(data), hashlib.sha256(data).digest()

    def entries(self) -> list[Entry]:
        """Return the entries, staged ones included."""
        with self._memory:
            return self._editor.entries()

    def stage(self, change: Change[R]) -> R:
        """Make a change in memory, to be written with the next batch, and return its result.

        If an earlier batch could not be written, raise its error.
        """
        self._raise_failure()
        with self._memory:
            result = change(self._editor)
            self._staged.append(change)
        self._more.set()
        return result

    def name(self, name: str, root: Descriptor) -> Entry | None:
        """Stage a name, and return what it stands for. If that is not as expected, now or when it is written, it stays.

        A change is made again if another process has written the file, so no change of that process is overlooked.
        """

        def change(editor: IndexEditor) -> Entry | None:
            before = editor.current(name)
            if before == self.expected.get(name, before) or _is_same(before, root):
                return editor.add(name, root)
            self._conflicts[name] = before
            return before

        return self.stage(change)

    async def conflicts(self) -> dict[str, Entry | None]:
        """Write all staged changes; return the names that were not as expected, and what they stand for."""
        await self.flush()
        found, self._conflicts = self._conflicts, {}
        return found

    def when_written(self, names: Collection[str], call: Callable[[], None]) -> None:
        """Call `call` on the event loop once these staged names have been written, durably; never if one conflicts."""
        self._waiting.append((names, call))

    async def flush(self) -> None:
        """Write all staged changes now, durably; raise the error of this batch or an earlier one."""
        async with self._flushing:
            if self._staged or self._waiting:
                waiting, started = len(self._waiting), time.monotonic()
                await to_thread(self._write)
                self._took = time.monotonic() - started
                written, self._waiting = self._waiting[:waiting], self._waiting[waiting:]
                for names, call in written:
                    if self._conflicts.keys().isdisjoint(names):
                        call()
        self._raise_failure()

    @asynccontextmanager
    async def batches(self) -> AsyncIterator[None]:
        """Write staged changes in batches while the body runs, and the rest at the end, even if the body fails."""
        try:
            async with BackgroundTasks() as tasks:
                tasks.start(self._write_batches())
                yield
        except BaseException:
            if not gives_up():
                await self._flush_after_failure()
            raise
        await self.flush()

    async def _flush_after_failure(self) -> None:
        try:
            async with asyncio.timeout(_LONGEST):  # the disk may be why it failed
                await self.flush()
        except (MirrorError, TimeoutError) as error:
            log.warning("%s The last images have not been named.", error or f"{self._root.path} takes too long.")

    async def _write_batches(self) -> None:
        while await self._more.wait():
            end = time.monotonic() + _LONGEST
            await asyncio.sleep(max(_PAUSE, _SHARE * self._took))
            while len(self._staged) * _GROWTH < len(self._editor) and time.monotonic() < end:
                await asyncio.sleep(_PAUSE)
            self._more.clear()
            try:
                await self.flush()
            except MirrorError as error:
                self._failure = error
                self._more.set()

    def _raise_failure(self) -> None:
        """Raise the error of a batch that was written in the background, once."""
        failure, self._failure = self._failure, None
        if failure:
            raise failure

    def _write(self) -> None:
        """Write one batch, as described at the top."""
        with self.locked():
            try:
                on_disk = self._root.hash("index.json")
            except FileNotFoundError:
                on_disk = None
            changed = None if on_disk == self._seen else IndexEditor(self._read())
            with self._memory:
                if changed is not None:  # by another process
                    for change in self._staged:
                        change(changed)
                    self._editor = changed
                count = len(self._staged)
                pieces = self._editor.dump() if self._editor.is_changed else [self._read()]
            hasher = hashlib.sha256()
            for piece in pieces:
                hasher.update(piece)
            if hasher.digest() != on_disk:
                self._replace(pieces)
            else:
                self._root.sync()  # an earlier batch may have failed after its rename
            with self._memory:
                self._seen = hasher.digest()
                del self._staged[:count]

    def _replace(self, pieces: list[bytes]) -> None:
        if sum(map(len, pieces)) > CAP:
            path = self._root.path / "index.json"
            raise StorageError(f"{path} would have more than {CAP} bytes.", hint="Split the images between layouts.")
        replace_file(self._root, "index.json", pieces, staging=self._temporary)


def _is_same(before: Entry | None, root: Descriptor) -> bool:
    return before is not None and (before.root.digest, before.kept) == (root.digest, Entry.of(root).kept)
