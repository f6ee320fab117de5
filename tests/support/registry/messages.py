"""Requests and responses of the embedded registry: values without I/O."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, NoReturn

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call:
    """A parsed request; header names are lower case."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    origin: str
    body: AsyncIterator[bytes]

    def param(self, name: str) -> str | None:
        values = self.query.get(name)
        return values[0] if values else None


@dataclass(frozen=True)
class Ending:
    """A connection that ends before its response does: after so many body bytes, None for no response at all."""

    after: int | None
    leave: Callable[[Any], Awaitable[None]]


class HangUp(Exception):
    """Raised while a request body is read, at the byte where a fault ends the connection."""

    def __init__(self, ending: Ending) -> None:
        super().__init__()
        self.ending = ending


@dataclass(frozen=True)
class Answer:
    """A whole response, so that a fault can change any part of it before the first byte is sent.

    It is sent after `delay` seconds, once `is_due` is true, and its body at no more than `rate` bytes per second.
    """

    status: int
    body: bytes = b""
    headers: Headers = ()
    chunked: bool = False
    ending: Ending | None = None
    delay: float = 0
    is_due: Callable[[], bool] = lambda: True
    rate: int | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def without(self, name: str) -> "Answer":
        return replace(self, headers=tuple(pair for pair in self.headers if pair[0].lower() != name.lower()))

    def plus(self, name: str, value: str) -> "Answer":
        return replace(self, headers=(*self.headers, (name, value)))

    def with_body(self, body: bytes) -> "Answer":
        """Replace the body, with a Content-Length that matches."""
        bare = replace(self.without("Content-Length"), body=body)
        return bare if self.chunked else bare.plus("Content-Length", str(len(body)))


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Return a response with Content-Length; `Docker_Content_Digest="…"` is the header Docker-Content-Digest."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status, headers=pairs).with_body(body)


def answer_json(status: int, document: object, **headers: str) -> Answer:
    return answer(status, json.dumps(document).encode(), Content_Type="application/json", **headers)


class Refused(Exception):
    """Raised by a handler to respond with an error."""

    def __init__(self, refusal: Answer) -> None:
        super().__init__(refusal.status)
        self.answer = refusal


def refusal(status: int, code: str, message: str, detail: object = None, **headers: str) -> Answer:
    """Return an error response with the JSON of the specification."""
    error = {"code": code, "message": message, "detail": detail}
    return answer_json(status, {"errors": [error]}, **headers)


def refuse(status: int, code: str, message: str, detail: object = None, **headers: str) -> NoReturn:
    raise Refused(refusal(status, code, message, detail, **headers))
