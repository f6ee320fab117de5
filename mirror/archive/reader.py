"""An archive as a source of content. It is read in place, whichever form it has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

from mirror.archive.files import Files
from mirror.archive.tar import Tar
from mirror.content.graph import Keep
from mirror.content.stream import BlobReader
from mirror.content.walk import leaves
from mirror.errors import BrokenArchive
from mirror.layout import Entry, index
from mirror.layout.index import EntryFinder
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest


class Archive:
    """An archive of images, open for reading. Use it in `with`."""

    def __init__(self, tar: Tar) -> None:
        """Take over a tar archive whose headers are right to the last one.

        Raises:
            BrokenArchive: it holds no images, or is cut, or hostile.
            BrokenLayout: its `oci-layout` or `index.json` is broken.
            StorageError: it cannot be read.
        """
        self.path = tar.path
        self._tar = tar
        try:
            if tar.fault:
                raise tar.fault
            self._files = Files(tar)
            index.check_layout_file(self._read("oci-layout", index.LAYOUT_CAP))
            self._entries = EntryFinder(index.entries(self._read("index.json", index.CAP)), str(self.path))
        except BaseException:
            tar.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Archive:
        """Open the file that a person named.

        Raises:
            NotFound: there is no such file.
            ContentError: it is no archive of images, or a broken one.
            StorageError: it cannot be read.
        """
        return cls(Tar.open(path))

    def entries(self) -> list[Entry]:
        """The images that it names, in its order."""
        return list(self._entries.entries)

    def find(self, texts: Iterable[str] = ()) -> list[Entry]:
        """The images that a person means by `texts`; all of them where none is named.

        Raises:
            NotFound: there is no such image, or none at all.
            UsageError: a text could mean several.
        """
        return self._entries.find_all(texts)

    def holds(self, digest: Digest) -> bool:
        """Whether something has this name. No proof of anything."""
        return self._files.open(digest) is not None

    async def there(self, entry: Entry) -> Keep:
        """Which children of an image's indexes are here. Docker and containerd save an index whole, and what they have.

        Raises:
            MirrorError: an index cannot be read.
        """
        indexes = await leaves(self, entry.root)
        children = [child for child in indexes.children if not child.is_index]
        lacking = {child.digest for child in children if not self.holds(child.digest)}
        some = any(child.digest not in lacking and not child.attests for child in children)
        return lambda child: not entry.lacks(child) and not (some and child.digest in lacking)

    async def resolve(self, name: str) -> Descriptor:
        """`Source`: the root of the image called `name`."""
        return self.find([name])[0].root

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: a blob, not yet verified.

        Raises:
            BrokenArchive: it is missing, or of another size.
            StorageError: it cannot be read.
        """
        piece = self._files.open(node.digest)
        if piece is None:
            raise BrokenArchive(
                f"{self.path} lacks {node.digest}.", hint="Run `mirror verify` to see all that it lacks."
            )
        if piece.size != node.size:  # said here, since a short body from a disk is no cut connection to try again
            raise BrokenArchive(
                f"{node.digest} from {self.path} should have {node.size} bytes and has {piece.size} bytes."
            )
        yield BlobReader(piece.chunks(start), str(self.path), start=start, fill=piece.filler(start))

    async def modified(self, node: Descriptor) -> float | None:
        """`Dated`: archives do not keep the times of blobs."""
        return None

    def _read(self, name: str, cap: int) -> bytes:
        data = self._files.read(name, cap)
        if data is None:
            raise BrokenArchive(f"{self.path} has no {name}.")
        return data

    def close(self) -> None:
        self._tar.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
