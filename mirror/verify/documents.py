"""The manifests and indexes of a store. Each is read, hashed and parsed once; its links are kept as numbers.

At level `layers`, each manifest is also compared with its config.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.content.finding_text import Fact
from mirror.content.hashing import BlobCheck, check_size, hash_blob, keep
from mirror.content.image_config import platform_of
from mirror.content.limits import MOST_BYTES
from mirror.content.store import VerifiableStore
from mirror.errors import ContentError
from mirror.layout.related import read_object, read_related, shown_subject
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, OCI_MANIFEST, SCHEMA1_TYPES, Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.verify.blob_table import CONFIG, BlobTable
from mirror.verify.configs import Config, applies, broken

ReportBlob = Callable[[int, Finding], None]  # takes the number of a blob, and a finding about it


class Documents:
    """The manifests and indexes of a store. `faults` has the checks of those that are missing or damaged.

    By number, `unsupported` has the types of those that cannot be followed, `subjects` those that others refer to,
    `damaged_referrers` the subjects of damaged ones, and `opaque` why a layer of an image cannot be unpacked: it is
    encrypted, or not a tar archive.
    """

    def __init__(
        self,
        store: VerifiableStore,
        table: BlobTable,
        report: ReportBlob,
        *,
        deep: bool,
        checkpoint: Callable[[], None],
    ) -> None:
        self.faults: list[tuple[int, BlobCheck]] = []
        self.unsupported: dict[int, str] = {}
        self.subjects: dict[int, Descriptor] = {}
        self.damaged_referrers: dict[int, Digest] = {}
        self.opaque: dict[int, str] = {}
        self._disguised: dict[int, bool] = {}
        self._checkpoint = checkpoint
        self._peeked_sizes: dict[int, int] = {}
        self._peeked: dict[int, bytes] = {}  # contents, as far as they fit into memory
        self._room = MOST_BYTES
        self._store, self._table, self._report, self._deep = store, table, report, deep
        self._begins = array("I")  # where the links of each blob begin; 0: none, or not read yet
        self._links = array("I", [0])  # for each manifest: the number of its links, then the links

    @property
    def count(self) -> int:
        """The number of all links."""
        return len(self._links)

    def links(self, number: int) -> Sequence[int]:
        """Return the numbers of the blobs that a manifest names, in order; none if it is broken, or not a manifest."""
        if not self._table.media_type(number):
            return ()
        self._begins.extend([0] * (len(self._table) - len(self._begins)))
        if not self._begins[number]:
            self._begins[number] = len(self._links)
            links = [self._add(link) for link in self._open(number)]
            self._links.append(len(links))
            self._links.extend(links)
        begin = self._begins[number]
        return self._links[begin + 1 : begin + 1 + self._links[begin]]

    def peek(self, number: int) -> tuple[Descriptor, Digest] | None:
        """Read a blob that no descriptor names. Return the descriptor and the subject of a manifest that has one.

        A damaged one is read again below a root of its own, and reported there.
        """
        digest = self._table.digest(number)
        data = read_related(self._store.open(digest)) if digest.hashable else None
        if data is None:
            return None
        if digest.compute(data) != digest:
            if subject := shown_subject(data):
                self.damaged_referrers[number] = subject
            return (Descriptor(OCI_MANIFEST, digest, len(data)), subject) if subject else None
        self._table.finish(number, BlobCheck(None, size=len(data), hashed=len(data)))
        self._peeked_sizes[number] = len(data)
        try:
            document = manifest.parse(data, None, "")
        except ContentError:
            return None
        if not document.subject:
            return None
        if len(data) <= self._room:
            self._peeked[number], self._room = data, self._room - len(data)
        self.subjects[number] = document.subject
        return Descriptor(document.media_type, digest, len(data)), document.subject.digest

    def subject(self, number: int) -> Digest | None:
        """Return what a manifest refers to, also if it is damaged."""
        found = self.subjects.get(number)
        return found.digest if found else self.damaged_referrers.get(number)

    def forget_peeked(self) -> None:
        """Free what `peek` has kept, and note the sizes of the blobs that no descriptor names."""
        for number, size in self._peeked_sizes.items():
            if self._table.size(number) is None:
                self._table.sizes[number] = size
                self.subjects.pop(number, None)
        self._peeked.clear()

    def config_platform(self, number: int) -> Platform | None:
        """Return the platform in the config of an image without an index."""
        for child in self.links(number)[:1]:
            data = self._read(child) if self._table.flags[child] & CONFIG else None
            return platform_of(data) if data is not None else None
        return None

    def _add(self, node: Descriptor) -> int:
        number = self._table.add(node)
        if self._deep and node.platform and node.platform.known:
            first, other = self._table.platform(number), node.platform
            if first and first.known and (first.os, first.architecture) != (other.os, other.architecture):
                self._error(number, Kind.WRONG_PLATFORM, "one platform", (str(first), str(other)))
        return number

    def _open(self, number: int) -> Sequence[Descriptor]:
        """Read and check a manifest; return its links."""
        self._check_size(number, Kind.BROKEN_MANIFEST)
        data = self._peeked.get(number) or self._read(number)
        if data is None:
            return ()
        try:
            document = manifest.parse(data, self._table.media_type(number), "")
        except ContentError as error:
            self._error(number, Kind.BROKEN_MANIFEST, "a valid manifest", reason(error))
            return ()
        for child in document.manifests:
            self.note_unsupported(self._table.add(child), child)
        if subject := document.subject:
            self.subjects[number] = subject
            if not check_size(self._store.open(subject.digest), None).ok:
                digest = self._table.digest(number)
                self._report(number, Finding(Kind.DANGLING_SUBJECT, Severity.WARNING, digest, subject.digest))
        if self._deep and applies(document, self._table.platform(number)):
            self._check_config(number, document)
        return document.links

    def note_unsupported(self, number: int, node: Descriptor) -> None:
        """Note the type of a root, or of a child of an index, if it is a manifest that cannot be followed."""
        if node.is_unsupported or (not node.is_manifest and self._is_disguised(number)):
            self.unsupported[number] = node.media_type

    def _is_disguised(self, number: int) -> bool:
        """Return whether a blob is a manifest, by its content. Each is looked at once."""
        if number not in self._disguised:
            self._checkpoint()
            data = read_object(self._store.open(self._table.digest(number)))
            self._disguised[number] = data is not None and manifest.is_disguised(data)
        return self._disguised[number]

    def _read(self, number: int) -> bytes | None:
        """Return the bytes of a manifest or config; None if it is too large, missing or damaged."""
        digest, size = self._table.digest(number), self._table.size(number)
        if size is None or size > MANIFEST_CAP:
            return None
        data = bytearray()
        check = hash_blob(self._store.open(digest), digest, size, through=keep(data))
        if self._table.finish(number, check) and check.fault:
            self.faults.append((number, check))
        return bytes(data) if check.ok else None

    def _check_size(self, number: int, kind: Kind) -> None:
        size = self._table.size(number) or 0
        if size > MANIFEST_CAP:
            found = f"it has {size} bytes, more than the limit of {MANIFEST_CAP}"
            self._error(number, kind, f"at most {MANIFEST_CAP} bytes", found)

    def _check_config(self, number: int, document: Document) -> None:
        """Compare the config with the manifest, and note the diff_ids of the layers."""
        assert document.config
        config_number = self._table.add(document.config)
        self._check_size(config_number, Kind.BROKEN_CONFIG)
        data = self._read(config_number)
        if data is None:
            return
        try:
            config = Config(data, document.config.digest, self._table.digest(number))
        except ContentError as error:
            self._report(number, broken(document.config.digest, error))
            return
        for finding in config.compare(document, self._table.platform(number)):
            self._report(number, finding)
        if len(config.diff_ids) == len(document.layers):
            for layer, diff_id in zip(document.layers, config.diff_ids, strict=True):
                self._note_layer(layer, diff_id)

    def _note_layer(self, layer: Descriptor, diff_id: Digest | None) -> None:
        """Note what a layer has to unpack to. A layer that is its own diff_id is proven by its digest."""
        number = self._table.add(layer)
        if diff_id and layer.is_tar:
            self._table.add_diff_id(number, diff_id)
        elif diff_id and diff_id != layer.digest:
            self.opaque[number] = "it is encrypted" if layer.is_encrypted else f"its type is {layer.media_type[:80]}"

    def _error(self, number: int, kind: Kind, expected: str, found: Fact) -> None:
        digest, size = self._table.digest(number), self._table.size(number)
        self._report(number, Finding(kind, Severity.ERROR, digest, expected, found, size=size))


def unsupported_type(digest: Digest, media_type: str) -> Finding:
    """Return the finding for a manifest of a type that cannot be followed: for schema 1, an error."""
    if media_type in SCHEMA1_TYPES:
        found = reason(manifest.unsupported(Descriptor(media_type, digest, 0)), digest)
        return Finding(Kind.BROKEN_MANIFEST, Severity.ERROR, digest, "a valid manifest", found)
    return Finding(Kind.UNSUPPORTED_TYPE, Severity.UNVERIFIED, digest, "a manifest", media_type)
