"""Tests of parsing untrusted URLs, from headers and manifests."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from mirror.registry.transport.urls import parse_http_url
from tests.support.strategies import THOROUGH, nasty_text

BASE = URL("https://registry.example:5000/v2/a/tags/list?n=100")


@pytest.mark.parametrize("text", ["//[]::@", "http://[]@/x", "http://[]:5@", "http://[/", "http://@:80/", "http:///x"])
def test_url_that_breaks_parsers_is_refused(text: str) -> None:
    assert parse_http_url(text, base=BASE) is None
    assert parse_http_url(text) is None


@pytest.mark.parametrize("text", ["", "x", "//host/x", "ftp://host/x", "file:///etc/passwd", "http://host:0/x"])
def test_url_without_base_needs_an_http_scheme_and_a_host(text: str) -> None:
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
def test_url_keeps_its_encoding_and_loses_its_credentials(text: str, address: str) -> None:
    assert str(parse_http_url(text, base=BASE)) == address


@THOROUGH
@given(
    st.one_of(
        nasty_text, st.text("[]:@/?#%.0aht p", max_size=30), st.text("[]:@/%0a", max_size=12).map("http://".__add__)
    )
)
@example("//[]::@")
def test_parsed_url_has_an_http_scheme_and_a_host_but_no_user(text: str) -> None:
    for encoded in (True, False):
        found = parse_http_url(text, base=BASE, encoded=encoded)
        assert found is None or (found.scheme in ("http", "https") and found.host and not found.user)
