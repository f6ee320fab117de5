"""What came another way, compared with what is there: digests that a person expects, and digest records.

Whoever can change a layout can make it agree with itself. What was carried apart from it, he cannot change.

A record is about the image of its name; else about the image of its digest, whatever that is called; else about the
one that a mirror would call so, such as `registry.internal:5000/hub/library/redis:4.0` for `redis:4.0`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.graph import Budget, Walk, affordable, ignore
from mirror.content.hashing import hash_blob, keep
from mirror.content.store import VerifiableStore
from mirror.errors import ContentError, InvalidContent, UsageError
from mirror.layout import Entry, index
from mirror.layout.referrers import home, is_attachable, published
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document, parse
from mirror.oci.reference import DOCKER_HUB, Reference
from mirror.oci.referrers import tags_about
from mirror.records import (
    Comparison,
    Difference,
    NotCompared,
    Reason,
    Record,
    build_record,
    compare,
    image_configs,
)
from mirror.report.anchors import Anchored
from mirror.text import count

Read = Callable[[Descriptor], bytes | None]  # small content, hashed; None where it is not there or not right


def reading(store: VerifiableStore) -> Read:
    """What reads from a store that can be verified."""

    def read(node: Descriptor) -> bytes | None:
        if node.size > MANIFEST_CAP:
            return None
        data = bytearray()
        verdict = hash_blob(store.open(node.digest), node.digest, node.size, through=keep(data))
        return bytes(data) if verdict.ok else None

    return read


@dataclass(frozen=True, slots=True)
class Expectations:
    """What came another way. `expected` are the digests of roots, by the names of images."""

    expected: Mapping[str, Digest] = field(default_factory=dict)
    records: Sequence[Record] = ()

    @classmethod
    def of(cls, expect: Mapping[str, str] | None, records: Sequence[Record]) -> Expectations:
        """From what a person has said.

        Raises:
            InvalidDigest: something in `expect` is no digest.
        """
        return cls({name: Digest.parse(text) for name, text in (expect or {}).items()}, records)

    def __bool__(self) -> bool:
        return bool(self.expected or self.records)


@dataclass(slots=True)
class Compared:
    """What came out: findings, what agrees, and the places of the images that something was said about."""

    findings: list[Finding] = field(default_factory=list)
    anchored: list[Anchored] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)


def compare_all(read: Read, entries: Sequence[Entry], anchors: Expectations, where: str) -> Compared:
    """Compare images with what came another way.

    Args:
        read: gives their manifests and configs; it may block.
        entries: the images that are verified.
        anchors: what was said of them elsewhere.
        where: what a person calls the place that they are in.
    """
    done = Compared()
    for text, digest in anchors.expected.items():
        _expect(done, entries, text, digest, where)
    for record in anchors.records:
        _hold_against(done, read, entries, record)
    if anchors:
        done.findings += _unanchored(read, entries, done.covered)
    return done


def _unanchored(read: Read, entries: Sequence[Entry], covered: Collection[int]) -> Iterator[Finding]:
    """The images that nothing was said about; signatures and the like of the others, and theirs, are no such images."""
    attached = {(home(entry), entry.tag): place for place, entry in enumerate(entries) if is_attachable(entry)}
    todo, seen = list(covered), set(covered)
    while todo and attached:
        entry = entries[todo.pop()]
        for subject in filter(None, (*_documents(read, entry.root), published(entry))):
            names_of = ((home(entry), tag) for tag in tags_about(subject))
            fresh = {place for name in names_of if (place := attached.get(name)) is not None} - seen
            seen |= fresh
            todo += fresh
    for place, entry in enumerate(entries):
        if place not in seen:
            expected = "a digest or a record to compare it with"
            yield Finding(Kind.NOT_RECORDED, Severity.WARNING, entry.name, expected, "neither", (entry.name,))


# --- digests that a person expects -------------------------------------------------------------------------------


def _expect(done: Compared, entries: Sequence[Entry], text: str, digest: Digest, where: str) -> None:
    try:
        entry = index.find(entries, text, where)
    except UsageError as error:  # none, or several
        done.findings.append(Finding(Kind.NOT_EXPECTED, Severity.ERROR, text, digest, str(error).rstrip(".")))
        return
    done.covered.update(place for place, other in enumerate(entries) if other.root == entry.root)
    found: str = entry.root.digest
    if found == digest:
        done.anchored.append(Anchored("--expect", entry.name, "the digest"))
        return
    if published(entry) == digest:
        found += ", which calls itself a part of that, and cannot prove it"
    done.findings.append(Finding(Kind.NOT_EXPECTED, Severity.ERROR, entry.name, digest, found, (entry.name,)))


# --- records -----------------------------------------------------------------------------------------------------


def _hold_against(done: Compared, read: Read, entries: Sequence[Entry], record: Record) -> None:
    places = matching(record, entries)
    if not places:
        expected = f"an image of this name, or of the digest {record.digest}"
        done.findings.append(Finding(Kind.RECORD_MISSING, Severity.ERROR, record.name, expected, "none"))
    for place in places:
        done.covered.add(place)
        entry = entries[place]
        try:
            found = _describe(read, entry)
        except InvalidContent as error:
            done.findings.append(_mismatch(record, entry, "", "what a record can say", str(error).rstrip(".")))
            continue
        result = _compare(record, entry, found)
        done.findings += _judge(record, entry, result)
        if result.agreed:
            done.anchored.append(
                Anchored(f"the record of {record.name}", entry.name, _sum(result), not result.differences)
            )


def _compare(record: Record, entry: Entry, found: Record | None) -> Comparison:
    part = _is_part(entry, record)
    if found is not None:
        result = compare(record, found, partial=part)
        if part and not result.agreed["manifest"]:  # it calls itself a part, and has nothing of the whole
            return compare(record, found)
        return result
    result = Comparison(not_compared=[NotCompared("everything", Reason.NO_MANIFEST, entry.root.digest)])
    if entry.root.digest != record.digest and not part:
        result.differences.append(Difference("digest", record.digest, entry.root.digest))
    return result


def matching(record: Record, entries: Sequence[Entry]) -> list[int]:
    """The places of the images that a record is about, by the first of three ways that finds any."""
    asked = Reference.parse(record.name)
    ways: tuple[Callable[[Entry], bool], ...] = (
        lambda entry: entry.reference is not None and entry.reference.stored == asked.stored,
        lambda entry: entry.root.digest == record.digest or _is_part(entry, record),
        lambda entry: entry.reference is not None and _mirrors(entry.reference, asked),
    )
    found = ([place for place, entry in enumerate(entries) if fits(entry)] for fits in ways)
    return next(filter(None, found), [])


def _mirrors(reference: Reference, asked: Reference) -> bool:
    """Whether a name is that of the same image in another registry, perhaps below a prefix there."""
    if reference.registry == asked.registry or asked.tag is None or reference.tag != asked.tag:
        return False
    short = asked.repository.removeprefix("library/") if asked.registry == DOCKER_HUB else asked.repository
    return reference.repository in (short, asked.repository) or reference.repository.endswith(f"/{asked.repository}")


def _is_part(entry: Entry, record: Record) -> bool:
    """Whether an image is one platform of what was recorded, or an index that a pull of some platforms has built."""
    if entry.root.digest == record.digest:
        return False
    own = {manifest.digest for manifest in record.manifests}
    return published(entry) == record.digest or entry.root.digest in own


def _judge(record: Record, entry: Entry, result: Comparison) -> Iterator[Finding]:
    for one in result.differences:
        yield _mismatch(record, entry, one.where, one.recorded, one.found)
    reasons: dict[tuple[str, Severity], list[str]] = {}
    for gap in result.not_compared:
        reasons.setdefault(_reason(entry, gap), []).append(gap.where)
    for (why, severity), places in reasons.items():
        yield Finding(Kind.NOT_COMPARED, severity, record.name, "; ".join(places), f"no way: {why}", (entry.name,))


def _mismatch(record: Record, entry: Entry, where: str, recorded: str, found: str) -> Finding:
    subject = f"{record.name}: {where}" if where else record.name
    return Finding(Kind.RECORD_MISMATCH, Severity.ERROR, subject, recorded, found, (entry.name,))


def _reason(entry: Entry, gap: NotCompared) -> tuple[str, Severity]:
    """Why something could not be compared. What is missing hurts; what was never there does not."""
    if entry.kept is not None and gap.manifest not in entry.kept:
        return "it was left out on purpose", Severity.WARNING
    theirs = gap.reason in (Reason.NOT_SELECTED, Reason.NOT_RECORDED)
    return gap.reason, Severity.WARNING if theirs else Severity.UNVERIFIED


def _sum(result: Comparison) -> str:
    kinds = [kind for kind in ("manifest", "image ID", "layer", "config") if kind in result.agreed]
    return ", ".join(
        ["the digest"] * ("digest" in result.agreed) + [count(result.agreed[kind], kind) for kind in kinds]
    )


# --- what is there -----------------------------------------------------------------------------------------------


def _describe(read: Read, entry: Entry) -> Record | None:
    """The image as a record, as far as it can be read; None where not even its root can.

    Raises:
        InvalidContent: something in a manifest cannot stand in a record.
    """
    documents = _documents(read, entry.root)
    if entry.root.digest not in documents:
        return None
    configs = {config.digest: read(config) for config in affordable(image_configs(documents).values())}
    contents = {digest: data for digest, data in configs.items() if data is not None}
    try:
        return build_record(entry.name, entry.root, documents, contents)
    except InvalidContent:
        return build_record(entry.name, entry.root, documents, {})  # a broken config has its digest all the same


def _documents(read: Read, root: Descriptor) -> dict[Digest, Document]:
    """The manifests below a root that are there and right, each once."""
    found: dict[Digest, Document] = {}

    def document(node: Descriptor) -> Document | None:
        data = read(node)
        if data is not None:
            with suppress(ContentError):
                found[node.digest] = parse(data, node.media_type, node.digest)
        return found.get(node.digest)

    Walk(Budget(root.digest), on_fault=ignore).follow(root, document)
    return found
