"""The referrers tag, for registries without the referrers API (distribution-spec, "Pushing Manifests with Subject").

Such a registry does not list referrers, so the client that pushes a referrer lists it: in an index under a tag that is
derived from the subject's digest. Other clients may change it at the same time, so it is read back after each change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from operator import ne

from mirror.errors import InvalidContent, NotFound, TransferError
from mirror.oci.descriptor import MANIFEST_CAP, OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, build_index
from mirror.oci.referrers import described, referrers_tag
from mirror.registry.repository import Repository
from mirror.retry import ONCE, RetryPolicy, read_until
from mirror.strictjson import load_object

_ATTEMPTS = 2


async def list_under_tag(
    repository: Repository, subject: Digest, nodes: Sequence[Node], retry: RetryPolicy = ONCE
) -> Digest:
    """Add `nodes` to the list under the referrers tag of `subject`, and return the list's digest.

    Its other entries are unchanged.
    """
    tag = referrers_tag(subject)
    read = partial(_read_list, repository, subject, tag, retry)
    data = await read()
    for _ in range(_ATTEMPTS):
        changed = _with(data, nodes, f"{repository}:{tag}")
        if changed == data:
            return Digest.of(data)
        root = Descriptor(OCI_INDEX, Digest.of(changed), len(changed))
        await retry.run(partial(repository.tag, tag, root, changed))
        data = await read_until(read, partial(ne, data))
    if _with(data, nodes, f"{repository}:{tag}") == data:
        return Digest.of(data)
    raise TransferError(
        f"{repository}:{tag} does not list all referrers that were added.",
        hint="The registry may show them late, or another client may be pushing referrers of the same image. Push "
        "again in a minute.",
    )


def _with(data: bytes, nodes: Sequence[Node], what: str) -> bytes:
    """Return a list with the nodes that it lacks; the same bytes if it lacks none."""
    document = load_object(data, "the list of referrers")
    children = document["manifests"] or []
    listed = {child["digest"] for child in children}
    missing = [node for node in nodes if node.descriptor.digest not in listed]
    if not missing:
        return data
    document["manifests"] = [*children, *map(described, missing)]
    changed = json.dumps(document, indent=2).encode()
    if len(changed) > MANIFEST_CAP:
        raise InvalidContent(f"{what} would have more than {MANIFEST_CAP} bytes.")
    return changed


async def _read_list(repository: Repository, subject: Digest, tag: str, retry: RetryPolicy) -> bytes:
    """Return the index under a referrers tag, or an empty one."""
    try:
        root = await retry.run(lambda: repository.resolve(tag))
    except NotFound:
        return build_index(OCI_INDEX, [], {})
    # GitLab takes the tag for the digest, and returns the subject itself (oras-project/oras-go#1396).
    if root.digest == subject or root.media_type != OCI_INDEX or root.data is None:
        raise TransferError(
            f"{repository}:{tag} should list the referrers of {subject}, but is something else.",
            hint="The registry has no referrers API, and this tag is in use. To push without referrers: --no-referrers",
        )
    return root.data
