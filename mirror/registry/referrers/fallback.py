"""The referrers tag, for registries without the referrers API (distribution-spec, "Pushing Manifests with Subject").

The registry does not list what refers to an image, so whoever pushes a referrer does: in an index under a tag that is
made from the subject's digest. Others may be doing the same, so it is read back, and merged once more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mirror.errors import InvalidContent, NotFound, TransferError
from mirror.oci.descriptor import MANIFEST_CAP, OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, build_index, raw_children
from mirror.oci.referrers import described, referrers_tag
from mirror.registry.repository import Repository
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import JsonObject, load_object

_ATTEMPTS = 2


async def list_under_tag(
    repository: Repository, subject: Digest, nodes: Sequence[Node], retry: RetryPolicy = ONCE
) -> Digest:
    """See to it that the referrers tag of `subject` lists `nodes`; what it lists besides stays, and stays as it is.

    Returns:
        The digest of what the tag stands for in the end.

    Raises:
        TransferError: the tag is somebody else's, or does not keep what it is given.
        MirrorError: the registry could not be reached or refused.
    """
    tag = referrers_tag(subject)
    for attempt in range(_ATTEMPTS + 1):
        data = await _listed(repository, subject, tag, retry)
        missing = _missing(data, nodes)
        if not missing:
            return Digest.of(data)
        if attempt < _ATTEMPTS:
            await _put(repository, tag, _with(data, missing), retry)
    raise TransferError(
        f"{repository}:{tag} lists less than it was given.",
        hint="Somebody else is pushing referrers of the same image; push again when they are done.",
    )


async def _listed(repository: Repository, subject: Digest, tag: str, retry: RetryPolicy) -> bytes:
    """The bytes of the index under a referrers tag; of an empty one where there is none."""
    try:
        root = await retry.run(lambda: repository.resolve(tag))
    except NotFound:
        return build_index(OCI_INDEX, [], {})
    # GitLab takes the tag for the digest, and gives the subject itself (oras-project/oras-go#1396).
    if root.digest == subject or root.media_type != OCI_INDEX or root.data is None:
        raise TransferError(
            f"{repository}:{tag} should list the referrers of {subject}, and is something else.",
            hint="The registry has no referrers API, and this tag is taken; push with --no-referrers to do without.",
        )
    return root.data


def _missing(data: bytes, nodes: Sequence[Node]) -> list[Node]:
    there = {child["digest"] for child in raw_children(data, "the list of referrers")}
    return [node for node in nodes if node.descriptor.digest not in there]


def _with(data: bytes, nodes: Sequence[Node]) -> bytes:
    document: JsonObject = load_object(data, "the list of referrers")
    document["manifests"] = [*document["manifests"], *map(described, nodes)]
    changed = json.dumps(document, indent=2).encode()
    if len(changed) > MANIFEST_CAP:
        raise InvalidContent(f"A list of referrers would have more than {MANIFEST_CAP} bytes, the most for a manifest.")
    return changed


async def _put(repository: Repository, tag: str, data: bytes, retry: RetryPolicy) -> None:
    root = Descriptor(OCI_INDEX, Digest.of(data), len(data))
    await retry.run(lambda: repository.tag(tag, root, data))
