"""Paginated lists (OCI distribution-spec, "Listing Tags" and "Listing Referrers"; RFC 8288 for `Link`).

The `Link` header alone says where the next page is: a short page need not be the last, and a registry may return
everything at once (distribution 2 does). Pages, tags and bytes are limited, since a registry could go on forever.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial

from mirror.errors import InvalidContent, NotFound, TransferError
from mirror.oci.reference import is_tag
from mirror.registry.http import Registry
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.responses import HTML_HINT, is_html
from mirror.registry.transport.urls import parse_http_url
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import Fields, invalid
from mirror.text.redaction import excerpt

MAX_PAGES = 2000
MAX_TAGS = 500_000
MAX_BYTES = 64 * 1024 * 1024  # of all pages together
_PAGE_SIZE = 1000  # tags to request at once; ECR refuses more

_OK = frozenset({200})
_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_PARAMETER = re.compile(r'\s*;\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*)))?')


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list."""

    status: int
    data: bytes  # empty unless the status is 200
    next_path: str | None  # below `/v2/`; None if this is the last page
    redirected: bool  # the response came from a URL other than the requested one


async def pages(
    registry: Registry,
    path: str,
    scope: str,
    *,
    expect: frozenset[int] = _OK,
    retry: RetryPolicy = ONCE,
    max_pages: int = MAX_PAGES,
) -> AsyncIterator[Page]:
    """Yield the pages of a list, from `path` below `/v2/` on; `retry` is for each page.

    The first page may have any of the statuses `expect`, a transient one only after a redirect.
    """
    seen: set[str] = set()
    size = 0
    what = path.partition("?")[0]
    next_path: str | None = path
    while next_path is not None:
        if next_path in seen:
            raise InvalidContent(f"{registry.name}: the pages of {what} link in a circle.")
        if len(seen) == max_pages:
            raise InvalidContent(f"{registry.name}: {what} has more than {max_pages} pages.")
        seen.add(next_path)
        page = await retry.run(partial(_page, registry, next_path, scope, expect if len(seen) == 1 else _OK))
        size += len(page.data)
        if size > MAX_BYTES:
            raise InvalidContent(f"{registry.name}: {what} has more than {MAX_BYTES} bytes.")
        yield page
        next_path = page.next_path


async def _page(registry: Registry, path: str, scope: str, expect: frozenset[int]) -> Page:
    async with registry.send("GET", path, scope=scope, expect=expect) as response:
        what = path.partition("?")[0]
        redirected = response.url.raw_path != f"/v2/{what}"
        if response.status != 200:
            error = await registry.error(Request.of(response), response)
            if error.transient and not redirected:
                raise error
            return Page(response.status, b"", None, redirected)
        data = await registry.read(response, MAX_BYTES, f"{registry.name}: {what}")
        return Page(200, data, next_page(response), redirected)


def next_page(response: Response) -> str | None:
    """Return the path of the next page below `/v2/`; None if this is the last.

    Only the path and query of the link are used, for a request to the same registry: behind a proxy, registries name
    hosts that cannot be reached from outside, and no registry may send our requests and credentials to another host.
    """
    for target, relations in parse_links(response.headers.getall("Link", [])):
        if "next" not in relations:
            continue
        url = parse_http_url(target, base=response.url)
        if url is None or not url.raw_path.startswith("/v2/"):
            request = Request.of(response)
            raise TransferError(
                f"{request.host}: {excerpt(target, 200)!r} is not a valid link to a next page{request.about}."
            )
        return url.raw_path_qs.removeprefix("/v2/")
    return None


def parse_links(headers: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
    """Return the targets and relation types in `Link` headers; each header is read up to its first malformed part."""
    links = []
    for header in headers:
        position = 0
        while link := _TARGET.match(header, position):
            position = link.end()
            relations: str | None = None
            while (parameter := _PARAMETER.match(header, position)) and parameter.end() > position:
                name, quoted, bare = parameter.groups()
                if name.lower() == "rel" and relations is None:  # the first one counts (RFC 8288, 3.3)
                    relations = (bare or "") if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                position = parameter.end()
            links.append((link[1].strip(), frozenset((relations or "").lower().split())))
    return links


async def list_tags(
    registry: Registry, repository: str, scope: str, *, retry: RetryPolicy = ONCE, max_pages: int = MAX_PAGES
) -> list[str]:
    """Return all tags of a repository, each once, in the registry's order; `retry` is for each page."""
    tags: dict[str, None] = {}
    what = f"The list of tags of {registry.name}/{repository}"
    first = f"{repository}/tags/list?n={_PAGE_SIZE}"
    async for page in pages(registry, first, scope, expect=frozenset({200, 404}), retry=retry, max_pages=max_pages):
        if page.status == 404:
            raise NotFound(f"There is no repository {registry.name}/{repository}.")
        if is_html(page.data):
            raise InvalidContent(f"{what} is a web page.", hint=HTML_HINT)
        found = Fields.load(page.data, what).strings("tags")
        for tag in found:
            if not is_tag(tag):
                raise invalid(what, f"{excerpt(tag, 140)!r} is not a valid tag")
        tags.update(dict.fromkeys(found))
        if len(tags) > MAX_TAGS:
            raise InvalidContent(f"{what} has more than {MAX_TAGS} tags.")
    return list(tags)
