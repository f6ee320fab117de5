"""The pull side of the distribution specification: a request → an answer, without a socket.

Paths are taken apart as they came, and each part is decoded once and must then fit its grammar: nothing of a path ever
becomes a path on a disk, and a traversal is simply no name (CVE-2023-2253 for the sizes of pages).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from mirror.content.hashing import BlobCheck, BlobFault
from mirror.errors import InvalidDigest
from mirror.oci.descriptor import MANIFEST_CAP, OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import is_host, is_repository, is_tag
from mirror.serve.catalog import Repository
from mirror.serve.current import Current
from mirror.serve.responses import Refusal, Response, link, matches, page, span
from mirror.serve.store import Opened, Store
from mirror.strictjson import JsonObject

_METHODS = ("GET", "HEAD")
_OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Request:
    """A request: `path` is raw, `query` and `headers` have the first value of each name (headers in lower case)."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Api:
    """A read-only registry over what is `current` and the content in `store`."""

    current: Current
    store: Store

    async def answer(self, call: Request) -> Response:
        """Response one request.

        Raises:
            Refusal: the answer is an error.
        """
        parts = _parts(call.path)
        if call.method not in _METHODS:
            raise Refusal(
                405,
                "UNSUPPORTED",
                f"This registry is read-only: it knows {' and '.join(_METHODS)}.",
                headers={"Allow": ", ".join(_METHODS)},
            )
        if parts == []:
            return Response.json({})
        if parts == ["_catalog"]:
            return await self._list(call)
        name, kind, last = "/".join(parts[:-2]), *parts[-2:]
        if (kind, last) == ("tags", "list"):
            return await self._tags(call, name)
        answers: dict[str, Callable[[Request, str, str], Awaitable[Response]]] = {
            "manifests": self._manifest,
            "blobs": self._blob,
            "referrers": self._referrers,
        }
        if kind not in answers:
            raise _nowhere()
        return await answers[kind](call, name, last)

    async def _list(self, call: Request) -> Response:
        catalog = await self.current.catalog()
        names, header = page("/v2/_catalog", catalog.names(_namespace(call)), call.query)
        return Response.json({"repositories": names}, header)

    async def _tags(self, call: Request, name: str) -> Response:
        repository = await self._repository(call, name)
        tags, header = page(f"/v2/{name}/tags/list", sorted(repository.tags), call.query)
        return Response.json({"name": name, "tags": tags}, {**header, **_scoped(call)})

    async def _manifest(self, call: Request, name: str, reference: str) -> Response:
        repository = await self._repository(call, name)
        node = repository.tags.get(reference) if is_tag(reference) else None
        if ":" in reference:
            node = (await self.current.holdings(repository)).content.get(_digest(reference))
        if node is None or not node.is_manifest:
            raise Refusal(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {reference[:256]!r}.")
        return await self._content(call, name, node, node.media_type, "MANIFEST_UNKNOWN")

    async def _blob(self, call: Request, name: str, reference: str) -> Response:
        repository = await self._repository(call, name)
        node = (await self.current.holdings(repository)).content.get(_digest(reference))
        if node is None:
            raise Refusal(404, "BLOB_UNKNOWN", f"{name} has no blob {reference}.")
        return await self._content(call, name, node, _OCTETS, "BLOB_UNKNOWN")

    async def _content(self, call: Request, name: str, node: Descriptor, media_type: str, unknown: str) -> Response:
        """Content whose bytes are right, or why there is none; HEAD too is a promise that it is there."""
        found = await self.store.open(node)
        if isinstance(found, BlobCheck):
            raise _unfit(name, node, found, unknown)
        try:
            return _whole_or_part(call, node, media_type, found)
        except BaseException:
            if isinstance(found, Opened):
                found.close()
            raise

    async def _referrers(self, call: Request, name: str, reference: str) -> Response:
        repository = await self._repository(call, name)
        subject, kind = _digest(reference), call.query.get("artifactType")
        found = (await self.current.holdings(repository)).referrers.get(subject, [])
        nodes = [node for node in found if not kind or node.artifact_type == kind]
        nodes = [node for node in nodes if node.digest > call.query.get("last", "")]
        shown = list(_fitting(nodes))
        headers = {"Content-Type": OCI_INDEX, **_scoped(call)} | (
            {"OCI-Filters-Applied": "artifactType"} if kind else {}
        )
        if len(shown) < len(nodes):
            headers |= link(f"/v2/{name}/referrers/{subject}", {**call.query, "last": nodes[len(shown) - 1].digest})
        return Response.json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": shown}, headers)

    async def _repository(self, call: Request, name: str) -> Repository:
        if not is_repository(name):
            raise Refusal(404, "NAME_INVALID", f"{name[:256]!r} is no name of a repository.")
        found = (await self.current.catalog()).find(name, _namespace(call))
        if found is None:
            raise Refusal(404, "NAME_UNKNOWN", f"There is no repository {name[:256]!r} here.")
        return found


def _parts(path: str) -> list[str]:
    """What comes after `/v2/`, decoded; [] for the root of the API.

    Raises:
        Refusal: it is no path of a registry.
    """
    if path in ("/v2", "/v2/"):
        return []
    if not path.startswith("/v2/"):
        raise _nowhere()
    try:
        parts = [unquote_to_bytes(part).decode("utf-8") for part in path.removeprefix("/v2/").split("/")]
    except UnicodeError:
        raise _nowhere() from None
    if any(not part.isprintable() or "/" in part for part in parts) or (len(parts) < 3 and parts != ["_catalog"]):
        raise _nowhere()
    return parts


def _nowhere() -> Refusal:
    return Refusal(404, "UNSUPPORTED", "There is nothing at this path.")


def _digest(text: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise Refusal(400, "DIGEST_INVALID", str(error)) from None


def _namespace(call: Request) -> str | None:
    """The registry that a client means (OCI distribution-spec, "Registry Proxying")."""
    text = call.query.get("ns")
    if text is not None and not is_host(text):
        raise Refusal(400, "NAME_INVALID", f"ns should be a registry and is {text[:256]!r}.")
    return text


def _scoped(call: Request) -> dict[str, str]:
    return {"OCI-Namespace": call.query["ns"]} if "ns" in call.query else {}


def _whole_or_part(call: Request, node: Descriptor, media_type: str, found: bytes | Opened) -> Response:
    size, tag = node.size, f'"{node.digest}"'
    headers = {
        "Content-Type": media_type,
        "Docker-Content-Digest": str(node.digest),
        "ETag": tag,
        "Accept-Ranges": "bytes",
        **_scoped(call),
    }
    if "if-none-match" in call.headers and matches(call.headers["if-none-match"], tag):
        _close(found)
        return Response(304, headers)
    wanted = call.headers.get("range") if call.method == "GET" else None  # RFC 9110, 14.2: it means nothing elsewhere
    if "if-range" in call.headers and call.headers["if-range"].strip() != tag:
        wanted = None
    part = span(wanted, size)
    if part is None:
        return Response(200, headers, found, count=size)
    start, count = part
    headers["Content-Range"] = f"bytes {start}-{start + count - 1}/{size}"
    return Response(206, headers, found, start, count)


def _close(found: bytes | Opened) -> None:
    if isinstance(found, Opened):
        found.close()


def _unfit(name: str, node: Descriptor, verdict: BlobCheck, unknown: str) -> Refusal:
    """Why content is not served. The client learns what is wrong, and nothing of the server's folders."""
    if verdict.flaw is BlobFault.MISSING:
        return Refusal(
            404,
            unknown,
            f"{name} names {node.digest}, and it is not here.",
            note=f"{node.digest} of {name} is missing; pull the image again to have it.",
        )
    return Refusal(
        500,
        "UNKNOWN",
        f"{node.digest} is {verdict.flaw}: expected {verdict.expected}, found {verdict.found}."
        " It is not served until it has been healed: pull the image again into the layout.",
        detail={"digest": node.digest, "flaw": verdict.flaw, "expected": verdict.expected, "found": verdict.found},
        note=f"{node.digest} of {name} is {verdict.flaw}: expected {verdict.expected}, found {verdict.found}."
        " It is not served; pull the image again to heal it.",
    )


def _fitting(nodes: list[Descriptor]) -> Iterator[JsonObject]:
    """As many referrers as an index may have bytes, and one at least."""
    size = 0
    for node in nodes:
        shown = node.to_json()
        size += len(json.dumps(shown)) + 2
        if size > MANIFEST_CAP - 1024 and size > len(json.dumps(shown)) + 2:
            return
        yield shown
