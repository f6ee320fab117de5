"""Parse the page of a record. A line that the generator would not write is an error.

No line is skipped, so nothing can be added or removed unnoticed. Values that occur twice must agree: a rounded size and
its bytes, the total size and the layers, the list of platforms and their sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from mirror.errors import InvalidDigest, InvalidRecord, InvalidReference
from mirror.oci.descriptor import Platform
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.records.build import MEDIA_TYPE
from mirror.records.document import (
    HistoryEntry,
    Record,
    RecordedConfig,
    RecordedImage,
    RecordedLayer,
    RecordedManifest,
    repository_of,
)
from mirror.records.formatting import (
    format_platform,
    format_size,
    parse_http_date,
    parse_list,
    parse_platform,
    parse_size,
)
from mirror.records.history import FENCE, NO_DATE, date_line, escape
from mirror.records.markdown import TOTAL_NOTE

CAP = 16 * 1024 * 1024  # bytes of a file of records; the largest published one has less than 1 MiB
_SHOWN = 100  # characters of a line that an error shows

_BACKTICKS = re.compile(r"`(.*)`")
_COUNT = re.compile(r"[0-9]{1,6}")
_CRLF_HINT = "The file has Windows line endings; use it as it was published (with git, set core.autocrlf to false)."


def parse_records(data: bytes, name: str) -> list[Record]:
    """Parse a file of records.

    Args:
        data: the content of the file.
        name: the name of the file, for errors.

    Raises:
        InvalidRecord: it is too large or not UTF-8, or a line cannot be parsed or contradicts another line.
    """
    if len(data) > CAP:
        raise InvalidRecord(f"{name} is not a file of records: it has more than {CAP} bytes.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRecord(f"{name}, line {line}: byte {error.start} of the file is not UTF-8.", line=line) from None
    lines = _Lines(text, name)
    records = [_record(lines)]
    while lines.next is not None:
        lines.exactly("")
        records.append(_record(lines))
    return records


class _Lines:
    """The lines of a file, taken from the top. `number` is that of the last line taken, counted from 1."""

    def __init__(self, text: str, name: str) -> None:
        self._lines = text.removesuffix("\n").split("\n") if text else []
        self._name = name
        self.number = 0

    @property
    def next(self) -> str | None:
        """The next line; None at the end."""
        return self._lines[self.number] if self.number < len(self._lines) else None

    def take(self) -> str:
        if self.next is None:
            message = f"{self._name} ends after line {self.number}, in the middle of a record."
            raise InvalidRecord(message, line=self.number)
        self.number += 1
        return self._lines[self.number - 1]

    def after(self, prefix: str) -> str | None:
        """Take the next line if it begins with `prefix`, and return the rest; otherwise return None."""
        if self.next is None or not self.next.startswith(prefix):
            return None
        return self.take().removeprefix(prefix)

    def expect(self, prefix: str, rest: str) -> str:
        """Take the next line, which must begin with `prefix`, and return the rest; `rest` describes it in errors."""
        line = self.take()
        if not line.startswith(prefix):
            self.fail(f"expected {prefix + rest!r}")
        return line.removeprefix(prefix)

    def exactly(self, line: str) -> None:
        """Take a line with fixed text. Trailing spaces, a line break in Markdown, may be missing."""
        if self.take().rstrip(" ") != line.rstrip(" "):
            self.fail(f"expected {line!r}" if line else "expected an empty line")

    def unquote(self, text: str) -> str:
        """Return text without the backticks around it."""
        found = _BACKTICKS.fullmatch(text)
        return found[1] if found else self.fail("expected something in backticks")

    def fail(self, reason: str) -> NoReturn:
        """Raise an error that shows the last line taken."""
        line = self._lines[self.number - 1]
        shown = line[:_SHOWN] + ("…" if len(line) > _SHOWN else "")
        hint = _CRLF_HINT if line.endswith("\r") else None
        raise InvalidRecord(f"{self._name}, line {self.number}: {shown!r}: {reason}.", line=self.number, hint=hint)


def _record(lines: _Lines) -> Record:
    name = lines.unquote(lines.expect("## ", "`name:tag`"))
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        lines.fail("expected an image name")
    lines.exactly("")
    if lines.next and lines.next.startswith("**does not exist**"):
        lines.take()
        lines.fail(f"when this record was made, there was no image {name}")
    page = _Page(lines, name)
    digest = page.pull()
    if reference.digest not in (None, digest):
        lines.fail(f"this digest differs from the one in the name, {reference.digest}")
    lines.exactly("")
    media_type = page.media_type()
    platforms = page.platforms()
    manifests = tuple(page.section(platform, None if media_type else digest) for platform in platforms)
    return Record(name, digest, media_type, manifests)


@dataclass(frozen=True, slots=True)
class _Page:
    """The parts of one record, in the order of the page."""

    lines: _Lines
    name: str

    def pull(self) -> Digest:
        """Parse the block that shows how to pull by digest."""
        self.lines.exactly(f"{FENCE}console")
        digest = self._digest(self.lines.expect(f"$ docker pull {repository_of(self.name)}@", "sha256:…"))
        self.lines.exactly(FENCE)
        return digest

    def media_type(self) -> str | None:
        text = self.lines.after("-\tManifest MIME: ")
        return None if text is None else self._media_type(self.lines.unquote(text))

    def platforms(self) -> list[Platform]:
        """Parse the list of platforms. The generator of 2017 did not print their number."""
        count = self.lines.expect("-\tPlatforms:", " 2").strip(" ")
        if count and not _COUNT.fullmatch(count):
            self.lines.fail("expected a number of platforms")
        found = []
        while (text := self.lines.after("\t-\t")) is not None:
            found.append(parse_platform(text) or self.lines.fail("expected a platform such as 'linux; amd64'"))
        if count and int(count) != len(found):
            self.lines.fail(f"the list ends here with {len(found)} platforms, but {count} were announced")
        return found

    def section(self, platform: Platform, digest: Digest | None) -> RecordedManifest:
        """Parse the section of one platform. `digest` is that of an image without an index, None with one."""
        self.lines.exactly("")
        self.lines.exactly(f"### `{self.name}` - {format_platform(platform)}")
        self.lines.exactly("")
        if digest is None:
            digest = self.pull()
            self.lines.exactly("")
        return RecordedManifest(platform, digest, self._image())

    def _image(self) -> RecordedImage:
        docker_version = self.lines.after("-\tDocker Version: ")
        media_type = self.media_type()
        total_text = self.lines.expect("-\tTotal Size: ", "**…**").rstrip(" ")
        has_asterisks = total_text.startswith("**") and total_text.endswith("**")
        total = self._size(total_text[2:-2] if has_asterisks else "")
        self.lines.exactly(TOTAL_NOTE)
        image_id = self.lines.after("-\tImage ID: ")
        digest = None if image_id is None else self._digest(self.lines.unquote(image_id))
        entrypoint, command, shell = map(self._list, ("Entrypoint", "Default Command", "`SHELL`"))
        self.lines.exactly("")
        history = tuple(self._history())
        self.lines.exactly("")
        self.lines.exactly("-\tLayers:")
        layers = tuple(self._layers())
        version = escape(docker_version) if docker_version else None
        image = RecordedImage(media_type, digest, layers, RecordedConfig(version, entrypoint, command, shell, history))
        if image.size != total:
            self.lines.fail(f"the layers above have {image.size} bytes in total, but their Total Size is {total}")
        return image

    def _list(self, name: str) -> tuple[str, ...] | None:
        text = self.lines.after(f"-\t{name}: ")
        if text is None:
            return None
        found = parse_list(self.lines.unquote(text))
        return self.lines.fail('expected a list of strings such as ["redis-server"]') if found is None else found

    def _history(self) -> Iterator[HistoryEntry]:
        """Yield the entries of the dockerfile block: a date as a comment, then the lines of an instruction."""
        self.lines.exactly(f"{FENCE}dockerfile")
        while (line := self.lines.take()) != FENCE:
            date = date_line(line)
            created = None if date == NO_DATE else self._date(date or "")
            command = [self.lines.take()]
            if _ends_entry(command[0]):
                self.lines.fail("expected an instruction below its date")
            while self.lines.next is not None and not _ends_entry(self.lines.next):
                command.append(self.lines.take())
            yield HistoryEntry(created, escape("\n".join(command)))

    def _layers(self) -> Iterator[RecordedLayer]:
        while (text := self.lines.after("\t-\t")) is not None:
            digest = self._digest(self.lines.unquote(text.rstrip(" ")))
            date = self.lines.after("\t\tLast Modified: ")
            modified = None if date is None else self._date(date.rstrip(" "))
            text = self.lines.after("\t\tSize: ")
            size = None if text is None else self._size(text.rstrip(" "))
            yield RecordedLayer(digest, size, self._media_type(self.lines.expect("\t\tMIME: ", "…")), modified)
        if self.lines.next:
            self.lines.take()
            self.lines.fail("expected a layer, or an empty line before the next section")

    def _size(self, text: str) -> int:
        size = parse_size(text)
        if size is None:
            self.lines.fail("expected a size such as '39.4 MB (39372240 bytes)' or '98.0 B'")
        if format_size(size) != text:
            self.lines.fail(f"the size contradicts itself: {size} bytes are {format_size(size)!r}")
        return size

    def _date(self, text: str) -> int:
        seconds = parse_http_date(text)
        if seconds is None:
            self.lines.fail("expected a date such as 'Wed, 13 Sep 2017 08:40:50 GMT'")
        return seconds

    def _media_type(self, text: str) -> str:
        return text if MEDIA_TYPE.fullmatch(text) else self.lines.fail("expected a media type")

    def _digest(self, text: str) -> Digest:
        try:
            return Digest.parse(text)
        except InvalidDigest:
            self.lines.fail("expected a digest such as sha256:… with 64 hexadecimal digits")


def _ends_entry(line: str) -> bool:
    return line == FENCE or date_line(line) is not None
