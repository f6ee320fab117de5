"""A repository of a registry, as a source and a sink (OCI distribution-spec, "Pull" and "Push")."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from mirror.content import stream
from mirror.content.stream import BlobReader, Fetch, batch_size
from mirror.errors import (
    BlobsUnknown,
    ContentError,
    DigestMismatch,
    InvalidContent,
    InvalidDigest,
    NotFound,
    SizeMismatch,
    TransferError,
)
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, MANIFEST_TYPES, Descriptor
from mirror.oci.digest import Digest
from mirror.registry import refusals
from mirror.registry.blobs.download import download, modified
from mirror.registry.blobs.upload import Uploads
from mirror.registry.client import Registry
from mirror.registry.transport import errors

_ACCEPT = {
    "Accept": ", ".join(sorted(MANIFEST_TYPES, key=lambda name: (name.startswith("application/vnd.docker"), name)))
}

_ANY = frozenset(range(200, 500)) - {429}  # a HEAD that fails says nothing: the GET is going to tell why


class Repository:
    """One repository. It pulls with the scope `pull`, and pushes with `pull,push`.

    `unlisted` collects the manifests that were put without the registry saying that it lists them as referrers.
    """

    def __init__(self, registry: Registry, name: str, *, jobs: int = 1, push: bool = False) -> None:
        self.registry, self.name = registry, name
        self.unlisted: set[str] = set()
        self._scope = f"repository:{name}:{'pull,push' if push else 'pull'}"
        self._uploads = Uploads(registry, name, self._scope, batch_size(jobs))
        self._manifests: set[Digest] = set()

    @property
    def origin(self) -> Repository:
        """The repository itself, which has no mirrors."""
        return self

    @property
    def answering(self) -> Repository:
        """Who has said what a name stands for."""
        return self

    def __str__(self) -> str:
        return f"{self.registry.name}/{self.name}"

    # --- source --------------------------------------------------------------------------------------------------

    async def resolve(self, name: str) -> Descriptor:
        """`Source`: the root that a tag or a digest stands for, its bytes embedded.

        The digest is computed here; what `Docker-Content-Digest` says is not used, since many registries get it wrong.

        Raises:
            NotFound: there is no such image.
            ContentError: it is no manifest, or another one than the digest asked for.
            TransferError: the registry could not be asked.
        """
        what = f"{self}{'@' if ':' in name else ':'}{name}"
        path, expect = f"{self.name}/manifests/{name}", frozenset({200, 404})
        async with self.registry.send("GET", path, scope=self._scope, headers=_ACCEPT, expect=expect) as response:
            if response.status == 404:
                raise NotFound(f"There is no image {what}.", hint=str(await errors.refusal(f"GET {path}", response)))
            data = await self.registry.read(response, MANIFEST_CAP, f"The manifest of {what}")
            errors.refuse_page(f"GET {path}", response, data)
        digest = _pinned(data, name, what) if ":" in name else Digest.of(data)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise InvalidContent(f"The manifest of {what} came compressed, though that was not asked for.")
        document = manifest.parse(data, _content_type(response), f"The manifest of {what}")
        return Descriptor(document.media_type, digest, len(data), data=data, artifact_type=document.artifact_type)

    async def peek(self, name: str) -> Descriptor | None:
        """What the registry says by HEAD that a tag or a digest stands for: its word, and no pull that anybody counts.

        Returns:
            None where it does not say enough, or says that there is no such image.

        Raises:
            TransferError: the registry could not be asked.
        """
        path = f"{self.name}/manifests/{name}"
        async with self.registry.send("HEAD", path, scope=self._scope, headers=_ACCEPT, expect=_ANY) as response:
            said, size = response.headers.get("Docker-Content-Digest"), response.content_length
            media_type = _content_type(response)
        if response.status != 200 or media_type not in MANIFEST_TYPES or size is None:
            return None
        try:
            return Descriptor(media_type, Digest.parse(said), size)
        except InvalidDigest:
            return None

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: a blob or a manifest, not yet verified.

        Raises:
            SizeMismatch: the registry announces another size than the descriptor says.
            TransferError: it could not be fetched; during iteration too.
        """
        if not node.is_manifest:
            path = f"{self.name}/blobs/{node.digest}"
            async with download(self.registry, path, self._scope, node, start) as body:
                yield body
            return
        path = f"{self.name}/manifests/{node.digest}"
        async with self.registry.send("GET", path, scope=self._scope, headers=_ACCEPT) as response:
            length = response.content_length
            if length is not None and length != node.size:
                raise SizeMismatch(f"{node.digest} from {self}", want=node.size, got=length)
            chunks = self.registry.paced(errors.chunks(response), response)
            yield BlobReader(chunks, str(self), modified(response))

    async def modified(self, node: Descriptor) -> float | None:
        """`Dated`: what the registry says by HEAD.

        Raises:
            TransferError: it could not be asked, or has no such blob.
        """
        # Some registries know no HEAD, and the storage that others send us on to refuses it: then nobody says.
        expect = frozenset({200, 401, 403, 405})
        path = f"{self.name}/blobs/{node.digest}"
        async with self.registry.send("HEAD", path, scope=self._scope, expect=expect) as response:
            return modified(response) if response.status == 200 else None

    # --- sink ----------------------------------------------------------------------------------------------------

    async def has(self, node: Descriptor) -> bool:
        """`Sink`: whether the registry says that it has the blob.

        Raises:
            TransferError: it could not be asked.
        """
        there = bool(await self._uploads.holds(node))
        if there:
            self.registry.known.setdefault(node.digest, self.name)
        return there

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """`Sink`: a manifest by its digest; a blob mounted where the registry has it, else uploaded.

        Raises:
            ContentError: the bytes are not what the descriptor says; the registry does not get all of them.
            BlobsUnknown: the registry lacks blobs of the manifest; from now on nothing is mounted there.
            TransferError: the registry refused.
        """
        if node.is_manifest:
            async with fetch(0) as body:
                data = await stream.read(body, node)
            await self._put_manifest(node.digest, node.media_type, data)
            self._manifests.add(node.digest)
            return
        await self._uploads.put(node, fetch)
        self.registry.known.setdefault(node.digest, self.name)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """`Sink`: make the tag `name` stand for `root`. A digest needs no tag: its manifest is there already.

        Raises:
            ContentError: `root` is no manifest, so a registry cannot name it.
            TransferError: the registry refused.
        """
        if not root.is_manifest:
            raise ContentError(f"{root.digest} is no manifest; a registry cannot keep it under a name.")
        if ":" not in name:
            await self._put_manifest(name, root.media_type, data)
        return None

    async def _put_manifest(self, name: str, media_type: str, data: bytes) -> None:
        path = f"{self.name}/manifests/{name}"
        headers = {"Content-Type": media_type}
        expect = frozenset({200, 201, 202})
        put = self.registry.send("PUT", path, scope=self._scope, headers=headers, data=data, expect=expect)
        try:
            async with put as response:
                if "OCI-Subject" not in response.headers:
                    self.unlisted.add(name)
        except TransferError as error:
            explained = refusals.of_manifest(error, manifest.parse(data, media_type, name), self._manifests)
            if isinstance(explained, BlobsUnknown):
                self._uploads.mounting = False
            raise explained from None

    async def close(self) -> None:
        """Delete the uploads that were cut and have not been finished."""
        await self._uploads.close()


def _pinned(data: bytes, name: str, what: str) -> Digest:
    """The digest that was asked for, which the bytes must have (GHSA-qv35-3gw6-8q4j)."""
    digest = Digest.parse(name)
    hasher = digest.hasher()
    hasher.update(data)
    if not digest.matches(hasher):
        raise DigestMismatch(f"The manifest of {what}", want=digest, got=f"{digest.algorithm}:{hasher.hexdigest()}")
    return digest


def _content_type(response: aiohttp.ClientResponse) -> str | None:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None
