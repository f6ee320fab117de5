"""Tests of the destinations of pushed images: the precedence of the rules, and the names that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import UsageError
from mirror.layout import Entry
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.transfer.naming import NameMapping, PushTarget
from tests.support.strategies import QUICK

DIGEST = Digest.of(b"root")
HOST = "r.example:5000"


def entry(name: str, digest: Digest = DIGEST) -> Entry:
    root = Descriptor(OCI_INDEX, digest, 4, annotations={"io.containerd.image.name": name})
    return Entry.of(root)


def bare(tag: str) -> Entry:
    return Entry.of(Descriptor(OCI_INDEX, DIGEST, 4, annotations={"org.opencontainers.image.ref.name": tag}))


How = dict[str, str | list[str]]


def destination_of(name: str, target: str = HOST, given: str | None = None, **how: str | list[str]) -> str:
    """Return the destination of an image, without its registry."""
    return place(entry(name), target, given, **how).removeprefix(f"{HOST}/")


def place(image: Entry, target: str = HOST, given: str | None = None, **how: str | list[str]) -> str:
    maps = how.get("maps", [])
    mapping = NameMapping.parse(given, str(how.get("prefix", "")), str(how.get("strip", "")), list(maps))
    return str(PushTarget.parse(target, mapping).place(image))


REDIS = "docker.io/library/redis:4.0"


@pytest.mark.parametrize(
    ("given", "how", "path"),
    [
        (None, {}, "library/redis:4.0"),
        (None, {"prefix": "hub"}, "hub/library/redis:4.0"),
        (None, {"prefix": "/hub/x/"}, "hub/x/library/redis:4.0"),
        (None, {"strip": "library"}, "redis:4.0"),
        (None, {"strip": "docker.io/library"}, "redis:4.0"),
        (None, {"strip": "docker.io"}, "library/redis:4.0"),
        (None, {"strip": "quay.io"}, "library/redis:4.0"),
        (None, {"strip": "lib"}, "library/redis:4.0"),
        (None, {"strip": "library", "prefix": "hub"}, "hub/redis:4.0"),
        (None, {"maps": ["library=hub"]}, "hub/redis:4.0"),
        (None, {"maps": ["docker.io=hub"]}, "hub/library/redis:4.0"),
        (None, {"maps": ["docker.io/library="]}, "redis:4.0"),
        (None, {"maps": ["library/redis=cache/kv"]}, "cache/kv:4.0"),
        (None, {"maps": ["library/redi=x", "quay.io=y", "library/redis/x=z"]}, "library/redis:4.0"),
        (None, {"maps": ["docker.io=short", "docker.io/library/redis=long", "docker.io/library=middle"]}, "long:4.0"),
        (None, {"maps": ["docker.io/library=registry", "library/redis=path"]}, "path:4.0"),
        (None, {"maps": ["library=path", "docker.io/library=registry"]}, "registry/redis:4.0"),
        (None, {"maps": ["docker.io/library=registry", "library=path"]}, "registry/redis:4.0"),
        (None, {"maps": ["library=hub"], "strip": "library"}, "hub/redis:4.0"),
        (None, {"maps": ["library=hub"], "strip": "hub"}, "hub/redis:4.0"),
        (None, {"maps": ["library=hub"], "prefix": "top"}, "top/hub/redis:4.0"),
        ("cache/kv", {}, "cache/kv:4.0"),
        ("cache/kv:stable", {"maps": ["library=hub"], "strip": "cache"}, "cache/kv:stable"),
        ("kv:1", {"prefix": "top"}, "top/kv:1"),
    ],
)
def test_the_rule_with_the_highest_precedence_applies(given: str | None, how: How, path: str) -> None:
    assert destination_of(REDIS, HOST, given, **how) == path


def test_the_path_of_the_target_comes_before_the_prefix() -> None:
    assert destination_of(REDIS, f"{HOST}/a", prefix="b") == "a/b/library/redis:4.0"


def test_an_image_without_a_tag_is_pushed_by_digest_unless_a_tag_is_given() -> None:
    name = f"docker.io/library/redis@{DIGEST}"
    assert destination_of(name) == f"library/redis@{DIGEST}"
    assert destination_of(name, given="kv") == f"kv@{DIGEST}"
    assert destination_of(name, given="kv:1") == "kv:1"


@pytest.mark.parametrize(
    ("given", "maps", "strip", "idle"),
    [
        (None, ["library=hub"], "", []),
        (
            None,
            ["docker.io/library=hub", "docker.io=x"],
            "library",
            [],
        ),  # the longer mapping applies
        (None, ["lib=hub", "quay.io=q"], "", ["lib", "quay.io"]),
        (None, ["quay.io/library=hub"], "redis", ["quay.io/library", "redis"]),
        (None, ["v1.2/stable=a:1", "library/redis=a:1"], "", ["library/redis"]),
        ("kv", ["lib=hub"], "quay.io", []),  # they have no effect if a name is given
    ],
)
def test_options_that_match_no_image_are_reported(
    given: str | None, maps: list[str], strip: str, idle: list[str]
) -> None:
    images = [entry(REDIS), entry("registry.internal/team/other:1"), bare("v1.2/stable")]
    said = NameMapping.parse(given, "", strip, maps).unused(images)
    options = ["--map " + one for one in maps] + [f"--strip-prefix {strip}"]
    assert [sentence.removesuffix(" matched no image.") for sentence in said] == [
        next(option for option in options if option.split()[-1].partition("=")[0] == one) for one in idle
    ]


def test_an_image_of_an_unknown_repository_needs_a_name_or_a_prefix() -> None:
    assert place(bare("v7"), f"{HOST}/app") == f"{HOST}/app:v7"
    assert place(bare("v7"), prefix="app") == f"{HOST}/app:v7"
    assert place(bare("v7"), given="app") == f"{HOST}/app:v7"
    with pytest.raises(UsageError, match="the repository of"):
        place(bare("v7"))


@pytest.mark.parametrize("name", ["v1.2/stable", "app/org.gnome.Maps/x86_64/stable", "MyApp:latest", "a+b"])
def test_an_image_without_an_image_name_needs_one(name: str) -> None:
    assert bare(name).name == name
    for target in (HOST, f"{HOST}/app"):
        with pytest.raises(UsageError, match="is not the name of an image") as caught:
            place(bare(name), target)
        assert caught.value.hint == (f"Choose a name: --as some/repository:tag, or --map {name}=some/repository:tag")
    assert place(bare(name), given="app:1", target=f"{HOST}/top") == f"{HOST}/top/app:1"
    assert place(bare(name), maps=["other=x", f"{name}=team/app:1.2"], prefix="top") == f"{HOST}/top/team/app:1.2"
    with pytest.raises(UsageError, match="is not the name of an image"):
        place(bare(name), maps=["v1.2=team/app", "app=team/app"])


def test_an_empty_path_is_refused_unless_there_is_a_prefix() -> None:
    with pytest.raises(UsageError, match="the repository of"):
        destination_of(REDIS, strip="library/redis")
    assert destination_of(REDIS, strip="library/redis", prefix="kv") == "kv:4.0"


def test_a_name_that_becomes_too_long_is_refused() -> None:
    with pytest.raises(UsageError, match="longer than 255"):
        destination_of(REDIS, prefix="/".join(["a" * 30] * 8))


@pytest.mark.parametrize(
    "text", ["", "=", "a", "=b", "A/B=b", "a=B", "a b=c", "a=c:", "=c:1", "a=:1", "a:b=c", "../x=y", "a=../y"]
)
def test_an_invalid_mapping_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a mapping"):
        NameMapping.parse(None, "", "", [text])


def test_two_mappings_of_the_same_path_are_refused_unless_they_are_equal() -> None:
    with pytest.raises(UsageError, match="'b' and to 'c'"):
        NameMapping.parse(None, "", "", ["a=b", "a=c"])
    assert NameMapping.parse(None, "", "", ["a=b", "a=b"]).maps == (("a", "b"),)


@pytest.mark.parametrize("text", ["A", "a b", "a:1", "../a", "a//b"])
def test_an_invalid_prefix_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a repository path"):
        NameMapping.parse(None, text, "", [])
    with pytest.raises(UsageError, match=r"not a valid name|not a repository path"):
        NameMapping.parse(None, "", f"{text}/ ", [])


@pytest.mark.parametrize("text", ["", ":", "a:", ":v1", "A", "a@b", "a:b/c", f"a@{DIGEST}", "a/b:c d"])
def test_an_invalid_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a valid name"):
        NameMapping.parse(text, "", "", [])


def test_one_name_for_two_images_is_refused() -> None:
    destination = PushTarget.parse(HOST, NameMapping.parse("a", "", "", []))
    with pytest.raises(UsageError, match="2 images") as raised:
        destination.places([entry(REDIS), entry("docker.io/library/redis:5.0")])
    assert raised.value.hint == f"Name one of them after the registry: {REDIS}, docker.io/library/redis:5.0"


def test_two_images_with_the_same_destination_are_refused() -> None:
    images = [entry("docker.io/a/b:1"), entry("quay.io/a/b:1", Digest.of(b"other"))]
    with pytest.raises(UsageError, match=r"docker\.io/a/b:1 and quay\.io/a/b:1 would both become"):
        PushTarget.parse(HOST).places(images)
    apart = PushTarget.parse(HOST, NameMapping.parse(None, "", "", ["docker.io=hub", "quay.io=quay"]))
    assert [str(found) for found in apart.places(images)] == [f"{HOST}/hub/a/b:1", f"{HOST}/quay/a/b:1"]


PARTS = st.lists(st.sampled_from(["a", "b", "aa", "library"]), min_size=1, max_size=4).map("/".join)


@QUICK
@given(path=PARTS, source=PARTS, target=PARTS, strip=PARTS, prefix=PARTS)
def test_the_destination_is_a_valid_name_with_any_rules(
    path: str, source: str, target: str, strip: str, prefix: str
) -> None:
    mapping = NameMapping.parse(None, prefix, strip, [f"{source}={target}"])
    found = PushTarget.parse(HOST, mapping).place(entry(f"quay.io/{path}:v1"))
    assert Reference.parse(str(found)) == found
    assert found.repository.startswith(prefix)


@pytest.mark.parametrize("text", ["http://registry.internal:5000", "https://registry.internal/a"])
def test_a_url_as_the_target_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="in front") as caught:
        PushTarget.parse(text)
    assert "Remove it" in (caught.value.hint or "")
