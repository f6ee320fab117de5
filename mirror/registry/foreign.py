"""Foreign layers: what a licence keeps out of registries lives at the `urls` of its descriptor (OCI image-spec).

Whoever published the manifest has written those URLs, so nobody there is to learn who we are: no credentials, whatever
they ask for (CVE-2020-15157). They are followed as redirects of the image's registry are, so a registry on the
Internet cannot make us fetch from our own network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from mirror.content.store import Source
from mirror.content.stream import BlobReader
from mirror.errors import MirrorError, SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry.blobs.download import modified
from mirror.registry.client import Registry
from mirror.registry.transport import errors
from mirror.registry.transport.urls import web_address

_MOST = 16  # URLs of one layer that are tried


@asynccontextmanager
async def open_foreign(registry: Registry, text: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """What is at a URL out of a manifest that came from `registry`, fetched as nobody.

    Raises:
        TransferError: it is no web address, or could not be fetched.
    """
    url = web_address(text)
    if url is None:
        raise TransferError(f"A foreign layer is said to be at {text[:200]!r}, which is no web address.")
    async with registry.send("GET", url.with_fragment(None), scope=None) as response:
        yield response


class ForeignLayers:
    """A source whose foreign layers come from where they live, by way of `registry`; everything else from itself."""

    def __init__(self, source: Source, registry: Registry) -> None:
        self._source, self._registry = source, registry
        self._useless: dict[Digest, set[str]] = {}

    async def resolve(self, name: str) -> Descriptor:
        return await self._source.resolve(name)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: a blob or a manifest, not yet verified; a foreign layer always from its beginning.

        Raises:
            SizeMismatch: a server announces another size than the descriptor says.
            TransferError: it could not be fetched; a transient one while there are URLs that have not been tried.
        """
        if not (node.is_foreign and node.urls):
            async with self._source.open_blob(node, start) as body:
                yield body
            return
        useless = self._useless.setdefault(node.digest, set())
        left = [url for url in dict.fromkeys(node.urls[:_MOST]) if url not in useless] or [node.urls[0]]
        try:
            async with self._fetch(node, left[0]) as body:
                yield body
        except MirrorError as error:
            useless.add(left[0])
            if len(left) == 1:
                raise
            raise TransferError(f"{error} There is another URL to try.", transient=True) from error

    @asynccontextmanager
    async def _fetch(self, node: Descriptor, url: str) -> AsyncIterator[BlobReader]:
        registry = self._registry
        async with open_foreign(registry, url) as response:
            origin = errors.shown(response.url)
            if response.content_length not in (None, node.size):
                raise SizeMismatch(f"{node.digest} from {origin}", want=node.size, got=response.content_length)
            yield BlobReader(registry.paced(errors.chunks(response), response), origin, modified(response))
