"""The page of a record → records. A line that is not as the generator writes it is an error that shows it.

Nothing is skipped, so nothing that somebody has added or taken away goes unseen; and what a page says twice (a size
rounded and exact, the total and its parts, the list of platforms and their sections) has to agree.
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
from mirror.records import figures
from mirror.records.describe import MEDIA_TYPE
from mirror.records.document import Record, RecordedImage, RecordedLayer, RecordedManifest, Runtime, Step, repository_of
from mirror.records.history import FENCE, NO_DATE, date_line, harmless
from mirror.records.markdown import TOTAL_NOTE

CAP = 16 * 1024 * 1024  # bytes of a file of records; the largest that is published has less than one
_SHOWN = 100  # characters of a line that an error shows

_TICKED = re.compile(r"`(.*)`")
_COUNT = re.compile(r"[0-9]{1,6}")
_WINDOWS = "Its lines end as on Windows: carry it as it was published (with git, turn core.autocrlf off)."


def parse_records(data: bytes, what: str) -> list[Record]:
    """Read a file of records.

    Args:
        data: its bytes.
        what: how to call it in an error.

    Raises:
        InvalidRecord: it is too large, no UTF-8, has a line that cannot be understood, or contradicts itself.
    """
    if len(data) > CAP:
        raise InvalidRecord(f"{what} has more than {CAP} bytes, and so much no record has.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidRecord(f"{what}, line {line}: byte {error.start} of the file is no UTF-8.", line=line) from None
    return list(_records(_Lines(text, what)))


class _Lines:
    """The lines of a file, read from the top. `number` is that of the line that was taken last."""

    def __init__(self, text: str, what: str) -> None:
        self._lines = text.removesuffix("\n").split("\n") if text else []
        self._what = what
        self.number = 0

    @property
    def next(self) -> str | None:
        """The line that comes; None at the end."""
        return self._lines[self.number] if self.number < len(self._lines) else None

    def take(self) -> str:
        if self.next is None:
            raise self._error(f"{self._what} ends after line {self.number}, in the middle of a record")
        self.number += 1
        return self._lines[self.number - 1]

    def after(self, prefix: str) -> str | None:
        """The rest of the next line, if it begins with `prefix`; only then it is taken."""
        if self.next is None or not self.next.startswith(prefix):
            return None
        return self.take().removeprefix(prefix)

    def expect(self, prefix: str, rest: str) -> str:
        """The rest of the next line, which has to begin with `prefix`; `rest` is what to call it."""
        line = self.take()
        if not line.startswith(prefix):
            self.fail(f"expected {prefix + rest!r}")
        return line.removeprefix(prefix)

    def exactly(self, line: str) -> None:
        """Take a line that is always the same. Spaces at its end are for Markdown, and editors take them away."""
        if self.take().rstrip(" ") != line.rstrip(" "):
            self.fail(f"expected {line!r}" if line else "expected an empty line")

    def fail(self, why: str) -> NoReturn:
        """Give up on the line that was taken last, and show it."""
        line = self._lines[self.number - 1]
        shown = line[:_SHOWN] + ("…" if len(line) > _SHOWN else "")
        hint = _WINDOWS if line.endswith("\r") else None
        raise self._error(f"{self._what}, line {self.number}: {shown!r}: {why}", hint)

    def _error(self, message: str, hint: str | None = None) -> InvalidRecord:
        return InvalidRecord(f"{message}.", line=self.number, hint=hint)


def _records(lines: _Lines) -> Iterator[Record]:
    yield _record(lines)
    while lines.next is not None:
        lines.exactly("")
        yield _record(lines)


def _record(lines: _Lines) -> Record:
    name = _ticked(lines, lines.expect("## ", "`name:tag`"))
    reference = _reference(lines, name)
    lines.exactly("")
    if lines.next and lines.next.startswith("**does not exist**"):
        lines.take()
        lines.fail(f"whoever made this record found no image {name}")
    page = _Page(lines, name)
    digest = page.pull()
    if reference.digest not in (None, digest):
        lines.fail(f"the digest above is another one than that of the name, {reference.digest}")
    lines.exactly("")
    media_type = page.media_type()
    platforms = page.platforms()
    manifests = tuple(page.section(platform, None if media_type else digest) for platform in platforms)
    return Record(name, digest, media_type, manifests)


def _reference(lines: _Lines, name: str) -> Reference:
    try:
        return Reference.parse(name)
    except InvalidReference:
        lines.fail("expected the name of an image")


def _ticked(lines: _Lines, text: str) -> str:
    """What stands between backticks, and is all that does."""
    found = _TICKED.fullmatch(text)
    return found[1] if found else lines.fail("expected something in backticks")


@dataclass(frozen=True, slots=True)
class _Page:
    """The parts of one record's page, in the order in which they stand there."""

    lines: _Lines
    name: str

    def pull(self) -> Digest:
        """The block that shows how to pull by digest."""
        self.lines.exactly(f"{FENCE}console")
        digest = self._digest(self.lines.expect(f"$ docker pull {repository_of(self.name)}@", "sha256:…"))
        self.lines.exactly(FENCE)
        return digest

    def media_type(self) -> str | None:
        text = self.lines.after("-\tManifest MIME: ")
        return None if text is None else self._media_type(_ticked(self.lines, text))

    def platforms(self) -> list[Platform]:
        """The list of platforms; the generator of 2017 did not say how many they are."""
        count = self.lines.expect("-\tPlatforms:", " 2").strip(" ")
        if count and not _COUNT.fullmatch(count):
            self.lines.fail("expected a number of platforms")
        found = []
        while (text := self.lines.after("\t-\t")) is not None:
            found.append(figures.parse_platform(text) or self.lines.fail("expected a platform such as 'linux; amd64'"))
        if count and int(count) != len(found):
            self.lines.fail(f"this is platform {len(found)}, the last of the list, and {count} were announced")
        return found

    def section(self, platform: Platform, digest: Digest | None) -> RecordedManifest:
        """One platform; `digest` is that of the image, where it has no list and so is its own only manifest."""
        self.lines.exactly("")
        self.lines.exactly(f"### `{self.name}` - {figures.platform(platform)}")
        self.lines.exactly("")
        if digest is None:
            digest = self.pull()
            self.lines.exactly("")
        return RecordedManifest(platform, digest, self._image())

    def _image(self) -> RecordedImage:
        docker_version = self.lines.after("-\tDocker Version: ")
        media_type = self.media_type()
        total = self._total()
        image_id = self.lines.after("-\tImage ID: ")
        config = None if image_id is None else self._digest(_ticked(self.lines, image_id))
        entrypoint, command, shell = map(self._words, ("Entrypoint", "Default Command", "`SHELL`"))
        self.lines.exactly("")
        history = tuple(self._history())
        self.lines.exactly("")
        self.lines.exactly("-\tLayers:")
        layers = tuple(self._layers())
        version = harmless(docker_version) if docker_version else None
        image = RecordedImage(media_type, config, layers, Runtime(version, entrypoint, command, shell, history))
        if image.size != total:
            self.lines.fail(f"the layers above have {image.size} bytes in all, and their Total Size is {total}")
        return image

    def _total(self) -> int:
        text = self.lines.expect("-\tTotal Size: ", "**…**").rstrip(" ")
        size = self._size(text[2:-2] if text.startswith("**") and text.endswith("**") else "")
        self.lines.exactly(TOTAL_NOTE)
        return size

    def _words(self, name: str) -> tuple[str, ...] | None:
        text = self.lines.after(f"-\t{name}: ")
        if text is None:
            return None
        found = figures.parse_words(_ticked(self.lines, text))
        return self.lines.fail('expected a list of strings such as ["redis-server"]') if found is None else found

    def _history(self) -> Iterator[Step]:
        """The steps of the dockerfile block: a date as a comment, and one or more lines of an instruction."""
        self.lines.exactly(f"{FENCE}dockerfile")
        while (line := self.lines.take()) != FENCE:
            date = date_line(line)
            created = None if date == NO_DATE else self._date(date or "")
            command = [self.lines.take()]
            if _ends_step(command[0]):
                self.lines.fail("expected an instruction below its date")
            while self.lines.next is not None and not _ends_step(self.lines.next):
                command.append(self.lines.take())
            yield Step(created, harmless("\n".join(command)))

    def _layers(self) -> Iterator[RecordedLayer]:
        while (text := self.lines.after("\t-\t")) is not None:
            digest = self._digest(_ticked(self.lines, text.rstrip(" ")))
            modified = self.lines.after("\t\tLast Modified: ")
            when = None if modified is None else self._date(modified.rstrip(" "))
            size = self.lines.after("\t\tSize: ")
            count = None if size is None else self._size(size.rstrip(" "))
            yield RecordedLayer(digest, count, self._media_type(self.lines.expect("\t\tMIME: ", "…")), when)
        if self.lines.next:
            self.lines.take()
            self.lines.fail("expected a layer, or an empty line and what comes next")

    def _size(self, text: str) -> int:
        count = figures.parse_size(text)
        if count is None:
            self.lines.fail("expected a size such as '39.4 MB (39372240 bytes)' or '98.0 B'")
        if figures.size(count) != text:
            self.lines.fail(f"the size contradicts itself, since {count} bytes are {figures.size(count)!r}")
        return count

    def _date(self, text: str) -> int:
        seconds = figures.parse_http_date(text)
        return (
            self.lines.fail("expected a date such as 'Wed, 13 Sep 2017 08:40:50 GMT'") if seconds is None else seconds
        )

    def _media_type(self, text: str) -> str:
        return text if MEDIA_TYPE.fullmatch(text) else self.lines.fail("expected a media type")

    def _digest(self, text: str) -> Digest:
        try:
            return Digest.parse(text)
        except InvalidDigest:
            self.lines.fail("expected a digest such as sha256:… with 64 hexadecimal digits")


def _ends_step(line: str) -> bool:
    return line == FENCE or date_line(line) is not None
