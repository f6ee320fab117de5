"""Archives that can be verified, even if they are broken (`mirror.content.store.VerifiableStore`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mirror.archive import docker_manifest
from mirror.archive.files import Files
from mirror.archive.tar import Tar
from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.content.hashing import MISSING, BlobCheck, Reader
from mirror.errors import BrokenArchive, BrokenLayout
from mirror.oci.digest import Digest


class VerifiableArchive:
    """An image archive, open for verification; close it."""

    is_archive = True

    def __init__(self, path: Path) -> None:
        """Open a file."""
        self._tar = Tar.open(path)
        try:
            self._files = Files(self._tar)
        except BaseException:
            self._tar.close()
            raise

    @property
    def name(self) -> str:
        return str(self._tar.path)

    def read(self, name: str, cap: int) -> bytes:
        try:
            data = self._files.read(name, cap)
        except BrokenArchive as error:
            raise BrokenLayout(str(error)) from None
        if data is None:
            raise FileNotFoundError(name)
        return data

    def open(self, digest: Digest) -> Reader | BlobCheck:
        return self._files.open(digest) or MISSING

    def stored(self) -> Iterator[tuple[str, str]]:
        return self._files.stored()

    def faults(self) -> Iterator[Finding]:
        if self._tar.fault:
            found = reason(self._tar.fault, self.name)
            hint = self._tar.fault.hint
            yield Finding(Kind.BROKEN_ARCHIVE, Severity.ERROR, self.name, "a whole tar archive", found, advice=hint)

    def docker_manifest(self) -> bytes | None:
        return self._files.read(docker_manifest.FILE, docker_manifest.CAP)

    def leftovers(self) -> Iterator[Finding]:
        """Yield nothing: an archive may have other files, such as docker's."""
        return iter(())

    def close(self) -> None:
        self._tar.close()
