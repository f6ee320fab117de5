"""Lists that come in pages (OCI distribution-spec, "Listing Tags" and "Listing Referrers"; RFC 8288 for `Link`).

The next page is wherever the `Link` header of this one says. A short page is not the end, and a registry may answer
with everything at once (distribution 2 does). Pages, names and bytes are capped, since a registry can go on for ever.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial

import aiohttp

from mirror.errors import InvalidContent, NotFound, TransferError
from mirror.oci.reference import is_tag
from mirror.registry.client import Registry
from mirror.registry.transport.errors import PAGE_HINT, is_page, refusal, shown
from mirror.registry.transport.urls import web_address
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import field, load_object

MOST_PAGES = 2000
MOST_NAMES = 500_000
MOST_BYTES = 64 * 1024 * 1024  # of all pages together
_PAGE = 1000  # names to ask for at once; ECR refuses more

_OK = frozenset({200})
_TARGET = re.compile(r"[\s,]*<([^>]*)>")
_PARAMETER = re.compile(r'\s*;\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]*)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*)))?')


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a list. `next` is the path of the page after it; `elsewhere` says that redirects led away.

    `data` is empty unless `status` is 200.
    """

    status: int
    data: bytes
    next: str | None
    elsewhere: bool


async def pages(
    registry: Registry,
    path: str,
    scope: str,
    *,
    expect: frozenset[int] = _OK,
    retry: RetryPolicy = ONCE,
    most: int = MOST_PAGES,
) -> AsyncIterator[Page]:
    """The pages of a list, one after the other.

    Args:
        registry: who to ask.
        path: the first page's, below `/v2/`.
        scope: what the requests need, for the token.
        expect: the statuses that are answers to the first request; of those that are worth another try, only where the
            registry has sent us on.
        retry: how stubborn to be with each page.
        most: how many pages to ask for.

    Raises:
        InvalidContent: the pages go in a circle, or there are more of them than there can be.
        TransferError: a page could not be fetched.
    """
    seen: set[str] = set()
    held = 0
    what = path.partition("?")[0]
    following: str | None = path
    while following is not None:
        if following in seen:
            raise InvalidContent(f"{registry.name}: the pages of {what} go in a circle.")
        if len(seen) == most:
            raise InvalidContent(f"{registry.name}: {what} has more than {most} pages.")
        seen.add(following)
        page = await retry.run(partial(_page, registry, following, scope, expect if len(seen) == 1 else _OK))
        held += len(page.data)
        if held > MOST_BYTES:
            raise InvalidContent(f"{registry.name}: {what} has more than {MOST_BYTES} bytes.")
        yield page
        following = page.next


async def _page(registry: Registry, path: str, scope: str, expect: frozenset[int]) -> Page:
    async with registry.send("GET", path, scope=scope, expect=expect) as response:
        request = f"GET {shown(response.url)}"
        elsewhere = response.url.raw_path != f"/v2/{path.partition('?')[0]}"
        if response.status != 200:
            refused = await refusal(request, response)
            if refused.transient and not elsewhere:
                raise refused
            return Page(response.status, b"", None, elsewhere)
        data = await registry.read(response, MOST_BYTES, request)
        return Page(200, data, next_page(response), elsewhere)


def next_page(response: aiohttp.ClientResponse) -> str | None:
    """The path of the next page below `/v2/`, None where this is the last.

    Only path and query of a `Link` count. It is the registry that was asked for a list who goes on with it: registries
    behind a proxy name hosts and schemes that nobody outside can reach, and one that names another host gets nothing
    sent there, no credentials least of all.

    Raises:
        TransferError: it leads out of the registry's API.
    """
    for target, relations in parse_links(response.headers.getall("Link", [])):
        if "next" not in relations:
            continue
        url = web_address(target, base=response.url)
        if url is None or not url.raw_path.startswith("/v2/"):
            raise TransferError(f"{shown(response.url)}: the next page is said to be {target[:200]!r}, which is none.")
        return url.raw_path_qs.removeprefix("/v2/")
    return None


def parse_links(headers: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
    """The targets and relation types of `Link` headers; what cannot be understood ends its header."""
    found = []
    for header in headers:
        position = 0
        while link := _TARGET.match(header, position):
            position = link.end()
            relations: str | None = None
            while (parameter := _PARAMETER.match(header, position)) and parameter.end() > position:
                name, quoted, bare = parameter.groups()
                if name.lower() == "rel" and relations is None:  # RFC 8288, 3.3: only the first counts
                    relations = (bare or "") if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                position = parameter.end()
            found.append((link[1].strip(), frozenset((relations or "").lower().split())))
    return found


async def list_tags(
    registry: Registry, name: str, scope: str, *, retry: RetryPolicy = ONCE, most_pages: int = MOST_PAGES
) -> list[str]:
    """All tags of the repository `name`, each once, in the registry's order.

    Raises:
        NotFound: there is no such repository.
        InvalidContent: the answer is no list of tags, or has no end.
        TransferError: it could not be fetched.
    """
    found: dict[str, None] = {}
    what = f"The list of tags of {registry.name}/{name}"
    first = f"{name}/tags/list?n={_PAGE}"
    expect = frozenset({200, 404})
    async for page in pages(registry, first, scope, expect=expect, retry=retry, most=most_pages):
        if page.status == 404:
            raise NotFound(f"There is no repository {registry.name}/{name}.")
        found.update(dict.fromkeys(_tags(page.data, what)))
        if len(found) > MOST_NAMES:
            raise InvalidContent(f"{what} has more than {MOST_NAMES} names.")
    return list(found)


def _tags(data: bytes, what: str) -> list[str]:
    if is_page(data):
        raise InvalidContent(f"{what} came as a web page.", hint=PAGE_HINT)
    tags = field(load_object(data, what), "tags", what)
    if tags is None:
        return []  # Go writes an empty list as null
    if not isinstance(tags, list):
        raise InvalidContent(f"{what} has no tags in it.")
    for tag in tags:
        if not isinstance(tag, str) or not is_tag(tag):
            raise InvalidContent(f"{what} has {str(tag)[:140]!r} in it, which is no tag.")
    return tags
