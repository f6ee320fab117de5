"""Descriptions of requests, for messages and the log."""

from __future__ import annotations

import re
from dataclasses import dataclass

import aiohttp
from yarl import URL

from mirror.registry.transport.urls import redact

_ENDPOINT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers|tags)/(?P<target>[^/]+)(?:/.*)?")


@dataclass(frozen=True, slots=True)
class Request:
    """The description of a request for the user.

    Attributes:
        method: the HTTP method.
        url: the URL without its query and user.
        host: the host, with its port unless that is the scheme's default.
        subject: the requested resource, in the terms of the distribution specification; empty for other URLs.
    """

    method: str
    url: str
    host: str
    subject: str = ""

    @classmethod
    def to(cls, method: str, url: URL) -> Request:
        """Return the description of a request to `url`."""
        return cls(method, redact(url), url.authority, _subject(url))

    @classmethod
    def of(cls, response: aiohttp.ClientResponse) -> Request:
        """Return the description of the request that `response` is for, after any redirects."""
        return cls.to(response.method, response.url)

    @property
    def about(self) -> str:
        """` (SUBJECT)`, for the end of a sentence; empty if there is no subject."""
        return f" ({self.subject})" if self.subject else ""

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


def _subject(url: URL) -> str:
    found = _ENDPOINT.fullmatch(url.path)
    if not found:
        return ""
    name, kind, target = found["name"], found["kind"], found["target"]
    if kind == "manifests":
        return f"manifest {name}{'@' if ':' in target else ':'}{target}"
    if kind == "tags":
        return f"tags of {name}"
    if target == "uploads":
        return f"upload to {name}"
    return f"{'blob' if kind == 'blobs' else 'referrers of'} {target} in {name}"
