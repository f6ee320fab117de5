"""Tests of pushes of referrers, which registries list by the referrers API or under tags."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import retry
from tests.support import images
from tests.support.command import Json, Mirror, blob_path, blobs, entries
from tests.support.images import Image, cosign_tag, signature
from tests.support.registry import EmbeddedRegistry, Fault, Flip, Quirks, Status, serving
from tests.support.registry.faults import Action
from tests.support.registry.messages import Answer, Call

CHILD = images.image("linux/amd64", images.layer(1, 300))
IMAGE = images.index([CHILD, images.image("linux/arm64", images.layer(2, 200))])
SIGNATURE, BILL = signature(IMAGE), signature(CHILD, 1)
OVER = signature(BILL)
PLAIN = images.artifact("application/vnd.dev.cosign", images.Blob.of(b"simple", "a/b"))
ALL = (SIGNATURE, BILL, OVER)
THEIRS = signature(IMAGE, 7)
THEIR_LIST = images.index([THEIRS])


def tag_of(subject: Image) -> str:
    return subject.root.replace(":", "-")


@pytest.fixture
def source() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(referrers=True)) as registry:
        IMAGE.publish(registry, "a/b", "v1")
        for one in ALL:
            one.publish(registry, "a/b", None)
        PLAIN.publish(registry, "a/b", cosign_tag(IMAGE))
        yield registry


@pytest.fixture
def modern() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(referrers=True)) as running:
        yield running


@pytest.fixture
def layout(mirror: Mirror, source: EmbeddedRegistry) -> Path:
    mirror("pull", f"{source.host}/a/b:v1", "--all")
    return mirror.folder / "layout"


def listed(registry: EmbeddedRegistry, subject: Image, repo: str = "a/b") -> dict[str, images.Json]:
    """The entries of the list of referrers of a subject, by digest."""
    nodes = json.loads(registry.get_manifest(repo, tag_of(subject))[0])["manifests"]
    return {node["digest"]: node for node in nodes}


def writes(registry: EmbeddedRegistry) -> list[str]:
    """The manifests and tags that were put, in order."""
    done = [seen for seen in registry.requests if seen.method == "PUT" and "/manifests/" in seen.path]
    return [seen.path.rpartition("/")[2] for seen in done]


# With the API


@pytest.mark.slow
def test_referrers_are_pushed_by_digest(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    result = mirror("push", layout, modern.host)
    assert result.lines == [f"{modern.host}/a/b:v1@{IMAGE.root}"]
    assert "2 platforms, 4 referrers" in result.err
    for one in (*ALL, PLAIN):
        assert {digest: modern.get_manifest("a/b", digest) for digest in one.manifests} == one.manifests
    assert modern.tags("a/b") == {"v1": IMAGE.root, cosign_tag(IMAGE): PLAIN.root}


@pytest.mark.slow
def test_list_of_referrers_is_not_pushed_if_the_registry_has_the_api(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    mirror("push", layout, modern.host)
    lists = [
        entry["digest"]
        for entry in entries(layout)
        if entry["annotations"]["io.containerd.image.name"].endswith(tag_of(IMAGE))
    ]
    assert len(lists) == 1
    assert modern.manifests("a/b").isdisjoint(lists)


@pytest.mark.slow
def test_each_manifest_is_put_with_its_media_type(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, modern.host)
    for seen in modern.requests:
        if seen.method == "PUT" and "/manifests/" in seen.path:
            data, media_type = modern.get_manifest("a/b", seen.path.rpartition("/")[2])
            assert seen.headers["content-type"] == media_type == json.loads(data)["mediaType"]


@pytest.mark.slow
def test_tag_of_the_image_is_put_last(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, modern.host)
    assert writes(modern)[-1] == "v1"
    assert writes(modern).index(cosign_tag(IMAGE)) < len(writes(modern)) - 1


@pytest.fixture
def harbor() -> Iterator[EmbeddedRegistry]:
    """A registry that refuses referrers before their subjects."""
    with serving(EmbeddedRegistry(referrers=True, quirks=Quirks(subjects_first=True))) as running:
        yield running


def assert_has_all_referrers(registry: EmbeddedRegistry) -> None:
    for one in (*ALL, PLAIN):
        assert {digest: registry.get_manifest("a/b", digest) for digest in one.manifests} == one.manifests
    assert registry.tags("a/b") == {"v1": IMAGE.root, cosign_tag(IMAGE): PLAIN.root}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 8])
def test_manifests_of_the_image_come_before_its_referrers_and_its_tag_after_them(
    mirror: Mirror, harbor: EmbeddedRegistry, layout: Path, jobs: int
) -> None:
    mirror("push", layout, harbor.host, "-j", jobs)
    assert_has_all_referrers(harbor)
    assert {seen.status for seen in harbor.requests if seen.method == "PUT"} == {201}
    order = writes(harbor)
    referrers = {one.root for one in ALL} | {PLAIN.root, cosign_tag(IMAGE)}
    assert order[-1] == "v1"
    assert set(order[:-1][: len(IMAGE.manifests)]) == set(IMAGE.manifests)
    assert set(order[len(IMAGE.manifests) : -1]) == referrers
    assert order.index(BILL.root) < order.index(OVER.root)


@pytest.mark.slow
def test_copy_between_registries_puts_subjects_first(
    mirror: Mirror, harbor: EmbeddedRegistry, source: EmbeddedRegistry
) -> None:
    mirror("copy", f"docker://{source.host}/a/b:v1", f"docker://{harbor.host}/a/b:v1")
    assert_has_all_referrers(harbor)


@pytest.mark.slow
def test_referrers_of_an_image_that_is_refused_are_not_pushed(
    mirror: Mirror, modern: EmbeddedRegistry, source: EmbeddedRegistry, layout: Path
) -> None:
    CHILD.publish(source, "c/d", "v1")
    mirror("pull", f"{source.host}/c/d:v1", "--all")
    modern.fault(Fault(method="PUT", path=f"/a/b/manifests/{IMAGE.root}", times=None, action=Status(403)))
    result = mirror("push", layout, modern.host, "--keep-going", code=4)
    assert result.lines == [f"{modern.host}/c/d:v1@{CHILD.root}"]
    assert modern.tags("a/b") == {}
    assert modern.manifests("a/b").isdisjoint(one.root for one in (*ALL, PLAIN))


@pytest.mark.slow
def test_a_second_push_sends_no_blob(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, modern.host)
    modern.clear_log()
    assert "0 moved" in mirror("push", layout, modern.host).err
    assert [seen.method for seen in modern.requests if "/blobs/uploads" in seen.path] == []


@pytest.mark.slow
def test_push_of_one_image_pushes_only_its_referrers(
    mirror: Mirror, modern: EmbeddedRegistry, source: EmbeddedRegistry, layout: Path
) -> None:
    CHILD.publish(source, "c/d", "v1")
    signature(CHILD, 9).publish(source, "c/d", None)
    mirror("pull", f"{source.host}/c/d:v1", "--all")
    mirror("push", layout, modern.host, "c/d:v1")
    assert modern.manifests("a/b") == set()
    assert modern.manifests("c/d") == {CHILD.root, signature(CHILD, 9).root}


@pytest.mark.slow
def test_no_referrers_option_pushes_no_referrers(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    document = mirror("push", layout, modern.host, "--no-referrers", "--json").json
    assert document["images"][0]["referrers"] is None
    assert modern.manifests("a/b") == set(IMAGE.manifests)
    assert modern.tags("a/b") == {"v1": IMAGE.root}


@pytest.mark.slow
def test_dry_run_counts_referrers(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    document = mirror("push", layout, modern.host, "--dry-run", "--json").json
    assert document["images"][0]["referrers"]["count"] == 4
    assert modern.manifests("a/b") == set()


# Without the API


@pytest.mark.slow
def test_referrers_are_listed_under_tags_without_the_api(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path
) -> None:
    mirror("push", layout, private.host)
    tags = {tag_of(one) for one in (IMAGE, CHILD, BILL)}
    assert set(private.tags("a/b")) == {"v1", cosign_tag(IMAGE), *tags}
    assert listed(private, IMAGE) == {
        SIGNATURE.root: {
            "mediaType": images.OCI_MANIFEST,
            "digest": SIGNATURE.root,
            "size": len(SIGNATURE.data),
            "artifactType": "application/vnd.cncf.notary.signature",
            "annotations": {"n": "0"},
        }
    }
    assert set(listed(private, CHILD)) == {BILL.root}
    assert set(listed(private, BILL)) == {OVER.root}


@pytest.fixture
def private() -> Iterator[EmbeddedRegistry]:
    """A registry without the API."""
    with serving(EmbeddedRegistry()) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 8])
def test_lists_of_referrers_come_before_the_tag_of_the_image(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path, jobs: int
) -> None:
    CHILD.publish(private, "a/b", "v1")
    private.clear_log()
    mirror("push", layout, private.host, "-j", jobs)
    order = writes(private)
    lists = {tag_of(one) for one in (IMAGE, CHILD, BILL)}
    assert order[-1] == "v1"
    assert lists == set(order[-4:-1])
    assert cosign_tag(IMAGE) in order


@pytest.mark.slow
def test_push_that_ends_before_the_tag_leaves_a_signed_image(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path
) -> None:
    private.fault(Fault(method="PUT", path="/manifests/v1$", times=None, action=Status(403)))
    mirror("push", layout, private.host, code=1)
    assert set(private.tags("a/b")) == {cosign_tag(IMAGE), *(tag_of(one) for one in (IMAGE, CHILD, BILL))}


@pytest.mark.slow
@pytest.mark.parametrize("stale", [Status(404), Status(200, content_type=images.OCI_INDEX, body=THEIR_LIST.data)])
def test_list_that_appears_late_is_confirmed(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path, monkeypatch: pytest.MonkeyPatch, stale: Status
) -> None:
    monkeypatch.setattr(retry, "READ_BACK_DELAYS", (0.0,) * 4)
    THEIRS.publish(private, "a/b", None)
    private.fault(Fault(method="GET", path=f"/manifests/{tag_of(IMAGE)}$", times=4, action=stale))
    mirror("push", layout, private.host)
    assert writes(private).count(tag_of(IMAGE)) == 1
    assert SIGNATURE.root in listed(private, IMAGE)


def publish_list(registry: EmbeddedRegistry, subject: Image, *some: Image, **fields: object) -> None:
    """Publish referrers and a list of them, as another program does."""
    nodes = [{**one.descriptor(), "unknown": 1} for one in some]
    document = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": nodes, **fields}
    for one in some:
        one.publish(registry, "a/b", None)
    registry.put_manifest("a/b", tag_of(subject), images.encode(document), images.OCI_INDEX)


@pytest.mark.slow
def test_existing_entries_of_a_list_are_kept(mirror: Mirror, private: EmbeddedRegistry, layout: Path) -> None:
    theirs = signature(IMAGE, 7)
    publish_list(private, IMAGE, theirs, SIGNATURE, annotations={"who": "them"})
    before = private.get_manifest("a/b", tag_of(IMAGE))
    mirror("push", layout, private.host)
    assert private.get_manifest("a/b", tag_of(IMAGE)) == before  # nothing was missing
    publish_list(private, IMAGE, theirs, annotations={"who": "them"})
    mirror("push", layout, private.host)
    found = listed(private, IMAGE)
    assert [*found] == [theirs.root, SIGNATURE.root]
    assert found[theirs.root]["unknown"] == 1
    assert json.loads(private.get_manifest("a/b", tag_of(IMAGE))[0])["annotations"] == {"who": "them"}


@pytest.mark.slow
def test_second_push_does_not_change_the_list(mirror: Mirror, private: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, private.host)
    before = private.get_manifest("a/b", tag_of(IMAGE))
    private.clear_log()
    mirror("push", layout, private.host)
    assert private.get_manifest("a/b", tag_of(IMAGE)) == before
    assert not any(seen.path.endswith(tag_of(IMAGE)) for seen in private.requests if seen.method == "PUT")


@pytest.mark.slow
@pytest.mark.parametrize("taken", [PLAIN, images.index([CHILD], docker=True)], ids=["manifest", "docker"])
def test_tag_with_other_content_is_reported_and_not_replaced_by_a_list(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path, taken: Image
) -> None:
    taken.publish(private, "a/b", tag_of(IMAGE))
    result = mirror("push", layout, private.host, code=4)
    assert result.lines == [f"{private.host}/a/b:v1@{IMAGE.root}"]
    assert "is something else" in result.err
    assert private.tags("a/b")[tag_of(IMAGE)] == taken.root
    assert set(listed(private, CHILD)) == {BILL.root}


@pytest.mark.slow
def test_list_that_gitlab_cannot_store_is_reported(mirror: Mirror, layout: Path) -> None:
    with serving(EmbeddedRegistry(dashes=True)) as gitlab:
        result = mirror("push", layout, gitlab.host, code=4)
        assert "is something else" in result.err
        assert gitlab.get_manifest("a/b", IMAGE.root) == (IMAGE.data, images.OCI_INDEX)


class OverwriteList(Action):
    """Replace a pushed list by another one right after it arrived."""

    def __init__(self, registry: EmbeddedRegistry, *some: Image) -> None:
        self._registry, self._some = registry, some

    def on_answer(self, call: Call, given: Answer) -> Answer:
        publish_list(self._registry, IMAGE, *self._some)
        return given


@pytest.mark.slow
def test_list_overwritten_by_another_process_is_merged_again(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path
) -> None:
    theirs = signature(IMAGE, 7)
    private.fault(Fault(method="PUT", path=f"/manifests/{tag_of(IMAGE)}$", action=OverwriteList(private, theirs)))
    mirror("push", layout, private.host)
    assert set(listed(private, IMAGE)) == {theirs.root, SIGNATURE.root}


@pytest.mark.slow
def test_list_that_is_always_overwritten_is_reported(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "READ_BACK_DELAYS", ())
    private.fault(
        Fault(
            method="PUT",
            path=f"/manifests/{tag_of(IMAGE)}$",
            times=None,
            action=OverwriteList(private, signature(IMAGE, 7)),
        )
    )
    assert "does not list all referrers that were added" in mirror("push", layout, private.host, code=4).err


@pytest.mark.slow
def test_child_with_a_subject_is_listed_as_a_referrer(
    mirror: Mirror, source: EmbeddedRegistry, private: EmbeddedRegistry
) -> None:
    """Recent attestations of BuildKit are children of the index and have a subject (moby/buildkit#5573)."""
    attestation = images.artifact(
        "application/vnd.docker.attestation", images.Blob.of(b"{}", "a/b"), subject=CHILD.subject()
    )
    images.index([CHILD, attestation]).publish(source, "e/f", "v1")
    mirror("pull", f"{source.host}/e/f:v1", "--all", "--no-referrers")
    mirror("push", "layout", private.host)
    assert set(listed(private, CHILD, "e/f")) == {attestation.root}


# Errors


@pytest.mark.slow
def test_refused_referrer_is_reported_and_the_image_is_pushed(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    modern.fault(Fault(method="PUT", path=SIGNATURE.root, times=None, action=Status(400)))
    result = mirror("push", layout, modern.host, "-q", code=4)
    assert result.lines == [f"{modern.host}/a/b:v1@{IMAGE.root}"]
    assert "may lack referrers" in result.err
    assert modern.tags("a/b")["v1"] == IMAGE.root
    modern.clear_faults()
    mirror("push", layout, modern.host)
    assert SIGNATURE.root in modern.manifests("a/b")


@pytest.mark.slow
def test_missing_blobs_of_a_referrer_are_not_counted_as_moved(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    lost = PLAIN.blobs.keys() - IMAGE.blobs.keys()
    for digest in lost:
        blob_path(layout, digest).unlink()
    moved = mirror("push", layout, modern.host, "--json", code=4).json["moved"]
    assert moved["blobs"] == len(modern.blobs("a/b"))


@pytest.mark.slow
def test_damaged_referrer_is_not_pushed_but_the_image_is(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    path = blob_path(layout, BILL.root)
    path.write_bytes(path.read_bytes().replace(b"notary", b"Notary"))
    result = mirror("push", layout, modern.host, code=4)
    assert result.lines == [f"{modern.host}/a/b:v1@{IMAGE.root}"]
    assert modern.tags("a/b")["v1"] == IMAGE.root
    assert BILL.root not in modern.manifests("a/b")
    assert "broken" in mirror("ls", "layout").out


@pytest.mark.slow
def test_cosign_tags_are_read_back(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    modern.fault(Fault(method="GET", path=f"/manifests/{cosign_tag(IMAGE)}", times=None, action=Flip(-3)))
    result = mirror("push", layout, modern.host, code=4)
    assert "may lack referrers" in result.err


# Referrers without their image, and from several repositories


@pytest.mark.slow
def test_list_without_its_image_is_merged_with_the_list_in_the_registry(
    mirror: Mirror, source: EmbeddedRegistry, private: EmbeddedRegistry
) -> None:
    publish_list(source, IMAGE, SIGNATURE)
    mirror("pull", f"{source.host}/a/b:{tag_of(IMAGE)}", "--all", "--no-referrers")
    theirs = signature(IMAGE, 7)
    publish_list(private, IMAGE, theirs)
    mirror("push", "layout", private.host)
    assert set(listed(private, IMAGE)) == {theirs.root, SIGNATURE.root}  # the lists are merged


@pytest.mark.slow
def test_referrer_can_be_pushed_alone_by_its_tag(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    result = mirror("push", layout, modern.host, cosign_tag(IMAGE))
    assert result.lines == [f"{modern.host}/a/b:{cosign_tag(IMAGE)}@{PLAIN.root}"]
    assert modern.manifests("a/b") == {PLAIN.root}


@pytest.mark.slow
def test_two_different_signatures_for_one_tag_are_refused(
    mirror: Mirror, modern: EmbeddedRegistry, source: EmbeddedRegistry, layout: Path, tmp_path: Path
) -> None:
    """The repositories a/b of two registries have different signatures; neither may silently replace the other."""
    with serving(EmbeddedRegistry()) as other:
        IMAGE.publish(other, "a/b", "v2")
        signature(IMAGE, 3).publish(other, "a/b", cosign_tag(IMAGE))
        mirror("pull", f"{other.host}/a/b:v2", "--all")
    assert "Two different referrers" in mirror("push", layout, modern.host, code=2).err
    assert modern.count("POST|PUT|PATCH") == 0


@pytest.mark.slow
def test_push_and_pull_give_the_same_blobs(mirror: Mirror, private: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, private.host)
    mirror("pull", f"{private.host}/a/b:v1", "--all", "-o", "back")
    assert blobs(mirror.folder / "back") == blobs(layout)


@pytest.mark.slow
def test_image_from_two_repositories_is_pushed_with_the_referrers_of_both(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    with serving(EmbeddedRegistry(referrers=True)) as other:
        IMAGE.publish(other, "a/b", "v1")
        signature(IMAGE, 3).publish(other, "a/b", None)
        mirror("pull", f"{other.host}/a/b:v1", "--all")
    document = mirror("push", layout, modern.host, "--json").json
    assert [image["referrers"]["count"] for image in document["images"]] == [5]
    assert {signature(IMAGE, 3).root, SIGNATURE.root} <= modern.manifests("a/b")


# Receipts


@pytest.mark.slow
@pytest.mark.parametrize("referrers", [True, False], ids=["with the API", "without it"])
def test_receipt_covers_referrers(mirror: Mirror, layout: Path, referrers: bool) -> None:
    with serving(EmbeddedRegistry(referrers=referrers)) as registry:
        mirror("push", layout, registry.host, "--receipt", "receipt.json")
        (image,) = json.loads((mirror.folder / "receipt.json").read_bytes())["images"]
        whole = {digest for one in (IMAGE, *ALL, PLAIN) for digest in (*one.manifests, *one.blobs)}
        assert {piece["digest"] for piece in image["content"]} == whole
        got = {seen.path.rpartition("/")[2] for seen in registry.requests if seen.method == "GET"}
        assert whole <= got
        mirror("verify", "--receipt", "receipt.json")
        registry.replace_blob(SIGNATURE.root, b"{}")
        found = mirror("verify", "--receipt", "receipt.json", "--retries", 0, "--json", code=3).json["findings"]
        assert [finding["subject"] for finding in found] == [SIGNATURE.root]


@pytest.fixture
def receipted(mirror: Mirror, private: EmbeddedRegistry, layout: Path) -> EmbeddedRegistry:
    """A registry without the API; `receipt.json` lists its content."""
    mirror("push", layout, private.host, "--receipt", "receipt.json")
    return private


def checked(mirror: Mirror, code: int) -> list[Json]:
    document = mirror("verify", "--receipt", "receipt.json", "--retries", 0, "--json", code=code).json
    findings: list[Json] = document["findings"]
    return findings


@pytest.mark.slow
def test_receipt_has_the_tags_of_referrers(mirror: Mirror, receipted: EmbeddedRegistry) -> None:
    (image,) = json.loads((mirror.folder / "receipt.json").read_bytes())["images"]
    there = receipted.tags("a/b")
    lists = [(IMAGE, SIGNATURE), (CHILD, BILL), (BILL, OVER)]
    expected = {tag_of(one): [about.root] for one, about in lists} | {cosign_tag(IMAGE): []}
    assert {tag["tag"]: tag["members"] for tag in image["referrers"]["tags"]} == expected
    assert {tag["tag"]: tag["digest"] for tag in image["referrers"]["tags"]} == {tag: there[tag] for tag in expected}
    assert image["referrers"]["error"] is None
    assert checked(mirror, 0) == []


@pytest.mark.slow
def test_receipt_of_a_second_push_lists_the_same_images(
    mirror: Mirror, receipted: EmbeddedRegistry, layout: Path
) -> None:
    first = json.loads((mirror.folder / "receipt.json").read_bytes())["images"]
    mirror("push", layout, receipted.host, "--receipt", "again.json")
    assert json.loads((mirror.folder / "again.json").read_bytes())["images"] == first


@pytest.mark.slow
def test_missing_tags_of_referrers_are_found(mirror: Mirror, receipted: EmbeddedRegistry) -> None:
    for tag in (tag_of(IMAGE), cosign_tag(IMAGE)):
        receipted.remove_tag("a/b", tag)
    found = checked(mirror, 3)
    assert {(one["kind"], one["severity"], one["subject"]) for one in found} == {
        ("missing", "error", tag_of(IMAGE)),
        ("missing", "error", cosign_tag(IMAGE)),
    }
    assert {one["hint"] for one in found} == {"Push the image again from its layout."}


@pytest.mark.slow
def test_moved_cosign_tag_is_found(mirror: Mirror, receipted: EmbeddedRegistry) -> None:
    CHILD.publish(receipted, "a/b", cosign_tag(IMAGE))
    (found,) = checked(mirror, 3)
    assert (found["kind"], found["expected"], found["found"]) == ("moved", PLAIN.root, CHILD.root)


@pytest.mark.slow
def test_list_of_referrers_may_gain_entries_but_not_lose_them(mirror: Mirror, receipted: EmbeddedRegistry) -> None:
    publish_list(receipted, IMAGE, signature(IMAGE, 7), SIGNATURE)
    assert checked(mirror, 0) == []
    publish_list(receipted, IMAGE, signature(IMAGE, 7))
    (found,) = checked(mirror, 3)
    assert (found["kind"], found["subject"]) == ("missing", tag_of(IMAGE))
    assert SIGNATURE.root in found["expected"]
    PLAIN.publish(receipted, "a/b", tag_of(IMAGE))
    assert [one["subject"] for one in checked(mirror, 3)] == [tag_of(IMAGE)]


@pytest.mark.slow
def test_receipt_without_tags_of_referrers_is_accepted(mirror: Mirror, receipted: EmbeddedRegistry) -> None:
    receipt = json.loads((mirror.folder / "receipt.json").read_bytes())
    for image in receipt["images"]:
        del image["referrers"]
    (mirror.folder / "receipt.json").write_text(json.dumps(receipt))
    receipted.remove_tag("a/b", cosign_tag(IMAGE))
    assert checked(mirror, 0) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault(method="PUT", path=f"/manifests/{SIGNATURE.root}", times=None, action=Status(400)),
        Fault(method="PUT", path=f"/manifests/{tag_of(IMAGE)}$", times=None, action=Status(400)),
        Fault(method="GET", path=f"/manifests/{cosign_tag(IMAGE)}", times=None, action=Flip(-3)),
    ],
    ids=["a referrer", "a list", "a tag"],
)
def test_referrers_that_were_not_pushed_are_a_warning(
    mirror: Mirror, private: EmbeddedRegistry, layout: Path, fault: Fault
) -> None:
    private.fault(fault)
    mirror("push", layout, private.host, "--receipt", "receipt.json", code=4)
    private.clear_faults()
    (found,) = checked(mirror, 0)
    assert (found["kind"], found["severity"]) == ("not-pushed", "warning")
    assert found["subject"] == f"{private.host}/a/b:v1"
    mirror("verify", "--receipt", "receipt.json", "--fail-on", "warning", code=3)


@pytest.mark.slow
def test_receipt_of_a_push_without_referrers_lists_none(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, modern.host, "--no-referrers", "--receipt", "receipt.json")
    (image,) = json.loads((mirror.folder / "receipt.json").read_bytes())["images"]
    assert {piece["digest"] for piece in image["content"]} == {*IMAGE.manifests, *IMAGE.blobs}
