"""Steps 1 and 2: the layout's own files, and the graph below every image."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mirror import manifest
from mirror.content import Inventory
from mirror.descriptor import CONFIG_TYPES, MANIFEST_CAP, Descriptor, Platform
from mirror.digest import Digest
from mirror.errors import BrokenLayout, ContentError, InvalidDigest, StorageError
from mirror.examine import Flaw, Verdict, examine, keep, measure
from mirror.finding import Finding, Severity
from mirror.image import platform_of
from mirror.layout import Entry, index, names
from mirror.manifest import Document
from mirror.report.findings import VerifiedImage

_UPPER_CASE = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(slots=True)
class Piece:
    """One file below `blobs/` that is there or should be, and all that is known of it.

    `needed` are the images that are broken without it, `optional` those that were pulled without it on purpose;
    a piece with neither is an orphan. `problem` says why a manifest cannot be understood.
    """

    digest: Digest
    sizes: dict[int, None] = field(default_factory=dict)
    needed: dict[str, None] = field(default_factory=dict)
    optional: dict[str, None] = field(default_factory=dict)
    foreign: bool = False
    verdict: Verdict | None = None
    problem: str | None = None

    @property
    def size(self) -> int | None:
        return next(iter(self.sizes), None)

    @property
    def files(self) -> int:
        return int(self.verdict is not None and self.verdict.flaw is not Flaw.MISSING)

    @property
    def hashed(self) -> int:
        return self.verdict.size if self.verdict and self.verdict.flaw in (None, Flaw.CORRUPT) else 0


class Structure:
    """What a store claims."""

    def __init__(self, store: Inventory) -> None:
        self.store = store
        self.findings: list[Finding] = []
        self.images: list[VerifiedImage] = []
        self.pieces: dict[Digest, Piece] = {}
        self._documents: dict[Digest, Document | None] = {}

    def survey(self, only: Sequence[str] = ()) -> None:
        """Steps 1 and 2, for some images, or for all of them and what else is there.

        Raises:
            NotFound: an image of `only` is not there.
            UsageError: it could be several.
        """
        self._check_layout_file()
        entries = self._entries()
        self._check_names(entries)
        chosen = [index.find(entries, text, self.store.name) for text in only] or entries
        for entry in chosen:
            self._walk(entry)
        if not only:
            self._find_orphans()
            self.findings.extend(self.store.leftovers())

    # --- step 1: the layout's own files --------------------------------------------------------------------------

    def _check_layout_file(self) -> None:
        try:
            index.check_layout_file(self.store.read("oci-layout", index.LAYOUT_CAP))
        except FileNotFoundError:
            self._error("broken-layout", "oci-layout", "a file", "nothing")
        except StorageError as error:
            self._unreadable("oci-layout", error)
        except BrokenLayout as error:
            self._error("broken-layout", "oci-layout", f"imageLayoutVersion {index.VERSION}", str(error))
        self.findings.extend(self.store.faults())

    def _entries(self) -> list[Entry]:
        try:
            entries = index.entries(self.store.read("index.json", index.CAP))
        except FileNotFoundError:
            self._error("broken-index", "index.json", "a file", "nothing")
        except StorageError as error:
            self._unreadable("index.json", error)
        except BrokenLayout as error:
            self._error("broken-index", "index.json", "a valid index", str(error))
        else:
            if not entries:
                self._error("no-images", "index.json", "at least one image", "none")
            return entries
        return []

    def _check_names(self, entries: Sequence[Entry]) -> None:
        """One full name with two digests is an error; one bare ref.name twice is legal, and confuses many tools."""
        full: dict[str, dict[str, None]] = {}
        bare: dict[str, dict[str, None]] = {}
        for entry in entries:
            if entry.reference:
                full.setdefault(entry.name, {})[entry.root.digest] = None
            if names.REF_NAME in entry.root.annotations:
                bare.setdefault(entry.root.annotations[names.REF_NAME], {})[entry.root.digest] = None
        for name, digests in full.items():
            if len(digests) > 1:
                self._error("name-conflict", name, "one digest", ", ".join(digests), (name,))
        for name, digests in bare.items():
            if len(digests) > 1 and name not in full:
                self._warning("ambiguous-name", name, "one image of this ref.name", ", ".join(digests))

    # --- step 2: the graph ---------------------------------------------------------------------------------------

    def _walk(self, entry: Entry) -> None:
        """Note everything below one image. What hashes right cannot contain itself, so this ends."""
        seen: dict[Digest, Descriptor] = {}
        platforms: dict[str, None] = {}
        todo = deque([(entry.root, False)])
        while todo:
            node, optional = todo.popleft()
            piece = self._note(node, entry, optional)
            if node.digest in seen:
                continue
            seen[node.digest] = node
            document = self._document(node, piece)
            if document:
                todo.extend((link, document.is_index and entry.lacks(link)) for link in document.links)
                platforms.update(dict.fromkeys(self._platforms(node, document, entry)))
                self._check_subject(node, document, entry)
            elif node is entry.root and not node.is_manifest:
                self._warning("unknown-type", node.digest, "a manifest or an index", node.media_type, (entry.name,))
        content = [node for node in seen.values() if not node.is_manifest]
        size = sum(node.size for node in content)
        self.images.append(VerifiedImage(entry.name, entry.root.digest, tuple(platforms), len(content), size))

    def _note(self, node: Descriptor, entry: Entry, optional: bool) -> Piece:
        piece = self.pieces.setdefault(node.digest, Piece(node.digest))
        piece.sizes[node.size] = None
        piece.foreign = piece.foreign or node.is_foreign
        (piece.optional if optional else piece.needed)[entry.name] = None
        return piece

    def _document(self, node: Descriptor, piece: Piece) -> Document | None:
        """The manifest behind a descriptor, read, hashed and parsed once; None where that is not possible."""
        if not node.is_manifest:
            return None
        if node.digest not in self._documents:
            self._documents[node.digest] = self._parse(node, piece)
        return self._documents[node.digest]

    def _parse(self, node: Descriptor, piece: Piece) -> Document | None:
        if node.size > MANIFEST_CAP:
            piece.problem = f"{node.size} bytes, and {MANIFEST_CAP} are the most that a manifest may have"
            return None
        data = bytearray()
        piece.verdict = examine(self.store.open(node.digest), node.digest, node.size, through=keep(data))
        if not piece.verdict.ok:
            return None
        try:
            return manifest.parse(bytes(data), node.media_type, "it")
        except ContentError as error:
            piece.problem = str(error)
            return None

    def _platforms(self, node: Descriptor, document: Document, entry: Entry) -> Iterator[str]:
        """The platforms that an index has here, or that the config of an image without one names."""
        if document.is_index:
            for child in document.manifests:
                if child.platform and child.platform.known and not entry.lacks(child):
                    yield str(child.platform)
        elif node is entry.root:
            platform = node.platform or self._config_platform(document)
            if platform:
                yield str(platform)

    def _config_platform(self, document: Document) -> Platform | None:
        config = document.config
        if config is None or config.media_type not in CONFIG_TYPES or config.size > MANIFEST_CAP:
            return None
        data = bytearray()
        verdict = examine(self.store.open(config.digest), config.digest, config.size, through=keep(data))
        return platform_of(bytes(data)) if verdict.ok else None  # step 3 says what is wrong with it

    def _check_subject(self, node: Descriptor, document: Document, entry: Entry) -> None:
        subject = document.subject
        if subject and not measure(self.store.open(subject.digest), None).ok:
            self._warning("dangling-subject", node.digest, f"its subject {subject.digest}", "nothing", (entry.name,))

    # --- what nothing names --------------------------------------------------------------------------------------

    def _find_orphans(self) -> None:
        try:
            for algorithm, name in self.store.stored():
                self._sort_in(algorithm, name)
        except StorageError as error:
            self._unreadable("blobs", error)
        except BrokenLayout:
            return  # step 1 has said so

    def _sort_in(self, algorithm: str, name: str) -> None:
        path = f"blobs/{algorithm}/{name}".rstrip("/")
        try:
            digest = Digest.parse(f"{algorithm}:{name}")
        except InvalidDigest:
            if algorithm == "sha256" and _UPPER_CASE.fullmatch(name):
                self._error("bad-name", path, "lower-case hexadecimal digits", "upper-case ones")
            else:
                self._warning("stray", path, "only files that are named by their digest", "another name")
            return
        self.pieces.setdefault(digest, Piece(digest))

    # --- findings ------------------------------------------------------------------------------------------------

    def _error(self, kind: str, subject: str, expected: str, found: str, images: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding(kind, Severity.ERROR, subject, expected, found, images))

    def _warning(self, kind: str, subject: str, expected: str, found: str, images: tuple[str, ...] = ()) -> None:
        self.findings.append(Finding(kind, Severity.WARNING, subject, expected, found, images))

    def _unreadable(self, subject: str, error: StorageError) -> None:
        self.findings.append(Finding("unreadable", Severity.UNVERIFIED, subject, "a readable file", str(error)))
