"""Tests of tags that exist before a push, and of tags that a registry shows late after it."""

import json
from pathlib import Path

import pytest

from mirror import retry
from tests.support import images
from tests.support.command import Mirror
from tests.support.images import cosign_tag
from tests.support.registry import Action, EmbeddedRegistry, Fault, Header, Status, serving

IMAGE = images.index([images.image("linux/amd64", images.layer(1, 400)), images.image("linux/arm64")])
OTHER = images.image("linux/amd64", images.layer(2, 300))
NEWER, OLDER = (images.artifact("application/vnd.dev.cosign", images.Blob.of(text, "a/b")) for text in (b"2", b"1"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with `a:v1` and its signature."""
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        IMAGE.publish(registry, "a", "v1")
        NEWER.publish(registry, "a", cosign_tag(IMAGE))
        Mirror(folder)("pull", f"{registry.host}/a:v1", "--all")
    return folder / "layout"


@pytest.fixture
def other(registry: EmbeddedRegistry) -> EmbeddedRegistry:
    """A registry that has another image as `a:v1`."""
    OTHER.publish(registry, "a", "v1")
    return registry


def immutable(code: int) -> Fault:
    """Refuse every manifest."""
    body = b'{"errors": [{"code": "TAG_INVALID", "message": "The image tag already exists and is immutable"}]}'
    return Fault(method="PUT", path="/manifests/", times=None, action=Status(code, body=body))


# Another image under the tag


def test_replaced_image_is_named(mirror: Mirror, other: EmbeddedRegistry, layout: Path) -> None:
    result = mirror("push", layout, other.host)
    assert f"warning: {other.host}/a:v1 now stands for {IMAGE.root} (was {OTHER.root}).\n" in result.err
    assert other.tags("a")["v1"] == IMAGE.root


def test_dry_run_names_the_image_that_would_be_replaced(mirror: Mirror, other: EmbeddedRegistry, layout: Path) -> None:
    result = mirror("push", layout, other.host, "--dry-run")
    assert f"warning: {other.host}/a:v1 would stand for {IMAGE.root} (was {OTHER.root}).\n" in result.err
    assert {seen.method for seen in other.requests} == {"HEAD"}


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_json_has_the_digest_that_is_replaced(
    mirror: Mirror, other: EmbeddedRegistry, layout: Path, flags: tuple[str, ...]
) -> None:
    assert mirror("push", layout, other.host, "--json", *flags).json["images"][0]["replaced"] == OTHER.root


def test_copy_names_the_image_that_it_replaces(mirror: Mirror, other: EmbeddedRegistry, layout: Path) -> None:
    result = mirror("copy", f"oci:{layout}:v1", f"docker://{other.host}/a:v1")
    assert f"{other.host}/a:v1 now stands for {IMAGE.root} (was {OTHER.root})." in result.err


@pytest.mark.parametrize(
    "action", [Status(401), Status(403), Status(405), Header("Docker-Content-Digest", None)], ids=repr
)
def test_tag_is_read_with_a_get_if_a_head_does_not_tell(
    mirror: Mirror, other: EmbeddedRegistry, layout: Path, action: Action
) -> None:
    other.fault(Fault(method="HEAD", path="/manifests/v1", times=None, action=action))
    assert f"(was {OTHER.root})" in mirror("push", layout, other.host).err


@pytest.mark.slow
def test_old_image_of_another_kind_is_replaced(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    old = registry.put_manifest("a", "v1", b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws")
    assert f"(was {old})" in mirror("push", layout, registry.host).err


@pytest.mark.slow
def test_user_who_may_only_push_can_push(mirror: Mirror, other: EmbeddedRegistry, layout: Path) -> None:
    other.fault(Fault(method="HEAD", path="/manifests/v1", times=None, action=Status(403)))
    other.fault(Fault(method="GET", path="/manifests/v1", action=Status(403)))
    mirror("push", layout, other.host)
    assert other.tags("a")["v1"] == IMAGE.root


def test_replaced_signatures_are_named(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    OLDER.publish(registry, "a", cosign_tag(IMAGE))
    result = mirror("push", layout, registry.host)
    name = f"{registry.host}/a:{cosign_tag(IMAGE)}"
    assert f"{name} now stands for {NEWER.root} (was {OLDER.root})." in result.err


# --no-overwrite


@pytest.mark.parametrize("command", ["push", "copy"])
@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_no_overwrite_refuses_before_anything_is_sent(
    mirror: Mirror, other: EmbeddedRegistry, layout: Path, command: str, flags: tuple[str, ...]
) -> None:
    ends = (layout, other.host) if command == "push" else (f"oci:{layout}:v1", f"docker://{other.host}/a:v1")
    result = mirror(command, *ends, "--no-overwrite", *flags, code=2)
    assert f"{other.host}/a:v1 already stands for another image, {OTHER.root}." in result.err
    assert other.tags("a") == {"v1": OTHER.root}
    assert other.count("POST|PUT|PATCH") == 0


@pytest.mark.slow
def test_no_overwrite_pushes_the_other_images_with_keep_going(
    mirror: Mirror, other: EmbeddedRegistry, layout: Path, tmp_path: Path
) -> None:
    with serving(EmbeddedRegistry()) as source:
        for name in ("a", "b"):
            IMAGE.publish(source, name, "v1")
        mirror("pull", f"{source.host}/a:v1", f"{source.host}/b:v1", "--all")
    mirror("push", "layout", other.host, "--no-overwrite", "--keep-going", code=4)
    assert (other.tags("a"), other.tags("b")) == ({"v1": OTHER.root}, {"v1": IMAGE.root})
    assert other.count("POST|PUT|PATCH", "/v2/a/") == 0


@pytest.mark.slow
def test_no_overwrite_pushes_new_images(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, registry.host, "--no-overwrite")
    mirror("push", layout, registry.host, "--no-overwrite")
    assert registry.tags("a") == {"v1": IMAGE.root, cosign_tag(IMAGE): NEWER.root}


def test_no_overwrite_notices_a_tag_that_appears_during_the_push(
    mirror: Mirror, other: EmbeddedRegistry, layout: Path
) -> None:
    other.fault(Fault(method="HEAD", path="/manifests/v1", action=Status(404)))
    assert "already stands for another image" in mirror("push", layout, other.host, "--no-overwrite", code=2).err
    assert other.tags("a")["v1"] == OTHER.root


def test_no_overwrite_needs_to_know_the_tag(mirror: Mirror, other: EmbeddedRegistry, layout: Path) -> None:
    other.fault(Fault(method="HEAD|GET", path="/manifests/v1", times=None, action=Status(403)))
    mirror("push", layout, other.host, "--no-overwrite", code=1)
    assert other.tags("a") == {"v1": OTHER.root}


def test_no_overwrite_keeps_other_signatures(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    OLDER.publish(registry, "a", cosign_tag(IMAGE))
    assert "may lack referrers" in mirror("push", layout, registry.host, "--no-overwrite", code=4).err
    assert registry.tags("a") == {"v1": IMAGE.root, cosign_tag(IMAGE): OLDER.root}


@pytest.mark.slow
def test_no_overwrite_adds_to_the_list_of_referrers(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    """A registry without the referrers API has another signature in its list, which stays there."""
    first, second = images.signature(IMAGE, 1), images.signature(IMAGE, 2)
    for number, one in enumerate((first, second)):
        with serving(EmbeddedRegistry(referrers=True)) as source:
            IMAGE.publish(source, "a", "v1")
            one.publish(source, "a", None)
            mirror("pull", f"{source.host}/a:v1", "--all", "-o", f"layout{number}")
        mirror("push", f"layout{number}", registry.host, "--no-overwrite")
    data, _ = registry.get_manifest("a", IMAGE.root.replace(":", "-"))
    assert {node["digest"] for node in json.loads(data)["manifests"]} == {first.root, second.root}


def test_no_overwrite_is_refused_for_layouts(mirror: Mirror, layout: Path) -> None:
    assert "--no-overwrite is for" in mirror("copy", f"oci:{layout}", "oci:other", "--no-overwrite", code=2).err


# The same image under the tag


@pytest.mark.slow
@pytest.mark.parametrize("code", [400, 403, 409, 412])
def test_image_that_is_there_is_not_put_again(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, code: int
) -> None:
    mirror("push", layout, registry.host)
    registry.clear_log()
    registry.fault(immutable(code))
    document = mirror("push", layout, registry.host, "--json").json
    assert registry.count("PUT") == 0
    assert document["images"][0]["replaced"] is None


@pytest.mark.slow
def test_missing_manifest_of_an_image_whose_tag_is_right_is_put(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    mirror("push", layout, registry.host)
    child = next(digest for digest in IMAGE.manifests if digest != IMAGE.root)
    registry.remove_manifest("a", child)
    registry.clear_log()
    mirror("push", layout, registry.host)
    assert child in registry.manifests("a")
    assert registry.count("PUT") == 1


@pytest.mark.slow
def test_tag_is_put_if_only_a_head_says_that_it_is_right(mirror: Mirror, other: EmbeddedRegistry, layout: Path) -> None:
    claim = Header("Docker-Content-Digest", IMAGE.root)
    other.fault(Fault(method="HEAD", path="/manifests/v1", times=None, action=claim))
    mirror("push", layout, other.host)
    assert other.tags("a")["v1"] == IMAGE.root


# Tags that appear late


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "READ_BACK_DELAYS", (0.0, 0.0, 0.0))


def late(times: int | None, action: Action) -> Fault:
    return Fault(method="GET", path="/manifests/v1", times=times, action=action)


STALE = Status(200, content_type=images.OCI_MANIFEST, body=OTHER.data)


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("action", [Status(404), STALE], ids=["missing", "stale"])
def test_tag_that_appears_late_is_confirmed(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, action: Action
) -> None:
    registry.fault(late(3, action))
    mirror("push", layout, registry.host)
    assert registry.count("GET", "/manifests/v1") == 4


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("action", "shown"), [(Status(404), "does not show it"), (STALE, f"shows {OTHER.root}")], ids=["missing", "stale"]
)
def test_missing_tag_after_a_push_is_an_error(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, action: Action, shown: str
) -> None:
    registry.fault(late(None, action))
    result = mirror("push", layout, registry.host, code=1)
    name = f"{registry.host}/a:v1"
    assert f"{name} was pushed as {IMAGE.root}, but could not be confirmed: the registry {shown}." in result.err
    assert result.out == ""


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_signature_that_appears_late_is_confirmed(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    path = f"/manifests/{cosign_tag(IMAGE)}"
    registry.fault(Fault(method="GET", path=path, times=3, action=Status(404)))
    mirror("push", layout, registry.host)
    assert registry.count("GET", path) == 4
    assert registry.tags("a")[cosign_tag(IMAGE)] == NEWER.root


@pytest.mark.slow
def test_receipt_is_written_for_a_tag_that_appears_late(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    """With the delays that users have."""
    registry.fault(late(2, Status(404)))
    mirror("push", layout, registry.host, "--receipt", "r.json")
    assert (mirror.folder / "r.json").exists()
