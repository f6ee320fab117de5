"""Tests of `mirror tags`: pages, links, and invalid responses."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror
from tests.support.registry import Basic, EmbeddedRegistry, Fault, Header, Status, serving

IMAGE = images.image("linux/amd64", images.layer(1, 100))
TAGS = [f"v{number}" for number in range(7)]


@pytest.fixture
def shop() -> Iterator[EmbeddedRegistry]:
    """A registry with seven tags, three per page."""
    with serving(EmbeddedRegistry(page=3)) as registry:
        for tag in TAGS:
            IMAGE.publish(registry, "a/b", tag)
        yield registry


def serve_list(registry: EmbeddedRegistry, document: object, *headers: tuple[str, str]) -> None:
    """Send this document as each list of tags."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    action = Status(200, headers, body, "application/json")
    registry.fault(Fault(path="/tags/list", times=None, action=action))


def sign_in(mirror: Mirror, host: str) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir()
    auth = base64.b64encode(b"me:secret").decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def test_every_page_is_read(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert mirror("tags", f"{shop.host}/a/b").lines == TAGS
    assert shop.count("GET", "/tags/list") == 3


def test_json_has_the_name_and_the_tags(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    name = f"{shop.host}/a/b"
    assert mirror("tags", f"docker://{name}", "--json").json == {"schema": "mirror.tags/1", "name": name, "tags": TAGS}


def test_tags_are_counted_unless_quiet(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert "7 tags" in mirror("tags", f"{shop.host}/a/b").err
    assert mirror("tags", f"{shop.host}/a/b", "-q").err == ""


def test_request_is_for_at_most_a_thousand_tags(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    mirror("tags", f"{shop.host}/a/b")
    asked = shop.requests[0].query["n"]
    assert [int(count) <= 1000 for count in asked] == [True]  # ECR refuses more


def test_a_tag_in_the_name_is_refused(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    for name in ("a/b:v1", "a/b:latest", f"a/b@{IMAGE.root}"):
        assert f"mirror tags {shop.host}/a/b" in mirror("tags", f"{shop.host}/{name}", code=2).err


def test_registry_without_a_repository_is_refused(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert f"mirror tags {shop.host}/team/app" in mirror("tags", shop.host, code=2).err
    assert shop.requests == []


def test_error_names_the_missing_repository(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert f"no repository {shop.host}/a/c" in mirror("tags", f"{shop.host}/a/c", code=2).err


@pytest.mark.slow
def test_request_for_a_page_is_retried(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.fault(Fault(path="/tags/list", skip=1, action=Status(503)))
    assert mirror("tags", f"{shop.host}/a/b").lines == TAGS


@pytest.mark.parametrize(
    "link",
    [
        "</v2/a/b/tags/list?n=3&last=v6>; rel=next",
        "<list?n=3&last=v6>; rel=next",
        '<?n=3&last=v6>; title="a, b; rel=none"; REL="last Next"',
        '</v2/x>; rel="prev", </v2/a/b/tags/list?n=3&last=v6>; rel="next"',
    ],
)
def test_links_of_several_forms_are_followed(mirror: Mirror, shop: EmbeddedRegistry, link: str) -> None:
    shop.fault(Fault(path="/tags/list", action=Header("Link", link)))
    assert mirror("tags", f"{shop.host}/a/b").lines == TAGS[:3]  # there are no tags after v6


def test_an_absolute_link_is_followed(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    link = f'<{shop.url}/v2/a/b/tags/list?n=3&last=v4>; rel="next"'
    shop.fault(Fault(path="/tags/list", action=Header("Link", link)))
    assert mirror("tags", f"{shop.host}/a/b").lines == [*TAGS[:3], *TAGS[5:]]


def test_the_next_of_two_link_headers_is_found(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.fault(Fault(path="/tags/list", times=None, action=Header("Link", "</v2/a/b/tags/list>; rel=first", add=True)))
    assert mirror("tags", f"{shop.host}/a/b").lines == TAGS


def test_a_short_or_empty_page_is_not_the_end(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    link = "</v2/a/b/tags/list?n=3&last=v4>; rel=next"
    empty = Status(200, (("Link", link),), b'{"tags": null}', "application/json")
    shop.fault(Fault(path="/tags/list", action=empty))
    assert mirror("tags", f"{shop.host}/a/b").lines == TAGS[5:]


def test_link_to_another_origin_is_requested_from_the_registry(mirror: Mirror) -> None:
    with (
        serving(EmbeddedRegistry()) as stranger,
        serving(EmbeddedRegistry(page=3, auth=Basic({"me": "secret"}))) as shop,
    ):
        for tag in TAGS:
            IMAGE.publish(shop, "a/b", tag)
        sign_in(mirror, shop.host)
        link = f'<{stranger.url}/v2/a/b/tags/list?n=3&last=v2>; rel="next"'
        shop.fault(Fault(path="/tags/list", action=Header("Link", link)))
        assert mirror("tags", f"{shop.host}/a/b").lines == TAGS  # from the registry itself
        assert stranger.requests == []


@pytest.mark.parametrize("link", ["<http://[>; rel=next", "<file:///etc/passwd>; rel=next", "</etc/passwd>; rel=next"])
def test_link_outside_the_api_is_refused(mirror: Mirror, shop: EmbeddedRegistry, link: str) -> None:
    shop.fault(Fault(path="/tags/list", times=None, action=Header("Link", link)))
    assert "is not a valid link to a next page" in mirror("tags", f"{shop.host}/a/b", code=1).err


def test_link_to_the_same_page_is_an_error(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    link = "</v2/a/b/tags/list?n=1000>; rel=next"
    shop.fault(Fault(path="/tags/list", times=None, action=Header("Link", link)))
    assert "in a circle" in mirror("tags", f"{shop.host}/a/b", code=3).err
    assert shop.count("GET", "/tags/list") == 1


@pytest.mark.parametrize(
    "document",
    [
        b"<html>",
        [],
        {"tags": {}},
        {"tags": [1]},
        {"tags": ["a\x1b[31m"]},
        {"tags": ["../../x"]},
        {"tags": ["a\n"]},
        {"Tags": []},
        b'{"tags": [], "tags": ["a"]}',
    ],
)
def test_invalid_list_of_tags_is_refused(mirror: Mirror, shop: EmbeddedRegistry, document: object) -> None:
    serve_list(shop, document)
    result = mirror("tags", f"{shop.host}/a/b", code=3)
    assert "list of tags" in result.err
    assert result.out == ""


def test_list_without_the_field_tags_is_empty(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    serve_list(shop, {"name": "a/b"})
    result = mirror("tags", f"{shop.host}/a/b")
    assert (result.out, "0 tags" in result.err) == ("", True)


def test_unexpected_status_is_reported(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.fault(Fault(path="/tags/list", times=None, action=Status(405)))
    assert "405" in mirror("tags", f"{shop.host}/a/b", code=1).err


def test_credentials_of_the_command_line_are_used(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Basic({"me": "secret"}))) as registry:
        IMAGE.publish(registry, "a/b", "v1")
        words = ("tags", f"{registry.host}/a/b", "-u", "me", "--password-stdin", "--retries", 0)
        assert mirror(*words, stdin="secret").lines == ["v1"]
        wrong = mirror(*words, stdin="wrong", code=1).err
        assert "401" in wrong
        assert "Wrong user name or password, or no permission" in wrong
        assert "or you are not logged in" in mirror(*words[:2], code=1).err
