"""The text of error responses, in the forms that registries, token servers, storage and proxies use.

    {"errors": [{"code", "message", "detail"}]}     OCI distribution-spec, "Error Codes"; Artifactory leaves codes out
    {"message"}, {"error"}, {"details"}, …          token servers, gateways, Harbor's API; RFC 9457
    <Error><Code>…</Code><Message>…</Message>       S3, Azure and Google's storage, to which registries redirect
    plain text                                      Go's net/http, quotas, load balancers

HTML pages have no text here: they are for browsers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.text import printable

# Keys whose values are for people, in the order in which they are quoted
_KEYS = ("code", "error", "errors", "title", "message", "msg", "error_description", "description", "reason")
_DETAILS = ("detail", "details")
_MAX_DEPTH = 4
# Each is searched for once, from the one before on: the cost is linear, even for four megabytes of `<Error>`.
_XML_CODE, _XML_MESSAGE = (re.compile(rf"<{name}>([^<]*+)</{name}>") for name in ("Code", "Message"))
_CAP = 4096  # characters of one text; messages quote fewer, after secrets have been removed


@dataclass(frozen=True, slots=True)
class ErrorText:
    """The codes and messages of an error response, and their details; each may be empty."""

    said: str = ""
    details: str = ""

    def __str__(self) -> str:
        return f"{self.said} ({self.details})" if self.said and self.details else self.said or self.details


def error_text(body: bytes) -> ErrorText:
    """Return the text in the body of an error response; it is printable, and has no line breaks."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return ErrorText()
    if text.lstrip().startswith("<"):
        return ErrorText(_line(": ".join(filter(None, _xml(text)))))
    try:
        document = json.loads(text, strict=False)  # some put line breaks into strings
    except (ValueError, RecursionError):
        # JSON that was cut off, or is nested too deeply, is not for people.
        return ErrorText() if text.lstrip().startswith(("{", "[")) else ErrorText(_line(text))
    said = "; ".join(dict.fromkeys(filter(None, map(_line, _texts(document)))))
    details = "; ".join(dict.fromkeys(filter(None, map(_line, _details(document)))))
    if not (said or details) and document not in ({}, []):
        said = _line(json.dumps(document)) if isinstance(document, dict) and not document.keys() & _KNOWN else ""
    return ErrorText(said[:_CAP], "" if details in said else details[:_CAP])


_KNOWN = frozenset((*_KEYS, *_DETAILS))


def _xml(text: str) -> Iterator[str]:
    """Yield the code and the message of a storage service's error document; nothing for other documents."""
    start = text.find("<Error>")
    code = _XML_CODE.search(text, start) if start >= 0 else None
    if code:
        message = _XML_MESSAGE.search(text, code.end())
        yield from (code[1], message[1] if message else "")


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    """Yield the texts of a document: one for each error of a list, else one for each key."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth < _MAX_DEPTH:
        for item in value:
            yield " ".join(text.strip(" .") for text in _texts(item, depth + 1))
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        for key in _KEYS:
            yield from _texts(value.get(key), depth + 1)


def _details(value: object, depth: int = 0) -> Iterator[str]:
    if isinstance(value, list) and depth < _MAX_DEPTH:
        for item in value:
            yield from _details(item, depth + 1)
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        for key in _DETAILS:
            detail = value.get(key)
            if detail not in (None, "", {}, []):
                yield detail if isinstance(detail, str) else json.dumps(detail)
        yield from _details(value.get("errors"), depth + 1)
        yield from _details(value.get("error"), depth + 1)


def _line(text: str) -> str:
    return printable(" ".join(text.split()).strip(" ."))
