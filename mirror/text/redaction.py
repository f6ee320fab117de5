"""The secrets of this process, kept out of everything that it says.

A server may repeat what it received: in the message of an error, a redirect, a media type, encoded or cut. Code
that reads a secret calls `hide`. Errors and the output of commands call `redact`. Code that shortens a text that may be
hostile calls `excerpt`, since one half of a secret that was cut in two would not be found.

A secret is found in plain text, in base64 (alone, or at any place in a longer text), and in hexadecimal digits; each of
these also with percent-encoding, escapes as in JSON and HTML, in another case and broken into lines. Of a long secret,
16 characters are enough.
"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"

_WINDOW = 8  # bytes by which forms are found
_FRAGMENT = 15  # bytes of a longer form that are redacted alone: these always contain one of its windows
_MAX_WINDOWS = 32  # of one form; a longer one is found by longer fragments
_SHORTEST = 4  # bytes; a shorter secret would be found everywhere
_LONGEST_WORD = 15  # letters of a word, which may be a part of a name: docker.io/library/postgres
_MAX_TOKENS = 256  # a registry repeats what it has just received
_EXCERPT = 64 * 1024  # characters of a text that are searched for an excerpt
_USER_IN_URL = r"(?<=://)(?!user:password@)[^\s/@:\"'<>]*+:[^\s/@\"'<>]*+@"  # in linear time
_ESCAPE = (  # compiled on first use, as all of them: most runs need none
    r"(?is)%(?:25)*(?P<byte>[0-9A-F]{2})|\\+u(?P<unit>[0-9A-F]{4})|\\+x(?P<code>[0-9A-F]{2})|\\+(?P<char>.)"
    r"|&#(?P<decimal>[0-9]{1,6});|&#x(?P<hex>[0-9A-F]{1,5});|&(?P<name>amp|lt|gt|quot|apos);"
)
_NAMES = {"amp": b"&", "lt": b"<", "gt": b">", "quot": b'"', "apos": b"'"}
_CONTROLS = dict.fromkeys("nrtbf", b"")  # JSON's escapes of control characters
_SPECIAL = r"[%\\&\r\n\t\b\f]|[^\x00-\x7f]"  # what `_fold` does not map to one byte
_ALIKE = bytes.maketrans(b"-_", b"+/")  # base64 for URLs
_BASE64 = rb"[a-z0-9+/]"  # folded
_CONTROL_BYTES = b"\r\n\t\b\f\\"  # and backslashes: each level of escapes doubles them


class _Form(NamedTuple):
    """A form of a secret, folded. The bytes `before` and `after` it depend on the secret as well."""

    data: bytes
    before: int
    after: int
    is_word: bool  # it is found only between other characters than letters and digits


class _Folded(NamedTuple):
    """A text without its escapes, in lower case; the range of characters that each byte stands for."""

    data: bytes
    ranges: list[tuple[int, int]] | None  # None: one character for each byte


class _Secrets:
    """The forms of all secrets."""

    def __init__(self) -> None:
        self._known: dict[str, list[_Form]] = {}
        self._tokens: deque[str] = deque()
        self._windows: dict[bytes, list[tuple[_Form, int]]] = {}  # with the offset of the window in the form
        self._short: list[_Form] = []

    def clear(self) -> None:
        for collection in (self._known, self._tokens, self._windows, self._short):
            collection.clear()

    def add(self, secret: str, *, is_token: bool) -> None:
        if secret in self._known or len(secret) < _SHORTEST:
            return
        self._known[secret] = list(_forms(secret))
        for form in self._known[secret]:
            if form.is_word or len(form.data) < _WINDOW:
                self._short.append(form)
            for offset in _offsets(form):
                self._windows.setdefault(form.data[offset : offset + _WINDOW], []).append((form, offset))
        if is_token:
            self._tokens.append(secret)
            if len(self._tokens) > _MAX_TOKENS:
                self._remove(self._tokens.popleft())

    def _remove(self, secret: str) -> None:
        for form in self._known.pop(secret):
            if form in self._short:
                self._short.remove(form)
            for offset in _offsets(form):
                window = form.data[offset : offset + _WINDOW]
                self._windows[window].remove((form, offset))
                if not self._windows[window]:
                    del self._windows[window]

    def redact(self, text: str, *, foreign: bool) -> str:
        if not self._known:
            return text
        folded = _fold(text)
        spans = [*self._long_spans(folded.data), *self._short_spans(folded.data, foreign=foreign)]
        if not spans:
            return text
        parts, end = [], -1
        ranges = folded.ranges
        for first, last in sorted((start, stop - 1) for start, stop in spans):
            start, stop = (ranges[first][0], ranges[last][1]) if ranges is not None else (first, last + 1)
            if start > end:
                parts += [text[max(0, end) : start], REDACTED]
            end = max(end, stop)
        return "".join([*parts, text[end:]])

    def _long_spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        windows = self._windows
        found = [at for at in range(len(data) - _WINDOW + 1) if data[at : at + _WINDOW] in windows]
        for at in found:
            for form, offset in windows[data[at : at + _WINDOW]]:
                if span := _extended(data, at, form, offset):
                    yield span

    def _short_spans(self, data: bytes, *, foreign: bool) -> Iterator[tuple[int, int]]:
        for form in self._short:
            if form.is_word and not foreign:
                continue
            start = data.find(form.data)
            while start >= 0:
                end = start + len(form.data)
                around = data[max(0, start - 1) : start] + data[end : end + 1]
                if not form.is_word or not re.search(rb"[a-z0-9\x80-\xff]", around):
                    yield max(0, start - form.before), min(len(data), end + form.after)
                start = data.find(form.data, end)


_all = _Secrets()


def hide(*secrets: str, is_token: bool = False) -> None:
    """Let `redact` find secrets from now on. Of those that are tokens, only the latest are kept."""
    for secret in secrets:
        _all.add(secret, is_token=is_token)


def redact(text: str, *, foreign: bool = False) -> str:
    """Return a text without the secrets of this process, and without passwords in URLs.

    A plain password of less than 8 bytes, or of less than 16 letters and nothing else, is found only if the text is
    `foreign`, and only as a whole word: our own texts and names of images have words such as "secret" and "postgres".
    """
    if "://" in text:
        text = re.sub(_USER_IN_URL, f"{REDACTED}@", text)
    return _all.redact(text, foreign=foreign)


def excerpt(text: str, limit: int) -> str:
    """Return the first `limit` characters of a foreign text, redacted."""
    return redact(text[:_EXCERPT], foreign=True)[:limit]


def forget() -> None:
    """Forget all secrets."""
    _all.clear()


def _forms(secret: str) -> Iterator[_Form]:
    """Yield a secret as a server may repeat it, folded."""
    data = b"".join(map(_utf8, secret))
    misread = data.decode("latin-1")
    literal = "".join(f"%{byte:02x}" for byte in data)  # what looks like an escape is none
    plain = {_fold(text).data for text in (secret, misread, literal, quote(data, safe=""))}
    plain |= {form.replace(b" ", b"+") for form in plain}  # in the query of a URL
    if not secret.isascii():
        plain.add(_fold(secret.encode("unicode_escape").decode()).data)
        plain.add(_fold(_json_escaped(secret)).data)
    for form in plain:
        is_word = len(form) < _WINDOW or (len(form) <= _LONGEST_WORD and form.isalpha())
        yield _Form(form, 0, 0, is_word=is_word)
    yield _Form(data.hex().encode(), 0, 0, is_word=False)
    encoded = {json.dumps(secret)[1:-1], quote(data, safe=""), quote_plus(data)}  # in a document, which is in base64
    for raw in {data, secret.encode("latin-1", "replace"), *map(str.encode, encoded)}:
        for shift in range(3):
            text, cut = b2a_base64(bytes(shift) + raw, newline=False).lower(), (shift + len(raw)) % 3 > 0
            whole = text[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
            yield _Form(whole, int(shift > 0), int(cut), is_word=False)


def _json_escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def _fold(text: str) -> _Folded:
    """Replace escapes by what they stand for, remove line ends, and make equal what encodings of one text may vary."""
    if not re.search(_SPECIAL, text):
        return _Folded(text.lower().encode().translate(_ALIKE), None)
    data, ranges, end = bytearray(), list[tuple[int, int]](), 0
    for found in re.finditer(_ESCAPE, text):
        _append(data, ranges, text, end, found.start())
        decoded = _unescape(found)
        data += decoded
        ranges += [found.span()] * len(decoded)
        end = found.end()
    _append(data, ranges, text, end, len(text))
    return _Folded(bytes(data).lower().translate(_ALIKE), ranges)


def _append(data: bytearray, ranges: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    for at in range(start, end):
        encoded = _utf8(text[at].lower()).translate(None, _CONTROL_BYTES)
        data += encoded
        ranges += [(at, at + 1)] * len(encoded)


def _unescape(found: re.Match[str]) -> bytes:
    kind, value = found.lastgroup, found[found.lastgroup or 0]
    if kind == "byte":
        decoded = bytes([int(value, 16)])
    elif kind == "name":
        decoded = _NAMES[value.lower()]
    elif kind == "char":
        decoded = _CONTROLS.get(value.lower(), _utf8(value.lower()))
    else:
        decoded = _utf8(chr(int(value, 10 if kind == "decimal" else 16)))
    return decoded.translate(None, _CONTROL_BYTES)


def _utf8(char: str) -> bytes:
    """Return the bytes of a character, which may be half of a pair, or a byte that was not UTF-8 (PEP 383)."""
    is_byte = "\udc80" <= char <= "\udcff"
    return char.encode("utf-8", "surrogateescape" if is_byte else "surrogatepass")


def _offsets(form: _Form) -> Iterator[int]:
    """Yield where the windows of a form begin: every fragment of 15 bytes has one; of a long form, longer ones."""
    last = len(form.data) - _WINDOW
    if last >= 0 and not form.is_word:
        step = max(_WINDOW, len(form.data) // _MAX_WINDOWS)
        yield from {*range(0, last + 1, step), last}


def _extended(data: bytes, start: int, form: _Form, before: int) -> tuple[int, int] | None:
    """Return the range around the window at `start` that is in a form; None if it is too short to be no coincidence."""
    end, after = start + _WINDOW, before + _WINDOW
    while before and start and form.data[before - 1] == data[start - 1]:
        before, start = before - 1, start - 1
    while after < len(form.data) and end < len(data) and form.data[after] == data[end]:
        after, end = after + 1, end + 1
    if end - start < min(len(form.data), _FRAGMENT):
        return None
    start -= form.before if start and not before and re.match(_BASE64, data[start - 1 : start]) else 0
    end += form.after if after == len(form.data) and re.match(_BASE64, data[end : end + 1]) else 0
    return start, end
