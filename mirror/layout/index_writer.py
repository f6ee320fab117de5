"""`index.json` on disk, written in batches.

To write the whole file for each name would cost more with every image. So changes are made in memory and staged. What
is staged is written every half second while the file is small. A larger one waits until it is worth writing: for more
names, or half a minute, and ten times as long as writing takes. The rest is written at the end. Each batch:

    1. take `.mirror/index.lock`, as every mirror that writes to the layout does
    2. read the file; if it is not what was last read or written here, parse it, and make the staged changes in it
    3. replace the file, durably

So no change is lost that another mirror makes, or another tool between two batches. A batch that fails stays staged,
and the next call raises its error.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from threading import Lock
from typing import TypeVar

from mirror.concurrency import BackgroundTasks, to_thread
from mirror.errors import MirrorError, StorageError
from mirror.fs.atomic import replace_file
from mirror.fs.directory import Directory
from mirror.layout.index import CAP, EMPTY, Entry
from mirror.layout.index_editor import IndexEditor

R = TypeVar("R")
Change = Callable[[IndexEditor], R]

log = logging.getLogger(__name__)

_PAUSE = 0.5  # seconds between two batches, at least
_SHARE = 10  # times as long as the last batch took: so that writing takes at most a tenth of the time
_GROWTH = (
    32  # a batch adds one name to so many, or more: so that the bytes written grow with the names, not their square
)
_LONGEST = 30.0  # seconds after which fewer will do


class IndexWriter:
    """The `index.json` of a layout that is open for writing."""

    def __init__(self, root: Directory, own: Directory, temporary: Directory, read: Callable[[], bytes]) -> None:
        """Call `load` next.

        Args:
            root: the layout's directory.
            own: its `.mirror`, where the lock is.
            temporary: where to write a file before it is moved to its place.
            read: returns the bytes of `index.json`; raises BrokenLayout if there is none.
        """
        self._root, self._own, self._temporary, self._read = root, own, temporary, read
        self._memory = Lock()  # held to change what follows: the event loop and the thread that writes do
        self._editor = IndexEditor(EMPTY)
        self._seen: bytes | None = None  # SHA-256 of the file as it was read or written last
        self._staged: list[Change[object]] = []
        self._flushing, self._more = asyncio.Lock(), asyncio.Event()
        self._took = 0.0  # seconds, for the last batch
        self._failure: MirrorError | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other mirror from writing to the layout's own files."""
        with self._own.lock("index.lock") as lock:
            lock.take()
            yield

    def load(self) -> None:
        """Read the file.

        Raises:
            BrokenLayout: it is missing, or not a valid index.
        """
        data = self._read()
        self._editor, self._seen = IndexEditor(data), hashlib.sha256(data).digest()

    def entries(self) -> list[Entry]:
        """Return the entries, staged ones included."""
        with self._memory:
            return self._editor.entries()

    def stage(self, change: Change[R]) -> R:
        """Make a change in memory, to be written with the next batch.

        Raises:
            MirrorError: an earlier batch could not be written.
        """
        self._raise_failure()
        with self._memory:
            done = change(self._editor)
            self._staged.append(change)
        self._more.set()
        return done

    async def flush(self) -> None:
        """Write what is staged now, durably.

        Raises:
            BrokenLayout: another program has broken the file.
            StorageError: the disk refused, now or for an earlier batch.
        """
        async with self._flushing:
            if self._staged:
                started = time.monotonic()
                await to_thread(self._write)
                self._took = time.monotonic() - started
        self._raise_failure()

    @asynccontextmanager
    async def batches(self) -> AsyncIterator[None]:
        """Write what is staged, in batches meanwhile and all of it at the end, also if the body fails.

        Raises:
            MirrorError: as `flush`, if the body does not fail.
        """
        try:
            async with BackgroundTasks() as tasks:
                tasks.start(self._write_batches())
                yield
        except BaseException:
            try:
                await self.flush()
            except MirrorError as error:
                log.warning("%s The last images have no names yet.", error)
            raise
        await self.flush()

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
            found = self._hash_of_file()
            other = None if found == self._seen else IndexEditor(self._read())
            with self._memory:
                if other is not None:
                    for change in self._staged:
                        change(other)
                    self._editor = other
                count, pieces = len(self._staged), self._editor.dump()
            wanted = hashlib.sha256()
            for piece in pieces:
                wanted.update(piece)
            if wanted.digest() != found:
                self._check_size(sum(map(len, pieces)))
                replace_file(self._root, "index.json", pieces, temporary=self._temporary)
            else:
                self._root.sync()  # a batch that failed may have got as far as the name
            with self._memory:
                self._seen = wanted.digest()
                del self._staged[:count]

    def _hash_of_file(self) -> bytes | None:
        try:
            return self._root.hash("index.json")
        except FileNotFoundError:
            return None

    def _check_size(self, size: int) -> None:
        if size > CAP:
            path = self._root.path / "index.json"
            raise StorageError(f"{path} would have more than {CAP} bytes.", hint="Use several layouts for the images.")
