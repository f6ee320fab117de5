"""Referrers of an image: manifests with the image as `subject`, or with a tag derived from the image's digest.

sha256-<hex>                      the referrers tag: an index of referrers, for registries without the API
                                  (OCI distribution-spec, "Referrers Tag Schema")
sha256-<hex>.sig, .att, .sbom     cosign's signatures, attestations and bills of materials
"""

from __future__ import annotations

import re
from collections.abc import Iterable

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


def referrers_tag(subject: Digest) -> str:
    """Return the tag for the list of referrers of `subject`, in registries without the referrers API."""
    return _ILLEGAL.sub("-", f"{subject.algorithm[:32]}-{subject.encoded[:64]}")


def cosign_tags(subject: Digest) -> list[str]:
    """Return the tags under which cosign stores data about `subject`; none if they would be too long for tags."""
    stem = f"{subject.algorithm}-{subject.encoded}"
    return [tag for tag in (f"{stem}.{kind}" for kind in _COSIGN) if is_tag(tag)]


def tags_about(subject: Digest) -> list[str]:
    """Return all tags that are derived from the digest of `subject`."""
    return [referrers_tag(subject), *cosign_tags(subject)]


def is_about(tag: str | None) -> bool:
    """Return whether a tag is derived from a digest."""
    return tag is not None and bool(_ABOUT.fullmatch(tag))


def subject_of(tag: str | None) -> Digest | None:
    """Return the digest that a tag is derived from; None if there is none, or if the tag has only its beginning."""
    algorithm, _, encoded = (tag or "").partition(".")[0].partition("-")
    try:
        return Digest.parse(f"{algorithm}:{encoded}") if is_about(tag) else None
    except InvalidDigest:
        return None


def is_referrers_tag(tag: str | None) -> bool:
    return tag is not None and bool(_LISTS.fullmatch(tag))


def described(node: Node) -> JsonObject:
    """Return the descriptor of a referrer for a list: with its artifact type and all annotations."""
    document = node.document
    found: JsonObject = {
        "mediaType": node.descriptor.media_type,
        "digest": str(node.descriptor.digest),
        "size": node.descriptor.size,
    }
    found |= {"artifactType": document.kind} if document.kind else {}
    return found | ({"annotations": dict(document.annotations)} if document.annotations else {})


def list_of(nodes: Iterable[Node]) -> bytes:
    """Return an index of referrers; the bytes do not depend on the order of `nodes`."""
    once = {node.descriptor.digest: node for node in nodes}
    return build_index(OCI_INDEX, [described(once[digest]) for digest in sorted(once)], {})
