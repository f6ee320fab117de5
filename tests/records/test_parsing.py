"""Tests of the parser of records: written records are read back, and an error names the invalid line."""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import InvalidRecord
from mirror.records import CAP, Record, markdown, parse_records
from tests.records import drawn
from tests.support import strategies
from tests.support.images import RECORD

SEED = (RECORD / "record.md").read_bytes()
LINES = SEED.split(b"\n")


def error_of(page: bytes) -> InvalidRecord:
    with pytest.raises(InvalidRecord) as caught:
        parse_records(page, "record.md")
    return caught.value


# Round trips


@pytest.mark.slow
@strategies.THOROUGH
@given(drawn.records())
def test_any_record_is_read_back(record: Record) -> None:
    assert parse_records(markdown(record).encode(), "it") == [record]


@pytest.mark.slow
@strategies.QUICK
@given(st.lists(drawn.records(), min_size=2, max_size=3))
def test_several_records_are_read_from_one_file(records: list[Record]) -> None:
    assert parse_records("\n".join(map(markdown, records)).encode(), "it") == records


@pytest.mark.slow
@strategies.QUICK
@given(drawn.records())
def test_a_written_page_is_printable(record: Record) -> None:
    page = markdown(record)
    assert all(char.isprintable() or char in "\n\t" for char in page)


# Invalid pages


@pytest.mark.slow
@strategies.THOROUGH
@given(st.binary(max_size=300) | strategies.mutated(SEED))
def test_any_bytes_give_records_or_an_error_that_names_the_file(page: bytes) -> None:
    found = strategies.outcome(lambda: parse_records(page, "record.md"))
    assert isinstance(found, list | InvalidRecord)
    if isinstance(found, InvalidRecord):
        assert str(found).startswith("record.md")


@strategies.THOROUGH
@given(st.lists(st.sampled_from(LINES) | st.binary(max_size=20), max_size=60).map(b"\n".join))
def test_any_lines_give_records_or_an_error(page: bytes) -> None:
    assert isinstance(strategies.outcome(lambda: parse_records(page, "record.md")), list | InvalidRecord)


@pytest.mark.parametrize("number", range(len(LINES) - 1))
def test_a_missing_line_is_an_error_or_gives_another_record(number: int) -> None:
    """The record differs if the line is optional: the Docker version, or the date of a layer."""
    page = b"\n".join(LINES[:number] + LINES[number + 1 :])
    found = strategies.outcome(lambda: parse_records(page, "record.md"))
    assert isinstance(found, InvalidRecord) or found != parse_records(SEED, "record.md")


@pytest.mark.parametrize("number", range(0, len(LINES) - 1))
def test_a_truncated_page_is_an_error_or_gives_another_record(number: int) -> None:
    found = strategies.outcome(lambda: parse_records(b"\n".join(LINES[:number]), "record.md"))
    assert isinstance(found, InvalidRecord) or found != parse_records(SEED, "record.md")


@pytest.mark.parametrize("count", [1, len(SEED) // 2])
def test_the_error_about_a_truncated_page_names_the_file(count: int) -> None:
    assert "record.md" in str(error_of(SEED[:count]))


CHANGES: dict[str, tuple[bytes, bytes, str]] = {
    "a digit that is not ASCII": (b"(30113134 bytes)", "(3011313٤ bytes)".encode(), "expected a size"),
    "a full-width digit in a date": (b"23:11:57", "\uff123:11:57".encode(), "expected a date"),
    "a superscript in a count": (b"-\tPlatforms:", "-\tPlatforms: ²".encode(), "a number of platforms"),
    "a wrong day of the week": (b"Thu, 07 Sep 2017", b"Fri, 07 Sep 2017", "expected a date"),
    "a day that the month does not have": (b"Thu, 07 Sep 2017", b"Thu, 31 Sep 2017", "expected a date"),
    "a month in another language": (b"Thu, 07 Sep 2017", b"Thu, 07 Okt 2017", "expected a date"),
    "a short digest": (b"065132d9f705", b"065132d9", "expected a digest"),
    "a digest in upper case": (b"065132d9f705", b"065132D9F705", "expected a digest"),
    "a path instead of a digest": (b"sha256:065132d9", b"../../etc/passwd", "expected a digest"),
    "bytes in the wrong unit": (b"98.0 B", b"98.0 KB", "expected a size"),
    "half a byte": (b"98.0 B", b"98.5 B", "contradicts itself"),
    "a negative size": (b"98.0 B", b"-98.0 B", "expected a size"),
    "a size of 5000 digits": (b"30113134 bytes", b"9" * 5000 + b" bytes", "expected a size"),
    "an object in place of a list": (b'["redis-server"]', b'{"redis": 1}', "expected a list of strings"),
    "a list of numbers": (b'["redis-server"]', b"[1, 2]", "expected a list of strings"),
    "a list that is not closed": (b'["redis-server"]', b"[" * 100_000, "expected a list of strings"),
    "more platforms than announced": (b"-\tPlatforms:", b"-\tPlatforms: 1", "1 were announced"),
    "fewer platforms than announced": (b"-\tPlatforms:", b"-\tPlatforms: 20", "20 were announced"),
    "a platform twice in the list": (b"\t-\tlinux; amd64\n", b"\t-\tlinux; amd64\n" * 2, "` - linux; amd64"),
    "a section of another platform": (b"` - linux; amd64", b"` - linux; arm64", "expected '### `redis:4.0` - linux"),
    "a section of another image": (b"### `redis:4.0` - linux; amd64", b"### `redis:5.0` - linux; amd64", "redis:4.0"),
    "a digest of another repository": (b"docker pull redis@", b"docker pull evil/redis@", "docker pull redis@"),
    "a platform with a slash": (b"\t-\tlinux; amd64", b"\t-\tlinux/amd64", "expected a platform"),
    "an invalid name": (b"## `redis:4.0`", b"## `Redis 4`", "expected an image name"),
    "a name without backticks": (b"## `redis:4.0`", b"## redis:4.0", "in backticks"),
    "an escape sequence in a line": (b"-\tLayers:", b"-\t\x1b[2JLayers:", "Layers"),
    "an escape sequence in a media type": (b"MIME: app", b"MIME: \x1b[2Japp", "expected a media type"),
    "an unknown line": (b"-\tDocker Version", b"-\tTrust me: yes\n-\tDocker Version", "Trust me"),
    "a block in another language": (b"```dockerfile", b"```sh", "```dockerfile"),
    "a command without a date": (b"# Wed, 13 Sep 2017 08:40:50 GMT\nADD", b"ADD", "expected a date"),
    "a date without a command": (
        b"ADD file:bdab114a5717b42a5e02e6f602d5eeb48fc998a60d200704b4da1a7ce8552775 in / \n",
        b"",
        "expected an instruction",
    ),
    "spaces in place of tabs": (b"\t-\t`", b"    -   `", "expected a layer"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_error_about_an_invalid_line_has_its_number_and_the_reason(name: str) -> None:
    old, new, says = CHANGES[name]
    assert old in SEED
    error = error_of(SEED.replace(old, new, 1))
    assert error.line
    assert f"record.md, line {error.line}: " in str(error)
    assert says in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 600


def test_the_error_has_the_number_of_the_changed_line() -> None:
    old, new, _ = CHANGES["a wrong day of the week"]
    assert error_of(SEED.replace(old, new, 1)).line == SEED[: SEED.index(old)].count(b"\n") + 1


def test_windows_line_endings_are_an_error_with_a_hint() -> None:
    error = error_of(SEED.replace(b"\n", b"\r\n"))
    assert error.line == 1
    assert error.hint
    assert "Windows" in error.hint


def test_the_error_about_invalid_utf8_has_the_line() -> None:
    assert "line 1: byte 4 of the file is not UTF-8" in str(error_of(b"## `\xff`\n"))
    assert error_of(b"\n\n" + b"\xc3\x28").line == 3


def test_a_byte_order_mark_is_an_error() -> None:
    assert error_of(b"\xef\xbb\xbf" + SEED).line == 1


@pytest.mark.parametrize("page", [b"", b"\n", b"\n\n\n", b"# Tags of `redis`\n"])
def test_a_page_without_a_record_is_an_error(page: bytes) -> None:
    assert "record.md" in str(error_of(page))


def test_the_record_of_an_image_that_did_not_exist_is_an_error() -> None:
    assert "there was no image redis:9" in str(error_of(b"## `redis:9`\n\n**does not exist** (yet?)\n"))


def test_text_after_a_record_is_an_error() -> None:
    error = error_of(SEED + b"\nPS: all the best\n")
    assert error.line == len(LINES) + 1
    assert "PS: all the best" in str(error)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [1, 84 * 1024 * 1024])
def test_a_file_that_is_too_large_is_refused(extra: int) -> None:
    assert f"more than {CAP} bytes" in str(error_of(b"\xff" * (CAP + extra)))


def test_a_digest_in_the_name_has_to_be_the_digest_of_the_list() -> None:
    digest = b"sha256:" + b"0" * 64
    assert "differs from the one in the name" in str(error_of(SEED.replace(b"`redis:4.0`", b"`redis@%s`" % digest)))


# Hostile pages

_LARGE = CAP // 4

HEAVY: dict[str, Callable[[], bytes]] = {
    "many steps": lambda: _in_history(b"# Wed, 13 Sep 2017 08:40:50 GMT\nX\n" * (_LARGE // 40)),
    "a command of many lines": lambda: _in_history(b"# Wed, 13 Sep 2017 08:40:50 GMT\n" + b"x\n" * (_LARGE // 3)),
    "one long command": lambda: _in_history(b"# Wed, 13 Sep 2017 08:40:50 GMT\n" + b"RUN " * (_LARGE // 5)),
    "empty lines": lambda: b"\n" * _LARGE,
    "platforms": lambda: SEED.replace(b"\t-\tlinux; amd64\n", b"\t-\tlinux; amd64\n" * (_LARGE // 20), 1),
    "features": lambda: SEED.replace(b"linux; amd64", b"linux ft. " + b"a, " * (_LARGE // 4) + b"a; amd64", 1),
    "a long list": lambda: SEED.replace(b'["redis-server"]', b"[" + b'"",' * (_LARGE // 4) + b'""]', 1),
    "a long media type": lambda: SEED.replace(b"MIME: application", b"MIME: " + b"a " * (_LARGE // 3) + b"\t", 1),
}


def _in_history(lines: bytes) -> bytes:
    return SEED.replace(b"```dockerfile\n", b"```dockerfile\n" + lines, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_a_large_page_is_read_or_refused_in_linear_time(name: str) -> None:
    page = HEAVY[name]()
    started = time.process_time()
    strategies.outcome(lambda: parse_records(page, "record.md"))
    assert time.process_time() - started < 30  # a regular expression that backtracks takes days
