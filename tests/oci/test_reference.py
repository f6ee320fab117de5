"""Tests of image names: parsing, completing and refusing them."""

import pytest
from hypothesis import example, given

from mirror.errors import InvalidReference
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference, is_host, is_only_a_registry, is_repository, is_tag
from tests.support.strategies import HEX, THOROUGH, names, nasty_text, outcome

DIGEST = "sha256:" + HEX * 4
LONGEST_TAG = "t" * 128


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:4.0", "docker.io/library/redis:4.0"),
        ("library/redis:4.0", "docker.io/library/redis:4.0"),
        ("docker.io/redis:4.0", "docker.io/library/redis:4.0"),
        ("docker.io/library/redis:4.0", "docker.io/library/redis:4.0"),
        ("index.docker.io/redis", "docker.io/library/redis:latest"),
        ("registry-1.docker.io/library/redis", "docker.io/library/redis:latest"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("a/b/c", "docker.io/a/b/c:latest"),
        ("docker://redis:4.0", "docker.io/library/redis:4.0"),
        ("docker://quay.io/a/b", "quay.io/a/b:latest"),
        ("quay.io/redis", "quay.io/redis:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b/c:tag", "localhost:5000/a/b/c:tag"),
        ("host:5000/a", "host:5000/a:latest"),
        ("Host/a", "Host/a:latest"),
        ("10.0.0.1/a:1", "10.0.0.1/a:1"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
        ("[::1]:5000/a:b", "[::1]:5000/a:b"),
        ("[2001:db8::1]/a", "[2001:db8::1]/a:latest"),
        ("registry.example.com:65535/a", "registry.example.com:65535/a:latest"),
        ("xn--bcher-kva.example/a", "xn--bcher-kva.example/a:latest"),
        ("q.io/a.b/c_d/e__f/g-h/i---j", "q.io/a.b/c_d/e__f/g-h/i---j:latest"),
        ("redis:_x", "docker.io/library/redis:_x"),
        ("redis:a__b", "docker.io/library/redis:a__b"),
        ("redis:V1.0-RC_1", "docker.io/library/redis:V1.0-RC_1"),
        (f"redis:{LONGEST_TAG}", f"docker.io/library/redis:{LONGEST_TAG}"),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
        (f"redis:4.0@{DIGEST}", f"docker.io/library/redis:4.0@{DIGEST}"),
        (f"localhost:5000/a@{DIGEST}", f"localhost:5000/a@{DIGEST}"),
        ("docker.io", "docker.io/library/docker.io:latest"),
        ("localhost", "docker.io/library/localhost:latest"),
    ],
)
def test_names_are_completed_as_docker_does(text: str, whole: str) -> None:
    assert str(Reference.parse(text)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "/redis",
        "redis/",
        "a//b",
        "redis:",
        "redis@",
        "redis:4.0:5",
        "redis:4.0\n",
        "redis\n",
        f"redis@{DIGEST}\n",
        "localhost:5000/redis\n",
        "localhost\n/redis",
        " redis",
        "redis ",
        "redis :4.0",
        "Redis",
        "library/Redis",
        "quay.io/Redis:4.0",
        "redis:.a",
        "redis:-a",
        "redis:a/b",
        "redis:ä",
        f"redis:{LONGEST_TAG}t",
        "a___b",
        "a..b",
        "a._b",
        "-a",
        "a-",
        "_a",
        ".a/b",
        "../etc/passwd",
        "a/../b",
        "quay.io/a/../b",
        "quay.io/./b",
        "quay.io/a%2fb",
        "quay.io/a?b",
        "quay.io/a#b",
        "quay.io/a\\b",
        "quay.io/a\0",
        "quay.io/a\x1b[0m",
        "http://quay.io/a",
        "https://quay.io/a",
        "docker://",
        "docker://docker://redis",
        "user@quay.io/a",
        "user:secret@quay.io/a",
        "quay..io/a",
        "-quay.io/a",
        "quay-.io/a",
        "quay.io./a",
        "quay.io:/a",
        "quay.io:port/a",
        "quay.io:123456/a",
        "localhost:65536/a",
        "localhost:0/a",
        "[::1/a",
        "::1/a",
        "[::1]x/a",
        "[:::::::]:5000/a",
        "[1:2]:5000/a",
        "[fe80::1%25eth0]:5000/a",
        "[]:5000/a",
        "٣.example/a",
        "é.example/a",
        "redis@sha256:abc",
        "redis@sha256:../../x",
        f"redis@{DIGEST.upper()}",
        f"redis@{DIGEST}@{DIGEST}",
        f"redis@{DIGEST}:tag",
        f"{'a' * 256}",
        f"localhost:5000/{'a' * 241}",
    ],
)
def test_names_outside_the_grammar_are_refused(text: str) -> None:
    with pytest.raises(InvalidReference, match="is not a valid image reference") as caught:
        Reference.parse(text)
    assert str(caught.value).isprintable()
    assert "Image references look like" in (caught.value.hint or "")


def test_name_has_at_most_255_characters() -> None:
    longest = "localhost:5000/" + "a" * 240
    assert Reference.parse(longest).name == longest
    with pytest.raises(InvalidReference, match="more than 255"):
        Reference.parse(longest + "a")


def test_upper_case_in_a_repository_is_explained() -> None:
    with pytest.raises(InvalidReference, match="must be lower case"):
        Reference.parse("quay.io/Redis")


@pytest.mark.slow
def test_error_for_a_name_of_a_megabyte_is_short() -> None:
    with pytest.raises(InvalidReference) as caught:
        Reference.parse("a/" * 500_000)
    assert len(str(caught.value)) < 2_000


@pytest.mark.slow
@given(names())
@THOROUGH
def test_printed_name_is_parsed_as_the_same_name(text: str) -> None:
    found = Reference.parse(text)
    assert Reference.parse(str(found)) == found
    assert Reference.parse(f"docker://{text}") == found
    assert Reference.parse(found.stored).name == found.name


@given(nasty_text)
@example("[" + ":" * 20 + "]/a")
@example("a@b@c:d/e")
@THOROUGH
def test_any_text_is_a_name_or_a_printable_error(text: str) -> None:
    found = outcome(lambda: Reference.parse(text))
    assert isinstance(found, Reference | InvalidReference)
    assert str(found).isprintable()
    assert isinstance(found, InvalidReference) or ".." not in str(found).split("/")


@pytest.mark.parametrize(
    ("text", "target"),
    [("redis", "latest"), ("redis:4.0", "4.0"), (f"redis@{DIGEST}", DIGEST), (f"redis:4.0@{DIGEST}", DIGEST)],
)
def test_target_is_the_digest_or_else_the_tag(text: str, target: str) -> None:
    assert Reference.parse(text).target == target


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("redis", "docker.io/library/redis:latest"),
        (f"redis:4.0@{DIGEST}", "docker.io/library/redis:4.0"),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
    ],
)
def test_stored_name_has_the_tag_or_else_the_digest(text: str, stored: str) -> None:
    assert Reference.parse(text).stored == stored


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("redis:4.0", f"docker.io/library/redis:4.0@{DIGEST}"),
        (f"redis@{DIGEST}", f"docker.io/library/redis@{DIGEST}"),
    ],
)
def test_pinned_name_includes_the_digest(text: str, pinned: str) -> None:
    assert Reference.parse(text).pinned(Digest.parse(DIGEST)) == pinned


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/redis:4.0", "redis:4.0"),
        ("docker.io/tianon/x", "tianon/x:latest"),
        ("index.docker.io/library/redis:4.0@sha256:" + "0" * 64, "redis:4.0@sha256:" + "0" * 64),
        ("docker.io/library/a/b:v1", "library/a/b:v1"),
        ("docker.io/library/localhost/b:v1", "library/localhost/b:v1"),  # without library/ it would be a host
        ("localhost:5000/library/redis:4.0", "localhost:5000/library/redis:4.0"),
    ],
)
def test_familiar_name_is_the_shortest_equivalent_name(text: str, familiar: str) -> None:
    assert Reference.parse(text).familiar == familiar


@given(names())
def test_familiar_name_is_parsed_as_the_same_name(text: str) -> None:
    found = Reference.parse(text)
    assert Reference.parse(found.familiar) == found


@pytest.mark.parametrize("text", ["redis", "redis\n", "a/b"])
def test_grammars_match_the_whole_text(text: str) -> None:
    assert is_tag(text) is (text == "redis")
    assert is_host(text) is (text == "redis")
    assert is_repository(text) is ("\n" not in text)


def test_url_is_refused_with_a_hint() -> None:
    with pytest.raises(InvalidReference, match="leave out the https:// in front"):
        Reference.parse("https://quay.io/a/b:v1")


@pytest.mark.parametrize(
    ("text", "is_registry"),
    [
        ("localhost:5000", True),
        ("registry.test:443", True),
        ("docker.io/made/app:1", False),
        ("localhost:5000/a:1", False),
        ("redis:4", False),
        ("a.test", False),
    ],
)
def test_host_and_port_alone_are_a_registry(text: str, is_registry: bool) -> None:
    assert is_only_a_registry(text) is is_registry
