"""Tests of lists in pages: `Link` headers, and limits of pages, tags and bytes."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import InvalidContent
from mirror.registry import Client, RegistryOptions, listing
from mirror.registry.listing import list_tags, parse_links
from tests.support.registry import EmbeddedRegistry, Fault, Status
from tests.support.registry.faults import Action
from tests.support.registry.messages import Answer, Call, answer_json
from tests.support.strategies import THOROUGH, nasty_text


class Endless(Action):
    """Answers with endless pages, each with a link to the next."""

    def on_call(self, call: Call) -> Answer:
        number = int(call.param("last") or 0) + 1
        given = answer_json(200, {"name": "a", "tags": [f"v{number}"]})
        return given.plus("Link", f"</v2/a/tags/list?last={number}>; rel=next")


def tags_of(registry: EmbeddedRegistry, max_pages: int = listing.MAX_PAGES) -> list[str]:
    async def main() -> list[str]:
        async with Client(RegistryOptions()) as client:
            there = client.registry(registry.host)
            return await list_tags(there, "a", "repository:a:pull", max_pages=max_pages)

    return asyncio.run(main())


# Link


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", []),
        ('</v2/a?last=b>; rel="next"', [("/v2/a?last=b", {"next"})]),
        ("<a>;rel=next", [("a", {"next"})]),
        ("<a> ; REL = next", [("a", {"next"})]),
        ('<a>; rel="prev NEXT"', [("a", {"prev", "next"})]),
        ('<a>; rel="ne\\xt"', [("a", {"next"})]),
        ('<a>; title="x, <y>; rel=next"', [("a", set())]),
        ("<a,b;c>; rel=next", [("a,b;c", {"next"})]),
        ("<a>; rel=prev, <b>; rel=next", [("a", {"prev"}), ("b", {"next"})]),
        ("<a>; rel=prev; rel=next", [("a", {"prev"})]),
        ("<a>; rel", [("a", set())]),
        (" , ,<a>;;rel=next;", [("a", {"next"})]),
        ("a; rel=next", []),
        ("<a; rel=next", []),
        ('<a>; rel="next', [("a", set())]),
    ],
)
def test_link_headers_are_parsed(header: str, found: list[tuple[str, set[str]]]) -> None:
    assert parse_links([header]) == [(target, frozenset(relations)) for target, relations in found]


def test_invalid_link_header_does_not_affect_another_one() -> None:
    assert parse_links(["<<<", "<a>; rel=next"]) == [("a", frozenset({"next"}))]


@pytest.mark.slow
@given(st.lists(nasty_text | st.text('<>;,="\\ rel next', max_size=60), max_size=3))
@THOROUGH
def test_any_link_header_can_be_parsed(headers: list[str]) -> None:
    assert all("<" not in target or ">" not in target for target, _ in parse_links(headers))


@pytest.mark.parametrize("evil", ["<a>" + ";" * 9999, '<a>;x="' + "\\" * 9999, "<" * 9999, "<a>;" + " " * 9999 + "!"])
def test_long_hostile_link_header_is_parsed_quickly(evil: str) -> None:
    assert len(parse_links([evil])) <= 1


# Limits


def test_too_many_pages_are_refused(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(path="/tags/list", times=None, action=Endless()))
    with pytest.raises(InvalidContent, match="more than 5 pages"):
        tags_of(registry, max_pages=5)
    assert registry.count("GET", "/tags/list") == 5


def test_too_many_tags_are_refused(registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_TAGS", 3)
    registry.fault(Fault(path="/tags/list", times=None, action=Endless()))
    with pytest.raises(InvalidContent, match="more than 3 tags"):
        tags_of(registry)
    assert registry.count("GET", "/tags/list") == 4


def test_too_many_bytes_are_refused(registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_BYTES", 100)
    registry.fault(Fault(path="/tags/list", times=None, action=Endless()))
    with pytest.raises(InvalidContent, match="more than 100 bytes"):
        tags_of(registry)


def test_single_page_with_all_tags_is_accepted(registry: EmbeddedRegistry) -> None:
    everything = [f"v{number}" for number in range(20_000)]  # distribution 2 has no pages
    body = json.dumps({"name": "a", "tags": [*everything, *everything]}).encode()
    registry.fault(Fault(path="/tags/list", action=Status(200, body=body)))
    assert tags_of(registry) == everything


def test_web_page_in_place_of_tags_is_reported(registry: EmbeddedRegistry) -> None:
    page = Status(200, body=b"\n<html>Log in", content_type="text/html")
    registry.fault(Fault(path="/tags/list", times=None, action=page))
    with pytest.raises(InvalidContent, match="is a web page") as caught:
        tags_of(registry)
    assert "login page" in (caught.value.hint or "")
