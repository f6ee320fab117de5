"""The endpoints of the distribution specification and the rights that each needs."""

import re
from dataclasses import dataclass

from tests.support.registry.messages import Call

_WORD = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"(?P<repo>{_WORD}(?:/{_WORD})*)"

# Uploads before blobs: "uploads" would be a bad digest.
_ROUTES = {
    "base": re.compile(r"/v2/?"),
    "catalog": re.compile(r"/v2/_catalog"),
    "tags": re.compile(rf"/v2/{_NAME}/tags/list"),
    "referrers": re.compile(rf"/v2/{_NAME}/referrers/(?P<reference>[^/]+)"),
    "manifest": re.compile(rf"/v2/{_NAME}/manifests/(?P<reference>[^/]+)"),
    "uploads": re.compile(rf"/v2/{_NAME}/blobs/uploads/?"),
    "upload": re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<reference>[^/]+)"),
    "blob": re.compile(rf"/v2/{_NAME}/blobs/(?P<reference>[^/]+)"),
}


@dataclass(frozen=True)
class Route:
    kind: str
    repo: str = ""
    reference: str = ""


def find_route(path: str) -> Route | None:
    for kind, pattern in _ROUTES.items():
        if match := pattern.fullmatch(path):
            return Route(kind, **match.groupdict())
    return None


def needed_rights(call: Call, route: Route | None) -> tuple[str, ...]:
    """Return the grants that a token needs, one action each: `repository:name:pull`."""
    if route is None or route.kind == "base":
        return ()
    if route.kind == "catalog":
        return ("registry:catalog:*",)
    rights = [f"repository:{route.repo}:{action}" for action in _actions(call.method, route.kind)]
    if call.method == "POST" and (source := call.param("from")):
        rights.append(f"repository:{source}:pull")
    return tuple(rights)


def _actions(method: str, kind: str) -> tuple[str, ...]:
    if method in ("GET", "HEAD"):
        return ("pull",)
    if method == "DELETE" and kind != "upload":
        return ("delete",)
    return ("pull", "push")
