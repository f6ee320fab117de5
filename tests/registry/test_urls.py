"""URLs in headers and manifests are whatever somebody likes to write there."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from mirror.registry.transport.urls import parse_http_url
from tests.support.strategies import THOROUGH, nasty_text

BASE = URL("https://registry.example:5000/v2/a/tags/list?n=100")


@pytest.mark.parametrize("text", ["//[]::@", "http://[]@/x", "http://[]:5@", "http://[/", "http://@:80/", "http:///x"])
def test_what_breaks_a_parser_of_urls_is_no_address(text: str) -> None:
    assert parse_http_url(text, base=BASE) is None
    assert parse_http_url(text) is None


@pytest.mark.parametrize("text", ["", "x", "//host/x", "ftp://host/x", "file:///etc/passwd", "http://host:0/x"])
def test_an_address_alone_needs_a_scheme_of_the_web_and_a_host(text: str) -> None:
    assert parse_http_url(text) is None


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("?n=1", "https://registry.example:5000/v2/a/tags/list?n=1"),
        ("/v2/b", "https://registry.example:5000/v2/b"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("http://cdn.example/a%2Fb/../c?s=%2B+&t=%7e", "http://cdn.example/a%2Fb/../c?s=%2B+&t=%7e"),
        ("https://user:secret@cdn.example/x", "https://cdn.example/x"),
    ],
)
def test_an_address_stays_as_it_was_said_but_for_who_is_named_in_it(text: str, address: str) -> None:
    assert str(parse_http_url(text, base=BASE)) == address


@THOROUGH
@given(
    st.one_of(
        nasty_text, st.text("[]:@/?#%.0aht p", max_size=30), st.text("[]:@/%0a", max_size=12).map("http://".__add__)
    )
)
@example("//[]::@")
def test_nothing_that_can_be_written_is_more_than_no_address(text: str) -> None:
    for encoded in (True, False):
        found = parse_http_url(text, base=BASE, encoded=encoded)
        assert found is None or (found.scheme in ("http", "https") and found.host and not found.user)
