"""Descriptions of requests, for messages and the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from yarl import URL

from mirror.registry.transport.exchange import Response
from mirror.registry.transport.urls import Origin, redact

_ENDPOINT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers|tags)/(?P<target>[^/]+)(?:/.*)?")


@dataclass(frozen=True, slots=True)
class Request:
    """The description of a request for the user."""

    method: str
    url: str  # without its query and user
    host: str  # with its port unless that is the scheme's default
    subject: str = ""  # the requested resource, in the terms of the distribution specification; empty for other URLs

    @classmethod
    @lru_cache(maxsize=128)  # each request is described several times
    def to(cls, method: str, url: URL) -> Request:
        """Return the description of a request to `url`."""
        subject = ""
        if found := _ENDPOINT.fullmatch(url.path):
            name, kind, target = found["name"], found["kind"], found["target"]
            if kind == "manifests":
                subject = f"manifest {name}{'@' if ':' in target else ':'}{target}"
            elif kind == "tags":
                subject = f"tags of {name}"
            elif target == "uploads":
                subject = f"upload to {name}"
            else:
                subject = f"{'blob' if kind == 'blobs' else 'referrers of'} {target} in {name}"
        return cls(method, redact(url), Origin.of(url).authority, subject)

    @classmethod
    def of(cls, response: Response) -> Request:
        """Return the description of the request that `response` is for, after any redirects."""
        return cls.to(response.method, response.url)

    @property
    def about(self) -> str:
        """` (SUBJECT)`, for the end of a sentence; empty if there is no subject."""
        return f" ({self.subject})" if self.subject else ""

    def __str__(self) -> str:
        return f"{self.method} {self.url}"
