"""The endpoints of the distribution specification, each answered by a method of `Distribution`."""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.support.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX
from tests.support.registry.messages import Answer, Call, Refused, answer, answer_json, refuse
from tests.support.registry.quirks import PROXY_PAGE, Quirks
from tests.support.registry.routes import Route
from tests.support.registry.storage import Repository, Store, digest_of, is_digest
from tests.support.registry.uploads import Uploads

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


@dataclass(frozen=True)
class Options:
    """The behaviour of the registry where real ones differ."""

    strict: bool = True  # a manifest is refused while content that it references is missing
    relative_locations: bool = False
    read_only: bool = False
    page: int = 1000  # the maximum number of entries in a page
    referrers: bool = False  # the referrers API, and OCI-Subject
    dashes: bool = False  # GitLab: sha256-… is not a tag but the digest sha256:…
    quirks: Quirks = field(default_factory=Quirks)


class Distribution:
    """Answers calls: PUT of a `manifest` is `put_manifest`, and so on; HEAD is GET without its body."""

    def __init__(self, store: Store, options: Options) -> None:
        self._store = store
        self._options = options
        self._uploads = Uploads(store, options.relative_locations, options.quirks)

    async def answer(self, call: Call, route: Route | None) -> Answer:
        try:
            return await self._handler(call, route)
        except Refused as refused:
            return refused.answer

    async def _handler(self, call: Call, route: Route | None) -> Answer:
        limit = self._options.quirks.body_limit
        if limit is not None and int(call.headers.get("content-length", 0)) > limit:
            return answer(413, PROXY_PAGE, Content_Type="text/html", Server="nginx/1.22.1")
        if route is None:
            refuse(404, "NAME_UNKNOWN", "no such endpoint, or not a repository name")
        method = "get" if call.method == "HEAD" else call.method.lower()
        name = f"{method}_{route.kind}"
        owner = self._uploads if route.kind in ("upload", "uploads") else self
        handler: Callable[[Call, Route], Awaitable[Answer]] | None = getattr(owner, name, None)
        if handler is None or (self._options.read_only and method != "get"):
            refuse(405, "UNSUPPORTED", f"{call.method} is not supported here")
        return await handler(call, route)

    async def get_base(self, call: Call, route: Route) -> Answer:
        return answer_json(200, {}, Docker_Distribution_API_Version="registry/2.0")

    # Lists

    async def get_catalog(self, call: Call, route: Route) -> Answer:
        return self._listed(call, "/v2/_catalog", {}, "repositories", list(self._store.repositories))

    async def get_tags(self, call: Call, route: Route) -> Answer:
        tags = list(self._repository(route.repo).tags)
        return self._listed(call, f"/v2/{route.repo}/tags/list", {"name": route.repo}, "tags", tags)

    def _listed(self, call: Call, path: str, document: dict[str, Any], key: str, names: list[str]) -> Answer:
        """Return one page of a list in lexical order, with a Link to the next page if there is one."""
        asked = call.param("n")
        if asked is not None and not re.fullmatch("[0-9]{1,9}", asked):
            refuse(400, "PAGINATION_NUMBER_INVALID", "n is not a number")
        count = self._options.page if asked is None else min(int(asked), self._options.page)
        last = call.param("last")
        rest = sorted(name for name in names if last is None or name > last)
        page = rest[:count]
        given = answer_json(200, {**document, key: page})
        if page and len(rest) > count:
            given = given.plus("Link", f'<{path}?n={count}&last={quote(page[-1])}>; rel="next"')
        return given

    async def get_referrers(self, call: Call, route: Route) -> Answer:
        """Return the manifests with this subject, as an index, in pages."""
        if not self._options.referrers:
            refuse(404, "UNSUPPORTED", "no such endpoint")
        if not is_digest(route.reference):
            refuse(400, "DIGEST_INVALID", "not a digest", route.reference)
        found = self._referring(route)
        start = int(call.param("skip") or 0)
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found[start : start + self._options.page]}
        given = answer(200, json.dumps(document).encode(), Content_Type=OCI_INDEX)
        if len(found) > start + self._options.page:
            path = f"/v2/{route.repo}/referrers/{route.reference}"
            given = given.plus("Link", f'<{path}?skip={start + self._options.page}>; rel="next"')
        return given

    def _referring(self, route: Route) -> list[dict[str, Any]]:
        """Return the descriptors of manifests with this subject; the subject itself need not exist."""
        repository = self._store.repository(route.repo) or Repository()
        found = []
        for digest, media_type in sorted(repository.manifests.items()):
            data = self._store.contents[digest]
            document = json.loads(data)
            if (document.get("subject") or {}).get("digest") == route.reference:
                kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
                node = {"mediaType": media_type, "digest": digest, "size": len(data), "artifactType": kind}
                found.append({**node, "annotations": document.get("annotations", {})})
        return found

    # Manifests

    async def get_manifest(self, call: Call, route: Route) -> Answer:
        repository = self._repository(route.repo)
        digest = self._manifest(repository, route.reference)
        media_type = repository.manifests[digest]
        body = self._store.contents[digest]
        return answer(200, body, Content_Type=media_type, Docker_Content_Digest=digest)

    async def put_manifest(self, call: Call, route: Route) -> Answer:
        data = b"".join([chunk async for chunk in call.body])
        by_digest = is_digest(route.reference)
        digest = digest_of(data, route.reference.partition(":")[0] if by_digest else "sha256")
        if by_digest and digest != route.reference:
            refuse(400, "DIGEST_INVALID", "the manifest does not hash to its digest", digest)
        if not by_digest and not _TAG.fullmatch(route.reference):
            refuse(400, "TAG_INVALID", "neither a tag nor a digest")
        media_type = call.headers.get("content-type", "application/octet-stream")
        self._check(route.repo, data, media_type)
        self._check_subject(route, data)
        self._store.contents[digest] = data
        self._store.link_manifest(route.repo, digest, media_type, None if by_digest else route.reference)
        where = f"/v2/{route.repo}/manifests/{digest}"
        given = answer(201, Location=where, Docker_Content_Digest=digest)
        subject = json.loads(data).get("subject") if self._options.referrers else None
        return given.plus("OCI-Subject", subject["digest"]) if subject else given

    async def delete_manifest(self, call: Call, route: Route) -> Answer:
        repository = self._repository(route.repo)
        digest = self._manifest(repository, route.reference)
        if is_digest(route.reference):
            del repository.manifests[digest]
        for tag in [tag for tag, of in repository.tags.items() if route.reference in (tag, of)]:
            del repository.tags[tag]
        return answer(202)

    def _check(self, repo: str, data: bytes, media_type: str) -> None:
        """Refuse an invalid manifest, and a manifest whose parts are not in this repository yet."""
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            refuse(400, "MANIFEST_INVALID", "the manifest is not a JSON object")
        self._check_kind(document, media_type)
        if not self._options.strict:
            return
        if document.get("mediaType", media_type) != media_type:
            refuse(400, "MANIFEST_INVALID", "mediaType and Content-Type differ")
        try:
            missing = list(_missing(document, self._store.repository(repo) or Repository()))
        except (AttributeError, KeyError, TypeError):
            refuse(400, "MANIFEST_INVALID", "the manifest has another shape than a manifest")
        if missing:
            refuse(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", {"digest": missing[0]})

    def _check_subject(self, route: Route, data: bytes) -> None:
        if not self._options.quirks.subjects_first:
            return
        subject = json.loads(data).get("subject", {}).get("digest")
        if not subject and route.reference.startswith("sha256-"):
            subject = route.reference.partition(".")[0].replace("-", ":")
        repository = self._store.repository(route.repo) or Repository()
        if subject and subject not in repository.manifests:
            refuse(404, "NOT_FOUND", f"artifact {route.repo}@{subject} not found")

    def _check_kind(self, document: dict[str, Any], media_type: str) -> None:
        """Refuse types that only some registries refuse, see `Quirks`."""
        quirks = self._options.quirks
        children = {child.get("mediaType") for child in document.get("manifests", ())}
        if quirks.uniform_index and media_type == OCI_INDEX and children & {DOCKER_LIST, DOCKER_MANIFEST}:
            refuse(400, "MANIFEST_INVALID", "manifest invalid", {"message": "failed schema validation"})
        kind = document.get("config", {}).get("mediaType")
        if quirks.config_types is not None and kind is not None and kind not in quirks.config_types:
            refuse(400, "MANIFEST_INVALID", "manifest invalid", {"message": f"{kind} is not listed"})

    # Blobs

    async def get_blob(self, call: Call, route: Route) -> Answer:
        if self._options.quirks.lying_head and call.method == "HEAD":
            return answer(200).without("Content-Length")
        self._blob(route)
        body = self._store.contents[route.reference]
        headers = {"Docker_Content_Digest": route.reference, "Accept_Ranges": "bytes"}
        return _ranged(call.headers.get("range", ""), body, headers)

    async def delete_blob(self, call: Call, route: Route) -> Answer:
        self._blob(route)
        self._repository(route.repo).blobs.remove(route.reference)
        return answer(202)

    # References

    def _repository(self, name: str) -> Repository:
        found = self._store.repository(name)
        return found or refuse(404, "NAME_UNKNOWN", "repository name not known to registry", {"name": name})

    def _manifest(self, repository: Repository, reference: str) -> str:
        if self._options.dashes and is_digest(reference.replace("-", ":", 1)):
            reference = reference.replace("-", ":", 1)
        digest = repository.find(reference)
        return digest or refuse(404, "MANIFEST_UNKNOWN", "manifest unknown", {"reference": reference})

    def _blob(self, route: Route) -> None:
        if not is_digest(route.reference):
            refuse(400, "DIGEST_INVALID", "not a digest", route.reference)
        if not self._store.has_blob(route.repo, route.reference):
            refuse(404, "BLOB_UNKNOWN", "blob unknown to registry", {"digest": route.reference})


def _missing(document: dict[str, Any], repository: Repository) -> Iterator[str]:
    """Yield the digests that a manifest references and its repository lacks; layers with URLs may be elsewhere."""
    layers = [layer for layer in document.get("layers", ()) if not layer.get("urls")]
    config = [document["config"]] if "config" in document else []
    yield from (node["digest"] for node in config + layers if node["digest"] not in repository.blobs)
    children = document.get("manifests", ())
    yield from (node["digest"] for node in children if node["digest"] not in repository.manifests)


def _ranged(wanted: str, body: bytes, headers: dict[str, str]) -> Answer:
    """Return the whole body, or the one range that was requested; other forms of ranges are ignored."""
    headers["Content_Type"] = "application/octet-stream"
    match = _RANGE.fullmatch(wanted)
    if match is None or wanted == "bytes=-":
        return answer(200, body, **headers)
    size = len(body)
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        return answer(416, Content_Range=f"bytes */{size}")
    return answer(206, body[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{size}", **headers)
