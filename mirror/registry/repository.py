"""A repository of a registry, as a source and a sink (OCI distribution-spec, "Pull" and "Push")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

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
    UsageError,
)
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, MANIFEST_TYPES, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.referrers import is_referrers_tag
from mirror.registry import push_errors
from mirror.registry.blobs.download import download, last_modified
from mirror.registry.blobs.upload import BlobUploader
from mirror.registry.http import Registry
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.responses import refuse_html

_ACCEPT = {
    "Accept": ", ".join(sorted(MANIFEST_TYPES, key=lambda name: (name.startswith("application/vnd.docker"), name)))
}

_ANY_STATUS = frozenset(range(200, 500)) - {429}  # if a HEAD fails, the GET will tell why


class Repository:
    """A repository of a registry; created by `open_source` and `open_target`."""

    def __init__(
        self, registry: Registry, name: str, *, jobs: int = 1, push: bool = False, overwrite: bool = True
    ) -> None:
        """Create a repository; `jobs` is the number of blobs transferred at once, which limits the memory for each.

        Without `overwrite`, a tag that points to something else is left alone, and UsageError is raised.
        """
        self.registry, self.name = registry, name
        self.unlisted_referrers: set[str] = set()  # pushed manifests without `OCI-Subject` in the response
        self._scope = f"repository:{name}:{'pull,push' if push else 'pull'}"
        self._uploader = BlobUploader(registry, name, self._scope, batch_size(jobs))
        self._pushed_manifests: set[Digest] = set()
        self._has_accepted = False  # a manifest
        self._overwrite = overwrite
        self._tags: dict[str, Digest | None] = {}  # what `look_up` found
        self._of_same_tags: set[Digest] = set()  # manifests of images whose tag needs no change
        self._same_roots: set[Digest] = set()  # those that such a tag points to
        self._read_back: dict[str, Digest] = {}  # tags that needed no change, by the bytes that the registry serves
        self._pinned: dict[str, str] = {}  # the tags of digests that were requested together with a tag

    @property
    def origin(self) -> Repository:
        """The repository itself; for a `MirroredRepository`, the one that is mirrored."""
        return self

    @property
    def resolved_by(self) -> Repository:
        """The repository that resolved a name; for a `MirroredRepository`, perhaps a mirror's."""
        return self

    def __str__(self) -> str:
        return f"{self.registry.name}/{self.name}"

    # --- source --------------------------------------------------------------------------------------------------

    def pin(self, tag: str, digest: Digest) -> None:
        """Record the tag of a digest: a pull-through cache may know the digest only once the tag was requested."""
        self._pinned[digest] = tag

    async def resolve(self, name: str) -> Descriptor:
        """`Source`: return the root descriptor of a tag or digest, with its bytes.

        A digest that is not found is looked for under the tag that it was pinned with.
        """
        try:
            return await self._resolve(name)
        except NotFound:
            if name not in self._pinned:
                raise
            found = await self._resolve(self._pinned[name])
            if Digest.parse(name).compute(found.data or b"") != name:
                raise
            return replace(found, digest=Digest.parse(name))

    async def _resolve(self, name: str) -> Descriptor:
        """Return what `resolve` does. The digest is computed: in many registries, `Docker-Content-Digest` is wrong."""
        what = f"{self}{'@' if ':' in name else ':'}{name}"
        path, expect = f"{self.name}/manifests/{name}", frozenset({200, 404})
        async with self.registry.send("GET", path, scope=self._scope, headers=_ACCEPT, expect=expect) as response:
            request = Request.of(response)
            if response.status == 404:
                said = str(await self.registry.error(request, response))
                has_tags = ":" not in name and "NAME_UNKNOWN" not in said
                advice = f"List the tags: mirror tags {self}" if has_tags else "Check the name."
                raise NotFound(f"There is no image {what}.", hint=f"{said} {advice}")
            data = await self.registry.read(response, MANIFEST_CAP, f"The manifest of {what}")
            refuse_html(request, response, data)
        wanted = Digest.parse(name) if ":" in name else None
        digest = wanted.compute(data) if wanted else Digest.of(data)
        if wanted and digest != wanted:  # GHSA-qv35-3gw6-8q4j
            raise DigestMismatch(f"The manifest of {what}", want=wanted, got=digest)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise InvalidContent(f"The manifest of {what} is compressed, although identity was requested.")
        document = manifest.parse_once(data, _content_type(response), f"The manifest of {what}")
        return Descriptor(document.media_type, digest, len(data), data=data, artifact_type=document.artifact_type)

    async def peek(self, name: str) -> Descriptor | None:
        """Return the descriptor of a tag or digest that a response to HEAD claims; a HEAD does not count as a pull.

        Return None if there is no such image, or the response does not say enough.
        """
        path = f"{self.name}/manifests/{name}"
        async with self.registry.send("HEAD", path, scope=self._scope, headers=_ACCEPT, expect=_ANY_STATUS) as response:
            digest, size = _claimed_digest(response), response.content_length
            media_type = _content_type(response)
        if response.status != 200 or media_type not in MANIFEST_TYPES or size is None or digest is None:
            return None
        return Descriptor(media_type, digest, size)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: open a blob or manifest, not yet verified, after a check of the announced size."""
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
            yield BlobReader(self.registry.iter_body(response), str(self), last_modified(response))

    async def modified(self, node: Descriptor) -> float | None:
        """`Dated`: return when a blob was last modified, in seconds since the epoch; None if unknown."""
        # Some registries do not support HEAD, and others redirect to storage that refuses it.
        expect = frozenset({200, 401, 403, 405})
        path = f"{self.name}/blobs/{node.digest}"
        async with self.registry.send("HEAD", path, scope=self._scope, expect=expect) as response:
            return last_modified(response) if response.status == 200 else None

    # --- sink ----------------------------------------------------------------------------------------------------

    async def look_up(self, tag: str, root: Digest, manifests: Iterable[Digest] = ()) -> Digest | None:
        """Return the other digest that a tag points to before the push; None if there is none, or no such tag.

        If it points to `root` already, `put` and `tag` send no manifest that the registry says it has: where tags are
        immutable, even the same one is refused a second time. `manifests` are those of the image.
        """
        path = f"{self.name}/manifests/{tag}"
        async with self.registry.send("HEAD", path, scope=self._scope, headers=_ACCEPT, expect=_ANY_STATUS) as response:
            status, found = response.status, _claimed_digest(response) if response.status == 200 else None
        if status != 404 and not found:  # a HEAD that is refused, or has no digest, says nothing
            found = await self._digest_of(tag)
        self._tags[tag] = found
        if found == root:
            self._of_same_tags.update(manifests)
            self._same_roots.add(root)
        return self._refuse_to_overwrite(tag, found) if found != root else None

    async def _digest_of(self, tag: str) -> Digest | None:
        """Return what a tag points to, whatever its type, by the bytes that the registry serves."""
        path, expect = f"{self.name}/manifests/{tag}", frozenset({200, 404})
        async with self.registry.send("GET", path, scope=self._scope, headers=_ACCEPT, expect=expect) as response:
            if response.status == 404:
                return None
            return Digest.of(await self.registry.read(response, MANIFEST_CAP, f"The manifest of {self}:{tag}"))

    def _refuse_to_overwrite(self, tag: str, found: Digest | None) -> Digest | None:
        if found and not self._overwrite:
            raise UsageError(
                f"{self}:{tag} already stands for another image, {found}.",
                hint="To replace it, leave out --no-overwrite. To keep both, choose another name.",
            )
        return found

    async def has(self, node: Descriptor) -> bool:
        """`Sink`: return whether the registry says that it has the blob."""
        exists = bool(await self._uploader.exists(node))
        if exists:
            self.registry.blob_repositories.setdefault(node.digest, self.name)
        return exists

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """`Sink`: push a manifest by digest, or a blob by mounting or uploading it."""
        if node.is_manifest:
            if node.digest not in self._pushed_manifests:  # several images may contain it
                async with fetch(0) as body:
                    data = await stream.read(body, node)
                if node.digest not in self._of_same_tags or not await self._has_manifest(node, data):
                    await self._put_manifest(node.digest, node.media_type, data)
                self._pushed_manifests.add(node.digest)
            return
        await self._uploader.put(node, fetch)
        self.registry.blob_repositories.setdefault(node.digest, self.name)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """`Sink`: point a tag at `root`. A digest as `name` is ignored: its manifest has been pushed already."""
        if not root.is_manifest:
            raise ContentError(f"{root.digest} is not a manifest, so a registry cannot tag it.")
        if ":" in name:
            return None
        before = self._tags.get(name)
        is_list = root.is_index and is_referrers_tag(name)  # which has been merged with the one that is there
        if before == root.digest or not (self._overwrite or is_list):  # a HEAD is only a claim, and may be hours old
            found = await self._digest_of(name)
            if found == root.digest:
                self._read_back[name] = found
                return None
            self._refuse_to_overwrite(name, found)
        self._read_back.pop(name, None)
        await self._put_manifest(name, root.media_type, data)
        return before if before != root.digest else None

    def has_read_back(self, tag: str, digest: Digest) -> bool:
        """Return whether `tag` has just read the bytes that the tag points to, and they have this digest."""
        return self._read_back.get(tag) == digest

    async def _has_manifest(self, node: Descriptor, data: bytes) -> bool:
        """Return whether the registry says that it has a manifest; False if only a PUT shows whether it is listed.

        What a tag points to already is not asked for again: `tag` reads it.
        """
        if manifest.parse_once(data, node.media_type, node.digest).subject:
            return False
        if node.digest in self._same_roots:
            return True
        seen = await self.peek(node.digest)
        return seen is not None and (seen.digest, seen.size) == (node.digest, node.size)

    async def _put_manifest(self, name: str, media_type: str, data: bytes) -> None:
        path = f"{self.name}/manifests/{name}"
        headers = {"Content-Type": media_type}
        expect = frozenset({200, 201, 202})
        put = self.registry.send("PUT", path, scope=self._scope, headers=headers, data=data, expect=expect)
        try:
            async with put as response:
                self._has_accepted = True
                if "OCI-Subject" not in response.headers:
                    self.unlisted_referrers.add(name)
        except TransferError as error:
            document = manifest.parse_once(data, media_type, name)
            explained = push_errors.explain_manifest(
                error, document, self._pushed_manifests, accepted=self._has_accepted
            )
            if isinstance(explained, BlobsUnknown):  # from now on, nothing is mounted
                self._uploader.mounting = False
            raise explained from None

    async def close(self) -> None:
        """Delete upload sessions that were interrupted and not resumed."""
        await self._uploader.close()


def _content_type(response: Response) -> str | None:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None


def _claimed_digest(response: Response) -> Digest | None:
    try:
        return Digest.parse(response.headers.get("Docker-Content-Digest"))
    except InvalidDigest:
        return None
