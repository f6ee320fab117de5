"""The manifests and indexes of a store: each is read, hashed and parsed once. What they name is kept as numbers.

At level `layers`, the config of each image is read with its manifest, and the two are compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.hashing import BlobCheck, check_size, hash_blob, keep
from mirror.content.image_config import platform_of
from mirror.content.store import VerifiableStore
from mirror.errors import ContentError
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor, Platform
from mirror.oci.manifest import Document
from mirror.verify.blob_table import CONFIG, BlobTable
from mirror.verify.configs import Config, applies, broken

About = Callable[[int, Finding], None]


class Documents:
    """What the manifests of a store say. `flawed` are the verdicts on what was read and is not right."""

    def __init__(self, store: VerifiableStore, ledger: BlobTable, about: About, *, deep: bool) -> None:
        self.flawed: list[tuple[int, BlobCheck]] = []
        self._store, self._ledger, self._about, self._deep = store, ledger, about, deep
        self._begins = array("I")  # of each blob, where its links are; 0: it has none, or was not opened yet
        self._links = array("I", [0])  # of each manifest: how many, then the numbers of what it names

    @property
    def count(self) -> int:
        """How many links there are in all."""
        return len(self._links)

    def links(self, number: int) -> Sequence[int]:
        """The numbers of what a manifest names, in its order; nothing for one that cannot be read, and for blobs."""
        if not self._ledger.media_type(number):
            return ()
        self._begins.extend([0] * (len(self._ledger) - len(self._begins)))
        if not self._begins[number]:
            self._begins[number] = len(self._links)
            links = [self._claim(link) for link in self._named_by(number)]
            self._links.append(len(links))
            self._links.extend(links)
        begin = self._begins[number]
        return self._links[begin + 1 : begin + 1 + self._links[begin]]

    def own_platform(self, number: int) -> Platform | None:
        """The platform in the config of an image that no index names."""
        for child in self.links(number)[:1]:
            data = self._read(child) if self._ledger.marks[child] & CONFIG else None
            return platform_of(data) if data is not None else None
        return None

    def _claim(self, node: Descriptor) -> int:
        number = self._ledger.claim(node)
        first = self._ledger.platform(number)
        if self._deep and first and node.platform and _differ(first, node.platform):
            self._error(number, Kind.WRONG_PLATFORM, "one platform", f"{first} and {node.platform}, in two indexes")
        return number

    def _named_by(self, number: int) -> Sequence[Descriptor]:
        self._check_size(number, Kind.BROKEN_MANIFEST)
        data = self._read(number)
        if data is None:
            return ()
        try:
            document = manifest.parse(data, self._ledger.media_type(number), "")
        except ContentError as error:
            self._error(number, Kind.BROKEN_MANIFEST, "a valid manifest", str(error))
            return ()
        self._check_subject(number, document)
        if self._deep and applies(document, self._ledger.platform(number)):
            self._check_config(number, document)
        return document.links

    def _read(self, number: int) -> bytes | None:
        """The bytes of something small that is right."""
        digest, size = self._ledger.digest(number), self._ledger.said(number)
        if size is None or size > MANIFEST_CAP:
            return None
        data = bytearray()
        verdict = hash_blob(self._store.open(digest), digest, size, through=keep(data))
        if self._ledger.settle(number, verdict) and verdict.flaw:
            self.flawed.append((number, verdict))
        return bytes(data) if verdict.ok else None

    def _check_size(self, number: int, kind: Kind) -> None:
        size = self._ledger.said(number) or 0
        if size > MANIFEST_CAP:
            self._error(number, kind, f"at most {MANIFEST_CAP} bytes", f"{size} bytes")

    def _check_subject(self, number: int, document: Document) -> None:
        subject = document.subject
        if subject and not check_size(self._store.open(subject.digest), None).ok:
            expected, name = f"its subject {subject.digest}", self._ledger.digest(number)
            self._about(number, Finding(Kind.DANGLING_SUBJECT, Severity.WARNING, name, expected, "nothing"))

    def _check_config(self, number: int, document: Document) -> None:
        """The config against the manifest; and what its layers should unpack to is noted."""
        assert document.config
        own = self._ledger.claim(document.config)
        self._check_size(own, Kind.BROKEN_CONFIG)
        data = self._read(own)
        if data is None:
            return
        subject = str(self._ledger.digest(number))
        try:
            config = Config(data, subject)
        except ContentError as error:
            self._about(number, broken(document.config.digest, error))
            return
        for finding in config.compare(document, self._ledger.platform(number)):
            self._about(number, finding)
        if len(config.diff_ids) == len(document.layers):
            for layer, diff_id in zip(document.layers, config.diff_ids, strict=True):
                self._ledger.want(self._ledger.claim(layer), diff_id)

    def _error(self, number: int, kind: Kind, expected: str, found: str) -> None:
        name = self._ledger.digest(number)
        self._about(number, Finding(kind, Severity.ERROR, name, expected, found, size=self._ledger.said(number)))


def _differ(one: Platform, other: Platform) -> bool:
    return one.known and other.known and (one.os, one.architecture) != (other.os, other.architecture)
