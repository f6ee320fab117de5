"""Blobs into a repository (OCI distribution-spec, "Pushing blobs")."""

from __future__ import annotations

from yarl import URL

from mirror import stream
from mirror.descriptor import Descriptor
from mirror.errors import TransferError
from mirror.registry.addresses import location
from mirror.registry.client import Registry
from mirror.stream import Fetch

_CREATED = frozenset({201, 204})  # old registries answer 204


async def upload(registry: Registry, name: str, scope: str, node: Descriptor, fetch: Fetch, batch: int) -> None:
    """Bring a blob into the repository `name`: mounted where the registry has it elsewhere, else in one piece.

    `batch` is how many bytes are verified at a time.

    Raises:
        ContentError: the bytes are not what the descriptor says; the registry does not get all of them.
        TransferError: the registry refused.
    """
    session = await _session(registry, name, scope, node)
    if session is None:
        return
    # The session's own query is passed back as it is; `digest` is added.
    separator = "&" if session.raw_query_string else "?"
    target = URL(f"{session}{separator}digest={node.digest}", encoded=True)
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(node.size)}
    async with fetch(0) as body:
        data = stream.verified(body, node, batch)
        async with registry.send("PUT", target, scope=scope, headers=headers, data=data, expect=_CREATED):
            pass


async def _session(registry: Registry, name: str, scope: str, node: Descriptor) -> URL | None:
    """An upload session, or None where the registry could mount the blob from another of its repositories."""
    uploads = f"{name}/blobs/uploads/"
    other = registry.known.get(node.digest, name)
    if other != name:
        try:
            mount = f"{uploads}?mount={node.digest}&from={other}"
            return await _start(registry, mount, f"{scope} repository:{other}:pull")
        except TransferError as error:
            if error.transient:
                raise
            # Harbor answers 401, others 404 or 405; an upload works all the same.
    return await _start(registry, uploads, scope)


async def _start(registry: Registry, path: str, scope: str) -> URL | None:
    """Open an upload session; None where the registry had the blob and needs none."""
    expect = frozenset({201, 202})
    async with registry.send("POST", path, scope=scope, expect=expect, data=b"") as response:
        if response.status == 201:
            return None
        return location(response)
