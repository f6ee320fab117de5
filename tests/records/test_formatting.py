"""Tests of sizes, dates, platforms and lists in the format of the public generator, written and read."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.descriptor import Platform
from mirror.records import formatting
from tests.records import drawn
from tests.support import strategies

# Sizes from published records, and limits of the units.
SIZES = {
    0: "0.0 B",
    32: "32.0 B",
    999: "999.0 B",
    1000: "1000.0 B",  # the next unit begins above a thousand
    1001: "1.0 KB (1001 bytes)",
    2415: "2.4 KB (2415 bytes)",
    85312: "85.3 KB (85312 bytes)",
    999_999: "1000.0 KB (999999 bytes)",
    1_000_999: "1001.0 KB (1000999 bytes)",
    1_001_000: "1.0 MB (1001000 bytes)",
    197653378: "197.7 MB (197653378 bytes)",
    2526983573: "2.5 GB (2526983573 bytes)",
    5_000_000_000_000_000: "5000.0 TB (5000000000000000 bytes)",
}
PLATFORMS = {
    "linux; amd64": Platform("linux", "amd64"),
    "linux; arm variant v7": Platform("linux", "arm", "v7"),
    "unknown; unknown": Platform("unknown", "unknown"),
    "windows version 10.0.26100.33438; amd64": Platform("windows", "amd64", os_version="10.0.26100.33438"),
    "windows version 10.0.14393 ft. win32k; amd64 ft. sse4, aes": Platform(
        "windows", "amd64", None, "10.0.14393", ("win32k",), ("sse4", "aes")
    ),
}
DATES = {
    1505292050: "Wed, 13 Sep 2017 08:40:50 GMT",
    0: "Thu, 01 Jan 1970 00:00:00 GMT",
    -1: "Wed, 31 Dec 1969 23:59:59 GMT",
    -62135596800: "Mon, 01 Jan 0001 00:00:00 GMT",  # Go's zero time, which many configs have
    253402300799: "Fri, 31 Dec 9999 23:59:59 GMT",
}


@pytest.mark.parametrize(("count", "text"), SIZES.items())
def test_sizes_are_written_and_read(count: int, text: str) -> None:
    assert formatting.format_size(count) == text
    assert formatting.parse_size(text) == count


@given(drawn.sizes)
def test_any_size_is_read_back(count: int) -> None:
    assert formatting.parse_size(formatting.format_size(count)) == count


@pytest.mark.parametrize("text", ["", "1 PB", "1.0 kB (1000 bytes)", "1.0 KB", "98.0 B (98 bytes)", "1.00 B", "٣.0 B"])
def test_an_invalid_size_is_none(text: str) -> None:
    assert formatting.parse_size(text) is None


@pytest.mark.parametrize(("seconds", "text"), DATES.items())
def test_dates_are_written_and_read(seconds: int, text: str) -> None:
    assert formatting.format_http_date(seconds) == text
    assert formatting.parse_http_date(text) == seconds


@given(drawn.times)
def test_any_date_is_read_back(seconds: int) -> None:
    assert formatting.parse_http_date(formatting.format_http_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2017-09-13T08:40:50Z", 1505292050),
        ("2017-09-13T08:40:50.999999999Z", 1505292050),
        ("2017-09-13t10:40:50+02:00", 1505292050),
        ("0001-01-01T00:00:00Z", -62135596800),
        ("0001-01-01T00:00:00+02:00", None),  # before the year 1
        ("9999-12-31T23:59:59-02:00", None),
        ("2017-09-31T08:40:50Z", None),
        ("2017-09-13", None),
        ("", None),
        ("٢017-09-13T08:40:50Z", None),
        ("2017-09-13T08:40:50Z\n", None),
    ],
)
def test_times_of_configs_are_read_to_the_second(text: str, seconds: int | None) -> None:
    assert formatting.parse_rfc3339(text) == seconds


@given(st.text(max_size=30))
def test_any_text_is_a_time_or_none(text: str) -> None:
    assert formatting.parse_rfc3339(text) is None or text[:4].isdigit()
    assert formatting.parse_http_date(text) is None


@pytest.mark.parametrize(
    ("time", "seconds"),
    [(None, None), (1.9, 1), (0.0, 0), (float("nan"), None), (float("inf"), None), (1e300, None), (4e11, None)],
)
def test_whole_seconds_of_a_time_outside_of_the_calendar_are_none(time: float | None, seconds: int | None) -> None:
    assert formatting.whole_seconds(time) == seconds


@pytest.mark.parametrize(("text", "platform"), PLATFORMS.items())
def test_platforms_are_written_and_read(text: str, platform: Platform) -> None:
    assert formatting.format_platform(platform) == text
    assert formatting.parse_platform(text) == platform


@pytest.mark.slow
@given(drawn.platforms)
def test_any_platform_is_read_back(platform: Platform) -> None:
    assert formatting.parse_platform(formatting.format_platform(platform)) == platform


@pytest.mark.parametrize("text", ["", "linux", "linux;amd64", "linux; ", "linux; arm variant ", "a b; c", "a; b; c"])
def test_an_invalid_platform_is_none(text: str) -> None:
    assert formatting.parse_platform(text) is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (["/hello"], r'["\/hello"]'),
        (["cmd", "/C", r"type C:\hello.txt"], r'["cmd","\/C","type C:\\hello.txt"]'),
        (["sh", "-c", 'echo "hé" `id`'], r'["sh","-c","echo \"hé\" `id`"]'),
        (["\x1b[2J\x7f\u2028\u202e"], r'["\u001b[2J\u007f\u2028\u202e"]'),
        ([], "[]"),
    ],
)
def test_lists_are_written_and_read(values: list[str], text: str) -> None:
    assert formatting.format_list(values) == text
    assert json.loads(text) == values
    assert formatting.parse_list(text) == tuple(values)


@pytest.mark.slow
@strategies.THOROUGH
@given(st.lists(drawn.texts, max_size=3))
def test_any_list_is_written_as_printable_text_and_read_back(values: list[str]) -> None:
    text = formatting.format_list(values)
    assert text.isprintable()
    assert formatting.parse_list(text) == tuple(values)


@pytest.mark.parametrize("text", ["", "null", '"a"', "[1]", "[null]", "[[]]", '["a"', "NaN", '["a"] x'])
def test_an_invalid_list_is_none(text: str) -> None:
    assert formatting.parse_list(text) is None
