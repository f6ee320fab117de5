"""What refers to an image: by its `subject`, or by a tag that is made from the image's digest. Pure.

sha256-<hex>                      the referrers tag: an index of referrers, for registries without the API
                                  (OCI distribution-spec, "Referrers Tag Schema")
sha256-<hex>.sig, .att, .sbom     cosign's signatures, attestations and bills of materials
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mirror.errors import InvalidDigest
from mirror.oci.descriptor import OCI_INDEX
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, build_index
from mirror.oci.reference import is_tag
from mirror.strictjson import JsonObject

_COSIGN = ("sig", "att", "sbom")
_ILLEGAL = re.compile(r"[^A-Za-z0-9._-]")
_LISTS = re.compile(r"sha(?:256|384|512)-[0-9a-f]{64}")
_ABOUT = re.compile(r"sha(?:256|384|512)-[0-9a-f]{64,128}(?:\.(?:sig|att|sbom))?")


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tag, and the digest that it stands for.

    Of a list of referrers, `members` are those that have to be in it: others may add to it, and change its digest.
    """

    tag: str
    digest: Digest
    members: tuple[Digest, ...] = ()


def referrers_tag(subject: Digest) -> str:
    """The tag under which registries without the referrers API keep what refers to `subject`."""
    return _ILLEGAL.sub("-", f"{subject.algorithm[:32]}-{subject.encoded[:64]}")


def cosign_tags(subject: Digest) -> list[str]:
    """The tags under which cosign keeps what it knows of `subject`; none where they would be too long for tags."""
    stem = f"{subject.algorithm}-{subject.encoded}"
    return [tag for tag in (f"{stem}.{kind}" for kind in _COSIGN) if is_tag(tag)]


def tags_about(subject: Digest) -> list[str]:
    """Every tag that is made from the digest of `subject`."""
    return [referrers_tag(subject), *cosign_tags(subject)]


def is_about(tag: str | None) -> bool:
    """Whether a tag is made from the digest of something else."""
    return tag is not None and bool(_ABOUT.fullmatch(tag))


def subject_of(tag: str | None) -> Digest | None:
    """The digest that a tag is made from; None where it is made from none, or only has the beginning of a long one."""
    algorithm, _, encoded = (tag or "").partition(".")[0].partition("-")
    try:
        return Digest.parse(f"{algorithm}:{encoded}") if is_about(tag) else None
    except InvalidDigest:
        return None


def is_referrers_tag(tag: str | None) -> bool:
    return tag is not None and bool(_LISTS.fullmatch(tag))


def described(node: Node) -> JsonObject:
    """The descriptor of a referrer in a list of them: with its artifact type, and all of its annotations."""
    document = node.document
    found: JsonObject = {
        "mediaType": node.descriptor.media_type,
        "digest": str(node.descriptor.digest),
        "size": node.descriptor.size,
    }
    found |= {"artifactType": document.kind} if document.kind else {}
    return found | ({"annotations": dict(document.annotations)} if document.annotations else {})


def list_of(nodes: Iterable[Node]) -> bytes:
    """An index of referrers, the same bytes for the same referrers."""
    once = {node.descriptor.digest: node for node in nodes}
    return build_index(OCI_INDEX, [described(once[digest]) for digest in sorted(once)], {})
