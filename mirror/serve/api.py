"""The pull side of the OCI distribution-spec: a request → a response, without a socket.

A request path is split before it is decoded; each part is decoded once and must then match its grammar. No part of it
is ever used as a file path, so a path traversal is just an invalid name. Page sizes are capped (CVE-2023-2253).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from mirror.content.hashing import BlobCheck, BlobFault
from mirror.errors import InvalidDigest
from mirror.oci.descriptor import MANIFEST_CAP, OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import is_host, is_repository, is_tag
from mirror.serve.blobs import BlobStore, Content, close
from mirror.serve.cache import CatalogCache
from mirror.serve.catalog import Repository
from mirror.serve.responses import ErrorResponse, Response, link_header, matches_etag, paginate, parse_range
from mirror.strictjson import JsonObject

METHODS = ("GET", "HEAD")
_BLOB_TYPE = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """A request: the `path` as sent, and the first value of each field of `query` and `headers` (in lower case)."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Api:
    """A read-only registry: names come from `cache`, content from `store`."""

    cache: CatalogCache
    store: BlobStore

    async def respond(self, request: Request) -> Response:
        """Respond to one request; `ErrorResponse` is raised for errors."""
        parts = _split(request.path)
        if request.method not in METHODS:
            message = f"This registry is read-only; it supports {' and '.join(METHODS)}."
            raise ErrorResponse(405, "UNSUPPORTED", message, headers={"Allow": ", ".join(METHODS)})
        match parts:
            case []:
                return Response.json({})
            case ["_catalog"]:
                names = (await self.cache.catalog()).names(_namespace(request))
                page, link = paginate("/v2/_catalog", names, request.query)
                return Response.json({"repositories": page}, link)
            case [*name, "tags", "list"]:
                return await self._tags(request, "/".join(name))
            case [*name, ("manifests" | "blobs") as kind, reference]:
                return await self._content(request, "/".join(name), kind.removesuffix("s"), reference)
            case [*name, "referrers", digest]:
                return await self._referrers(request, "/".join(name), digest)
        raise _not_found()

    async def _tags(self, request: Request, name: str) -> Response:
        repository = await self._repository(request, name)
        tags, link = paginate(f"/v2/{name}/tags/list", sorted(repository.tags), request.query)
        return Response.json({"name": name, "tags": tags}, {**link, **_namespace_header(request)})

    async def _content(self, request: Request, name: str, kind: str, reference: str) -> Response:
        """Respond with a verified manifest or blob. HEAD verifies it too, since its 200 is a promise."""
        repository = await self._repository(request, name)
        if kind == "manifest" and ":" not in reference:
            descriptor = repository.tags.get(reference) if is_tag(reference) else None
        else:
            held, digest = await self.cache.content(repository), _digest(reference)
            descriptor = held.descriptors.get(digest)
            if descriptor is None and kind == "manifest" and digest in held.absent:
                raise _absent(name, held.absent[digest])
        unknown = f"{kind.upper()}_UNKNOWN"  # OCI distribution-spec, "Error Codes"
        if descriptor is None or (kind == "manifest" and not descriptor.is_manifest):
            raise ErrorResponse(404, unknown, f"{name} has no {kind} {reference[:256]!r}.")
        content = await self.store.open(descriptor)
        if isinstance(content, BlobCheck):
            raise _content_error(name, descriptor, content, unknown)
        media_type = descriptor.media_type if kind == "manifest" else _BLOB_TYPE
        try:
            return _content_response(request, descriptor, media_type, content)
        except BaseException:
            close(content)
            raise

    async def _referrers(self, request: Request, name: str, digest: str) -> Response:
        repository = await self._repository(request, name)
        subject, wanted, last = _digest(digest), request.query.get("artifactType"), request.query.get("last", "")
        found = (await self.cache.content(repository)).referrers.get(subject, [])
        referrers = [one for one in found if one.digest > last and (not wanted or one.artifact_type == wanted)]
        page = list(_referrers_page(referrers))
        headers = {"Content-Type": OCI_INDEX, **_namespace_header(request)}
        if wanted:
            headers["OCI-Filters-Applied"] = "artifactType"
        if len(page) < len(referrers):
            query = {**request.query, "last": referrers[len(page) - 1].digest}
            headers |= link_header(f"/v2/{name}/referrers/{subject}", query)
        return Response.json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page}, headers)

    async def _repository(self, request: Request, name: str) -> Repository:
        if not is_repository(name):
            raise ErrorResponse(404, "NAME_INVALID", f"Not a valid repository name: {name[:256]!r}.")
        repository = (await self.cache.catalog()).find(name, _namespace(request))
        if repository is None:
            raise ErrorResponse(404, "NAME_UNKNOWN", f"This registry has no repository {name[:256]!r}.")
        return repository


def _split(path: str) -> list[str]:
    """Return the decoded parts of a path below `/v2/`; [] for `/v2/` itself."""
    if path in ("/v2", "/v2/"):
        return []
    if not path.startswith("/v2/"):
        raise _not_found()
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in path.removeprefix("/v2/").split("/")]
    except UnicodeError:
        raise _not_found() from None
    if any(not part.isprintable() or "/" in part for part in parts):
        raise _not_found()
    return parts


def _not_found() -> ErrorResponse:
    return ErrorResponse(404, "UNSUPPORTED", "This registry has no such endpoint.")


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise ErrorResponse(400, "DIGEST_INVALID", str(error)) from None


def _namespace(request: Request) -> str | None:
    """Return the registry that a client asks a mirror for (OCI distribution-spec, "Registry Proxying")."""
    text = request.query.get("ns")
    if text is not None and not is_host(text):
        raise ErrorResponse(400, "NAME_INVALID", f"ns is not a registry host: {text[:256]!r}.")
    return text


def _namespace_header(request: Request) -> dict[str, str]:
    return {"OCI-Namespace": request.query["ns"]} if "ns" in request.query else {}


def _content_response(request: Request, descriptor: Descriptor, media_type: str, content: Content) -> Response:
    """Respond with the content, a range of it, or 304 if the client has it."""
    etag = f'"{descriptor.digest}"'
    headers = {
        "Content-Type": media_type,
        "Docker-Content-Digest": str(descriptor.digest),
        "ETag": etag,
        "Accept-Ranges": "bytes",
        **_namespace_header(request),
    }
    if "if-none-match" in request.headers and matches_etag(request.headers["if-none-match"], etag):
        close(content)
        return Response(304, headers)
    may_be_partial = request.method == "GET" and request.headers.get("if-range", etag).strip() == etag
    requested = parse_range(request.headers.get("range") if may_be_partial else None, descriptor.size)
    if requested is None:
        return Response(200, headers, content, count=descriptor.size)
    start, count = requested
    headers["Content-Range"] = f"bytes {start}-{start + count - 1}/{descriptor.size}"
    return Response(206, headers, content, start, count)


def _absent(name: str, child: Descriptor) -> ErrorResponse:
    what = f"{child.platform} ({child.digest})" if child.platform else child.digest
    message = f"{name}: the layout has only some of the platforms of this image, and not {what}."
    return ErrorResponse(404, "MANIFEST_UNKNOWN", message)


def _content_error(name: str, descriptor: Descriptor, check: BlobCheck, unknown: str) -> ErrorResponse:
    """Return the error for content that is not served. It does not reveal paths of the server."""
    digest, repair = descriptor.digest, "Repair the layout: mirror verify DIR --repair --from SOURCE"
    if check.fault is BlobFault.MISSING:
        message = f"{name}: {digest} is missing from the layout."
        return ErrorResponse(404, unknown, message, warning=f"{message} {repair}")
    message = f"{name}: {digest} is {check.fault} (expected {check.expected}, found {check.found}) and is not served."
    return ErrorResponse(
        500,
        "UNKNOWN",
        message,
        detail={"digest": digest, "fault": check.fault, "expected": check.expected, "found": check.found},
        warning=f"{message} {repair}",
    )


def _referrers_page(referrers: list[Descriptor]) -> Iterator[JsonObject]:
    """Yield as many descriptors as fit into an index of the maximum size, but at least one."""
    size = 0
    for number, descriptor in enumerate(referrers):
        item = descriptor.to_json()
        size += len(json.dumps(item)) + 2
        if number and size > MANIFEST_CAP - 1024:
            return
        yield item
