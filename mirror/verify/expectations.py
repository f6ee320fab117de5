"""Compare images with digests and records that were received separately.

An attacker who can change a layout can make it agree with itself, but cannot change a digest that the user got
elsewhere.

A record applies to the image with its name; or else to the image with its digest, whatever its name; or else to the
image with the name that a mirror would give it, such as `registry.internal:5000/hub/library/redis:4.0` for `redis:4.0`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.content.graph import Walk, ignore
from mirror.content.hashing import hash_blob, keep
from mirror.content.limits import Budget, affordable
from mirror.content.store import VerifiableStore
from mirror.errors import ContentError, InvalidContent, UsageError
from mirror.layout import Entry, index
from mirror.layout.referring import can_refer, home, published
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document, parse
from mirror.oci.reference import DOCKER_HUB, Reference
from mirror.oci.referrers import tags_about
from mirror.records import Comparison, Difference, NotCompared, Reason, Record, build_record, compare, image_configs
from mirror.report.verify_parts import Agreement
from mirror.text import count
from mirror.verify.options import Expectations

Read = Callable[[Descriptor], bytes | None]  # returns verified content; None if it is missing, damaged or large


def reading(store: VerifiableStore) -> Read:
    """Return a function that reads small content from a store."""

    def read(node: Descriptor) -> bytes | None:
        if node.size > MANIFEST_CAP:
            return None
        data = bytearray()
        check = hash_blob(store.open(node.digest), node.digest, node.size, through=keep(data))
        return bytes(data) if check.ok else None

    return read


@dataclass(slots=True)
class Compared:
    """The result: findings, agreements, and the positions of the images that were compared."""

    findings: list[Finding] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)


def compare_images(
    read: Read,
    entries: Sequence[Entry],
    expectations: Expectations,
    where: str,
    stored: Sequence[Entry] | None = None,
) -> Compared:
    """Compare images with the expectations of the user.

    `read` may block; `where` is the store, for messages. `stored` are all images of the store, if the user has chosen
    `entries` from them; a record may be about the others.
    """
    result = Compared()
    finder = index.EntryFinder(entries, where)
    for text, digest in expectations.digests.items():
        _compare_digest(result, finder, text, digest)
    absent = [record for record in expectations.records if not _compare_record(result, read, entries, record)]
    if expectations:
        unrecorded = list(_not_recorded(read, entries, result.covered))
        result.findings += unrecorded
        if len(absent) == len(expectations.records):  # not one record was about any of the images
            result.findings += [_no_image(record, Severity.ERROR) for record in absent]
        else:
            result.findings += _missing(absent, stored, Severity.ERROR if unrecorded else Severity.WARNING)
    return result


def _missing(records: Sequence[Record], stored: Sequence[Entry] | None, severity: Severity) -> Iterator[Finding]:
    """Yield a finding for each record without an image, while other records have one.

    It is an error if an image has no record: it could be the recorded one under another name. Otherwise, the recorded
    image is just not here, which is not worth a word if the user has chosen the images to verify.
    """
    for record in records:
        if stored is None or (severity is Severity.ERROR and not _matching(record, stored)):
            yield _no_image(record, severity)


def _no_image(record: Record, severity: Severity) -> Finding:
    return Finding(Kind.RECORD_MISSING, severity, record.name, record.digest)


def _not_recorded(read: Read, entries: Sequence[Entry], covered: Collection[int]) -> Iterator[Finding]:
    """Yield a finding for each image that was not compared, unless it is a referrer of one that was."""
    referrers: dict[tuple[str | None, str | None], set[int]] = {}  # a bare tag need not be unique
    for number, entry in enumerate(entries):
        if can_refer(entry):
            referrers.setdefault((home(entry), entry.tag), set()).add(number)
    todo, seen = list(covered), set(covered)
    while todo and referrers:
        entry = entries[todo.pop()]
        for subject in filter(None, (*_documents(read, entry.root), published(entry))):
            tags = ((home(entry), tag) for tag in tags_about(subject))
            fresh = {number for name in tags for number in referrers.get(name, ())} - seen
            seen |= fresh
            todo += fresh
    for number, entry in enumerate(entries):
        if number not in seen:
            yield Finding(Kind.NOT_RECORDED, Severity.WARNING, entry.name, "a digest or a record", images=(entry.name,))


def _compare_digest(result: Compared, finder: index.EntryFinder, text: str, digest: Digest) -> None:
    try:
        entry = finder.find(text)
    except UsageError as error:  # no image, or several
        result.findings.append(Finding(Kind.NOT_EXPECTED, Severity.ERROR, text, digest, reason(error)))
        return
    result.covered.update(number for number, other in enumerate(finder.entries) if other.root == entry.root)
    root = entry.root.digest
    if root == digest:
        result.agreements.append(Agreement("--expect", entry.name, "the digest"))
        return
    found = (root, digest) if published(entry) == digest else root
    result.findings.append(Finding(Kind.NOT_EXPECTED, Severity.ERROR, entry.name, digest, found, (entry.name,)))


def _compare_record(result: Compared, read: Read, entries: Sequence[Entry], record: Record) -> bool:
    """Compare the images that a record is about; return whether there are any."""
    numbers = _matching(record, entries)
    for number in numbers:
        result.covered.add(number)
        entry = entries[number]
        try:
            found = _record_of(read, entry)
        except InvalidContent as error:
            result.findings.append(_mismatch(record, entry, "", None, reason(error)))
            continue
        comparison = _compare(record, entry, found)
        result.findings += _findings(record, entry, comparison)
        if comparison.agreed:
            agreed = ["the digest"] if "digest" in comparison.agreed else []
            kinds = (kind for kind in ("manifest", "image ID", "layer", "config") if kind in comparison.agreed)
            agreed += [count(comparison.agreed[kind], kind) for kind in kinds]
            by, whole = f"the record of {record.name}", not comparison.differences
            result.agreements.append(Agreement(by, entry.name, ", ".join(agreed), whole))
    return bool(numbers)


def _compare(record: Record, entry: Entry, found: Record | None) -> Comparison:
    is_partial = _is_part(entry, record)
    if found is not None:
        comparison = compare(record, found, partial=is_partial)
        if is_partial and not comparison.agreed["manifest"]:  # nothing proves that it is a part
            return compare(record, found)
        return comparison
    comparison = Comparison(not_compared=[NotCompared("everything", Reason.NO_MANIFEST, entry.root.digest)])
    if entry.root.digest != record.digest and not is_partial:
        comparison.differences.append(Difference("digest", record.digest, entry.root.digest))
    return comparison


def _matching(record: Record, entries: Sequence[Entry]) -> list[int]:
    """Return the positions of the images that a record applies to, by the first of three rules that finds any."""
    wanted = Reference.parse(record.name)
    rules: tuple[Callable[[Entry], bool], ...] = (
        lambda entry: entry.reference is not None and entry.reference.stored == wanted.stored,
        lambda entry: entry.root.digest == record.digest or _is_part(entry, record),
        lambda entry: entry.reference is not None and _is_mirrored(entry.reference, wanted),
    )
    found = ([number for number, entry in enumerate(entries) if fits(entry)] for fits in rules)
    return next(filter(None, found), [])


def _is_mirrored(reference: Reference, original: Reference) -> bool:
    """Return whether a name is that of the same image in another registry, perhaps below a prefix."""
    if reference.registry == original.registry or original.tag is None or reference.tag != original.tag:
        return False
    name = original.repository
    short = name.removeprefix("library/") if original.registry == DOCKER_HUB else name
    return reference.repository in (short, name) or reference.repository.endswith(f"/{name}")


def _is_part(entry: Entry, record: Record) -> bool:
    """Return whether an image is one platform of the recorded image, or an index of some of its platforms."""
    if entry.root.digest == record.digest:
        return False
    recorded = {manifest.digest for manifest in record.manifests}
    return published(entry) == record.digest or entry.root.digest in recorded


def _findings(record: Record, entry: Entry, result: Comparison) -> Iterator[Finding]:
    for one in result.differences:
        yield _mismatch(record, entry, one.where, one.recorded, one.found)
    reasons: dict[tuple[str, Severity], list[str]] = {}
    for gap in result.not_compared:
        why, severity = str(gap.reason), Severity.UNVERIFIED
        if entry.kept is not None and gap.manifest not in entry.kept:
            why, severity = "left out on purpose", Severity.WARNING
        elif gap.reason in (Reason.NOT_SELECTED, Reason.NOT_RECORDED):
            severity = Severity.WARNING
        reasons.setdefault((why, severity), []).append(gap.where)
    for (why, severity), places in reasons.items():
        yield Finding(Kind.NOT_COMPARED, severity, record.name, "; ".join(places), why, (entry.name,))


def _mismatch(record: Record, entry: Entry, where: str, recorded: str | None, found: str) -> Finding:
    subject = f"{record.name}: {where}" if where else record.name
    return Finding(Kind.RECORD_MISMATCH, Severity.ERROR, subject, recorded, found, (entry.name,))


def _record_of(read: Read, entry: Entry) -> Record | None:
    """Return the record of an image; None if its root cannot be read."""
    documents = _documents(read, entry.root)
    if entry.root.digest not in documents:
        return None
    configs = {config.digest: read(config) for config in affordable(image_configs(documents).values())}
    contents = {digest: data for digest, data in configs.items() if data is not None}
    try:
        return build_record(entry.name, entry.root, documents, contents)
    except InvalidContent:
        return build_record(entry.name, entry.root, documents, {})  # the digest of a broken config can be compared


def _documents(read: Read, root: Descriptor) -> dict[Digest, Document]:
    found: dict[Digest, Document] = {}

    def document(node: Descriptor) -> Document | None:
        data = read(node)
        if data is not None:
            with suppress(ContentError):
                found[node.digest] = parse(data, node.media_type, node.digest)
        return found.get(node.digest)

    Walk(Budget(root.digest), on_fault=ignore).follow(root, document)
    return found
