"""Foreign layers: blobs whose licence keeps them out of registries, fetched from their `urls` (OCI image-spec).

The publisher of the manifest chose those URLs, so requests to them never carry credentials (CVE-2020-15157), and the
address rules for redirects of the image's registry apply: a registry on the Internet cannot make us send requests into
our own network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mirror.content.store import Source
from mirror.content.stream import BlobReader
from mirror.errors import MirrorError, SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry.blobs.download import last_modified
from mirror.registry.http import Registry
from mirror.registry.transport.urls import parse_http_url, redact

_MAX_URLS = 16  # to try for one layer


class ForeignLayers:
    """`Source`: another source, whose foreign layers are fetched from their URLs by `registry`'s address rules."""

    def __init__(self, source: Source, registry: Registry) -> None:
        self._source, self._registry = source, registry
        self._failed: dict[Digest, set[str]] = {}  # URLs by digest

    async def resolve(self, name: str) -> Descriptor:
        """`Source`: as the underlying source."""
        return await self._source.resolve(name)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: open a blob or manifest, not yet verified; a foreign layer is always read from its beginning."""
        if not (node.is_foreign and node.urls):
            async with self._source.open_blob(node, start) as body:
                yield body
            return
        failed = self._failed.setdefault(node.digest, set())
        left = [url for url in dict.fromkeys(node.urls[:_MAX_URLS]) if url not in failed] or [node.urls[0]]
        try:
            url = parse_http_url(left[0])
            if url is None:
                raise TransferError(f"The URL of a foreign layer, {left[0][:200]!r}, is not an http(s) URL.")
            async with self._registry.send("GET", url.with_fragment(None), scope=None) as response:  # no credentials
                origin = redact(response.url)
                if response.content_length not in (None, node.size):
                    raise SizeMismatch(f"{node.digest} from {origin}", want=node.size, got=response.content_length)
                yield BlobReader(self._registry.iter_body(response), origin, last_modified(response))
        except MirrorError as error:
            failed.add(left[0])
            if len(left) == 1:
                raise
            raise TransferError(f"{error} There is another URL to try.", transient=True) from error
