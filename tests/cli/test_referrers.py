"""Tests of pulls of referrers: from the API or from tags, in few requests, and with limits."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.registry.referrers import find as referrers
from tests.support import images
from tests.support.command import Mirror, assert_whole, blobs, entries, names, tree
from tests.support.images import Image, cosign_tag, signature
from tests.support.profiles import every
from tests.support.registry import Cut, EmbeddedRegistry, Fault, Flip, Header, Redirect, Status, serving
from tests.support.registry.faults import Action
from tests.support.registry.messages import Answer, Call, answer, answer_json

PLATFORMS = [f"linux/a{number}" for number in range(16)]
CHILDREN = [images.image(platform, images.layer(number, 200)) for number, platform in enumerate(PLATFORMS)]
IMAGE = images.index([*CHILDREN, *map(images.attestation, CHILDREN)])
SUBJECTS = len(IMAGE.manifests)  # 33: an index, 16 images, 16 attestations
SMALL = images.multi_arch()
CHILD = CHILDREN[0]
SIGNATURE, BILL = signature(IMAGE), signature(IMAGE, 1)
OVER = signature(BILL)  # the bill of materials is signed, too
PLAIN = images.artifact("application/vnd.dev.cosign", images.Blob.of(b"simple", "a/b"))  # cosign's have no subject
API, TAGS = "/referrers/", "/tags/list"


def tag_of(subject: Image) -> str:
    return subject.root.replace(":", "-")


def publish(
    registry: EmbeddedRegistry, image: Image = IMAGE, *referring: Image, repo: str = "a/b", tag: str = "v1"
) -> str:
    """Publish an image and its referrers, which a registry with the API lists by itself."""
    image.publish(registry, repo, tag)
    for one in referring:
        one.publish(registry, repo, None)
    return f"{registry.host}/{repo}:{tag}"


def publish_list(registry: EmbeddedRegistry, subject: Image, *referring: Image, repo: str = "a/b") -> None:
    """Publish referrers and a list of them, as clients do for registries without the API."""
    for one in referring:
        one.publish(registry, repo, None)
    nodes = [{**one.descriptor(), "artifactType": "x/y", "annotations": {"a": "b"}} for one in referring]
    data = images.encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": nodes})
    registry.put_manifest(repo, tag_of(subject), data, images.OCI_INDEX)


@contextmanager
def running(referrers: bool = False, dashes: bool = False) -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(referrers=referrers, dashes=dashes)) as registry:
        yield registry


@pytest.fixture
def modern() -> Iterator[EmbeddedRegistry]:
    """A registry with the referrers API."""
    with running(referrers=True) as registry:
        yield registry


def count_referrers(mirror: Mirror, *args: object, code: int = 0) -> int:
    """The number of referrers that a pull reports for its only image."""
    (image,) = mirror("pull", *args, "--json", code=code).json["images"]
    return int(image["referrers"]["count"])


# Pulled referrers


@pytest.mark.slow
def test_pull_fetches_all_referrers_of_an_image(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    name = publish(modern, IMAGE, SIGNATURE, BILL, OVER, signature(CHILD))
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD, "att"))
    result = mirror("pull", name, "--all")
    assert result.lines == [f"{name}@{IMAGE.root}"]
    assert "16 platforms, 5 referrers" in result.err
    assert {SIGNATURE.root, BILL.root, OVER.root, signature(CHILD).root, PLAIN.root} <= blobs(layout)
    assert_whole(layout)
    mirror("verify", "layout")


@pytest.mark.slow
def test_referrers_are_entries_with_the_tags_that_other_tools_use(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    name = publish(modern, SMALL, signature(SMALL), signature(SMALL, 1))
    PLAIN.publish(modern, "a/b", cosign_tag(SMALL))
    mirror("pull", name, "--all")
    repo = name.rpartition(":")[0]
    by_tag = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry for entry in entries(layout)}
    assert sorted(by_tag) == sorted(["v1", tag_of(SMALL), cosign_tag(SMALL)])
    assert sorted(names(layout)) == sorted(f"{repo}:{tag}" for tag in by_tag)
    assert by_tag[cosign_tag(SMALL)]["digest"] == PLAIN.root
    children = index_of(layout, by_tag[tag_of(SMALL)]["digest"])
    assert {child["digest"] for child in children} == {signature(SMALL).root, signature(SMALL, 1).root}
    assert {child["artifactType"] for child in children} == {"application/vnd.cncf.notary.signature"}
    assert sorted(child["annotations"]["n"] for child in children) == ["0", "1"]


def index_of(layout: Path, digest: str) -> list[images.Json]:
    """The children of a stored index."""
    found: list[images.Json] = json.loads(layout.joinpath("blobs", *digest.split(":")).read_bytes())["manifests"]
    return found


@pytest.mark.slow
def test_api_and_tags_give_the_same_content(mirror: Mirror, tmp_path: Path) -> None:
    found = []
    for referrers_api in (True, False):
        with running(referrers=referrers_api) as registry:
            name = publish(registry, SMALL)
            publish_list(registry, SMALL, signature(SMALL), signature(SMALL, 1))
            mirror("pull", name, "--all", "-o", f"layout{referrers_api}")
            folder = tmp_path / f"layout{referrers_api}"
            found.append({name: data for name, data in tree(folder).items() if name != "index.json"})
    assert found[0] == found[1]


@pytest.mark.slow
def test_pulling_again_changes_nothing(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    name = publish(modern, IMAGE, SIGNATURE, BILL, OVER)
    SIGNATURE.publish(modern, "a/b", cosign_tag(IMAGE))
    mirror("pull", name, "--all")
    before = tree(layout)
    modern.clear_log()
    assert count_referrers(mirror, name, "--all") == 3
    assert tree(layout) == before
    assert modern.blob_bytes_sent() == 0
    assert modern.count("GET", "/manifests/") == 0


@pytest.mark.slow
def test_referrers_removed_from_the_registry_are_kept(mirror: Mirror, layout: Path) -> None:
    with running(referrers=True) as registry:
        name = publish(registry, SMALL, signature(SMALL))
        mirror("pull", name, "--all")
        registry.remove_manifest("a/b", signature(SMALL).root)
        signature(SMALL, 1).publish(registry, "a/b", None)
        assert count_referrers(mirror, name, "--all") == 2
    (entry,) = [
        entry for entry in entries(layout) if entry["annotations"]["io.containerd.image.name"].endswith(tag_of(SMALL))
    ]
    assert len(index_of(layout, entry["digest"])) == 2
    assert_whole(layout)


@pytest.mark.slow
def test_two_tags_of_one_image_share_their_referrers(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    first = publish(modern, SMALL, signature(SMALL))
    second = publish(modern, SMALL, tag="v2")
    document = mirror("pull", first, second, "--all", "--json").json
    assert [image["referrers"]["count"] for image in document["images"]] == [1, 1]
    assert modern.count("GET", TAGS) == 1
    assert len(entries(layout)) == 3


@pytest.mark.slow
def test_each_repository_has_its_own_referrers(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    first = publish(modern, SMALL, signature(SMALL))
    second = publish(modern, SMALL, signature(SMALL, 1), repo="c/d")
    document = mirror("pull", first, second, "--all", "--json").json
    assert [image["referrers"]["count"] for image in document["images"]] == [1, 1]
    assert sum(tag_of(SMALL) in name for name in names(layout)) == 2
    listing = mirror("ls", "layout", "--json").json
    assert ([image["referrers"] for image in listing["images"]], listing["referrers"]) == ([1, 1], 2)


# Options


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "looked"),
    [
        (["--all"], True),
        (["--all", "--no-referrers"], False),
        (["--platform", "linux/a0"], False),
        (["--platform", "linux/a0", "--referrers"], True),
    ],
)
def test_referrers_are_pulled_by_default_only_with_all_platforms(
    mirror: Mirror, modern: EmbeddedRegistry, flags: list[str], looked: bool
) -> None:
    name = publish(modern, IMAGE, SIGNATURE)
    (image,) = mirror("pull", name, *flags, "--json").json["images"]
    assert (image["referrers"] is not None) is looked
    assert (modern.count("GET", API) > 0, modern.count("GET", TAGS) > 0) == (looked, looked)


@pytest.mark.slow
def test_settings_file_can_disable_referrers(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    name = publish(modern, IMAGE, SIGNATURE)
    (mirror.folder / "own.toml").write_text("referrers = false\n")
    assert mirror("pull", name, "--all", "--json", "--config", "own.toml").json["images"][0]["referrers"] is None


@pytest.mark.slow
@pytest.mark.parametrize("platforms", ["linux/a0", "linux/a0,linux/a1"])
def test_selected_platforms_have_the_referrers_of_their_images_and_the_index(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path, platforms: str
) -> None:
    name = publish(modern, IMAGE, SIGNATURE, signature(CHILD), signature(CHILDREN[5]))
    assert count_referrers(mirror, name, "--platform", platforms, "--referrers") == 2
    assert {SIGNATURE.root, signature(CHILD).root} <= blobs(layout)
    assert signature(CHILDREN[5]).root not in blobs(layout)
    assert mirror("ls", "layout", "--json").json["images"][0]["referrers"] == 2  # the entry records the index


@pytest.mark.slow
def test_dry_run_counts_referrers_and_writes_nothing(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    name = publish(modern, IMAGE, SIGNATURE)
    assert "1 referrer" in mirror("pull", name, "--all", "--dry-run").err
    assert not layout.exists()


# Number of requests


def request_counts(registry: EmbeddedRegistry) -> tuple[int, int, int]:
    """The number of requests to the API, for lists of tags, and by HEAD."""
    return registry.count("GET", API), registry.count("GET", TAGS), registry.count("HEAD", "/manifests/")


@pytest.mark.slow
def test_api_needs_one_request_per_subject_and_one_for_all_tags(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    name = publish(modern, IMAGE, SIGNATURE)
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD))
    mirror("pull", name, "--all")
    assert request_counts(modern) == (SUBJECTS + 1, 1, 0)  # the signature may be signed, too
    assert modern.count("GET", "/manifests/") == SUBJECTS + 2


@pytest.mark.slow
def test_missing_api_needs_one_api_request_and_one_list_of_tags(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    name = publish(registry)
    publish_list(registry, IMAGE, SIGNATURE)
    PLAIN.publish(registry, "a/b", cosign_tag(CHILD))
    assert count_referrers(mirror, name, "--all") == 2
    assert request_counts(registry) == (1, 1, 0)
    assert registry.count("GET", "/manifests/") == SUBJECTS + 3  # with the list, and its referrer


@pytest.mark.slow
def test_missing_api_is_requested_once_for_all_repositories_of_a_registry(
    mirror: Mirror, registry: EmbeddedRegistry
) -> None:
    some = [publish(registry, SMALL, repo=f"a/r{number}") for number in range(5)]
    mirror("pull", *some, "--all")
    assert request_counts(registry) == (1, 5, 0)


@pytest.mark.slow
@pytest.mark.parametrize("status", [405, 401, 403, 404])
def test_each_tag_is_requested_if_tags_cannot_be_listed(
    mirror: Mirror, registry: EmbeddedRegistry, status: int
) -> None:
    name = publish(registry)
    publish_list(registry, IMAGE, SIGNATURE)
    PLAIN.publish(registry, "a/b", cosign_tag(CHILD))
    registry.fault(Fault(path=TAGS, times=None, action=Status(status)))
    assert count_referrers(mirror, name, "--all") == 2
    # The tags of the signature are requested, too: it may be signed.
    assert request_counts(registry) == (1, 1, 4 * (SUBJECTS + 1))


@pytest.mark.slow
def test_listing_stops_if_it_needs_more_requests_than_the_tags_themselves(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(page=1)) as registry:
        name = publish(registry, CHILD)
        for number in range(20):
            CHILD.publish(registry, "a/b", f"other{number}")
        PLAIN.publish(registry, "a/b", cosign_tag(CHILD))
        assert count_referrers(mirror, name, "--platform", "linux/a0", "--referrers") == 1
        assert request_counts(registry) == (1, 4, 4)


@pytest.mark.slow
def test_get_is_used_if_the_registry_does_not_support_head(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    name = publish(registry, CHILD)
    PLAIN.publish(registry, "a/b", cosign_tag(CHILD))
    registry.fault(Fault(path=TAGS, times=None, action=Status(404)))
    registry.fault(Fault(method="HEAD", times=None, action=Status(405)))
    assert count_referrers(mirror, name, "--platform", "linux/a0", "--referrers") == 1


@pytest.mark.slow
def test_all_pages_of_referrers_are_read(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(page=2, referrers=True)) as registry:
        name = publish(registry, CHILD, *(signature(CHILD, number) for number in range(5)))
        assert count_referrers(mirror, name, "--platform", "linux/a0", "--referrers") == 5


# Deviating registries


@pytest.mark.slow
@pytest.mark.parametrize("status", [404, 400, 405, 406, 501])
def test_missing_api_causes_no_warning(mirror: Mirror, registry: EmbeddedRegistry, status: int) -> None:
    name = publish(registry)
    publish_list(registry, IMAGE, SIGNATURE)
    registry.fault(Fault(path=API, times=None, action=Status(status)))
    document = mirror("pull", name, "--all", "--json").json
    assert document["images"][0]["referrers"]["count"] == 1
    assert document["warnings"] == []


@pytest.mark.slow
def test_redirect_of_ghcr_to_github_that_answers_429_is_a_warning(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    """artifacthub/hub#4785"""
    name = publish(registry)
    publish_list(registry, IMAGE, SIGNATURE)
    with running() as github:
        github.fault(Fault(times=None, action=Status(429, (("Retry-After", "3600"),))))
        elsewhere = Redirect(f"{github.url}/-/v2/packages/container/package/a%2Fb%2Freferrers%2Fsha256", 303)
        registry.fault(Fault(path=API, times=None, action=elsewhere))
        result = mirror("pull", name, "--all", "--json")
        assert len(github.requests) == 1
    assert "answered 429" in result.json["warnings"][0]
    assert result.json["images"][0]["referrers"] == {"count": 1, "size": 82, "error": None, "errorCode": None}


@pytest.mark.slow
def test_gitlab_response_with_the_image_itself_gives_no_referrers(mirror: Mirror, layout: Path) -> None:
    """oras-project/oras-go#1396: the children of the image must not become its referrers."""
    with running(dashes=True) as registry:
        name = publish(registry)
        registry.fault(Fault(path=TAGS, times=None, action=Status(404)))
        document = mirror("pull", name, "--all", "--json").json
    assert (document["images"][0]["referrers"]["count"], document["warnings"]) == (0, [])
    assert names(layout) == [name]


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403])
def test_refused_api_request_is_a_warning(mirror: Mirror, registry: EmbeddedRegistry, status: int) -> None:
    name = publish(registry)
    publish_list(registry, IMAGE, SIGNATURE)
    registry.fault(Fault(path=API, times=None, action=Status(status)))
    document = mirror("pull", name, "--all", "--json").json
    assert f"answered {status}" in document["warnings"][0]
    assert document["images"][0]["referrers"]["count"] == 1
    assert registry.count("GET", API) == 1


@pytest.mark.slow
def test_refused_api_request_does_not_affect_other_repositories(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    some = [publish(modern, SMALL, signature(SMALL), repo=repo) for repo in ("closed", "open")]
    modern.fault(Fault(path="/closed/referrers/", times=None, action=Status(403)))
    document = mirror("pull", *some, "--all", "--json").json
    assert [image["referrers"]["count"] for image in document["images"]] == [0, 1]
    (warning,) = document["warnings"]
    assert "/closed were searched for" in warning


@pytest.mark.slow
def test_broken_api_causes_a_warning_for_each_repository(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    some = [publish(registry, SMALL, repo=repo) for repo in ("one", "other")]
    registry.fault(Fault(path=API, times=None, action=Status(200, body=b"<html>")))
    warnings = mirror("pull", *some, "--all", "--json").json["warnings"]
    assert [repo in " ".join(warnings) for repo in ("/one were searched for", "/other were searched for")] == [
        True,
        True,
    ]
    assert registry.count("GET", API) == 1


@pytest.mark.slow
def test_retry_after_of_another_host_does_not_delay_the_registry(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    """Otherwise, every request to ghcr.io would wait a minute because of github.com."""
    name = publish(registry, SMALL)
    with running() as github:
        github.fault(Fault(times=None, action=Status(429, (("Retry-After", "50"),))))
        registry.fault(Fault(path=API, times=None, action=Redirect(f"{github.url}/x", 303)))
        assert "is left alone" not in mirror("pull", name, "--all", "-v").err


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"[]", b'{"schemaVersion": 2, "config": {}}', b""])
def test_api_response_that_is_not_an_index_is_a_warning(
    mirror: Mirror, registry: EmbeddedRegistry, body: bytes
) -> None:
    name = publish(registry)
    publish_list(registry, IMAGE, SIGNATURE)
    registry.fault(Fault(path=API, times=None, action=Status(200, body=body, content_type="text/html")))
    document = mirror("pull", name, "--all", "--json").json
    assert "did not send an index" in document["warnings"][0]
    assert document["images"][0]["referrers"]["count"] == 1


@pytest.mark.slow
def test_failing_api_is_reported_and_the_image_is_complete(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    name = publish(registry)
    publish_list(registry, IMAGE, SIGNATURE)
    registry.fault(Fault(path=API, times=None, action=Status(500)))
    result = mirror("pull", name, "--all", "-q", "--retries", 1, code=4)
    assert result.lines == [f"{name}@{IMAGE.root}"]
    assert "is complete, but may lack referrers" in result.err
    assert "500" in result.err
    assert registry.count("GET", API) == 2  # one retry, and no request for the other subjects
    assert SIGNATURE.root in blobs(layout)  # found by its tag
    assert_whole(layout)


@pytest.mark.slow
def test_json_has_the_reason_for_missing_referrers(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    name = publish(registry)
    registry.fault(Fault(path=API, times=None, action=Status(500)))
    document = mirror("pull", name, "--all", "--json", "--retries", 0, code=4).json
    assert document["images"][0]["error"] is None
    assert "500" in document["images"][0]["referrers"]["error"]


@pytest.mark.slow
def test_api_request_is_retried(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    name = publish(modern, IMAGE, SIGNATURE)
    modern.fault(Fault(path=API, times=1, action=Status(503)))
    assert count_referrers(mirror, name, "--all") == 1


# Invalid referrers


class Listing(Action):
    """Let the API list these descriptors for each subject."""

    def __init__(self, *nodes: images.Json) -> None:
        self._nodes = nodes

    def on_call(self, call: Call) -> Answer:
        document = {"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": self._nodes}
        return answer(200, images.encode(document), Content_Type=images.OCI_INDEX)


@pytest.mark.slow
def test_referrers_with_another_subject_are_omitted_with_a_warning(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    name = publish(modern, CHILD, SIGNATURE)
    PLAIN.publish(modern, "a/b", None)
    modern.fault(Fault(path=API, times=None, action=Listing(SIGNATURE.descriptor(), PLAIN.descriptor())))
    document = mirror("pull", name, "--all", "--json").json
    assert document["images"][0]["referrers"]["count"] == 0
    assert "2 of the referrers listed" in document["warnings"][0]
    assert "have another subject" in document["warnings"][0]
    assert blobs(layout).isdisjoint({SIGNATURE.root, PLAIN.root})


@pytest.mark.slow
def test_listed_referrers_that_are_missing_are_omitted_with_a_warning(
    mirror: Mirror, registry: EmbeddedRegistry
) -> None:
    name = publish(registry, CHILD)
    publish_list(registry, CHILD, signature(CHILD), signature(CHILD, 1))
    registry.remove_manifest("a/b", signature(CHILD).root)
    document = mirror("pull", name, "--all", "--json").json
    assert document["images"][0]["referrers"]["count"] == 1
    assert "1 of the referrers listed" in document["warnings"][0]


@pytest.mark.slow
def test_image_is_complete_if_a_referrer_is_corrupt(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    name = publish(modern, CHILD, signature(CHILD))
    modern.fault(Fault(path=f"/manifests/{signature(CHILD).root}", times=None, action=Flip(3)))
    result = mirror("pull", name, "--all", code=4)
    assert "does not match its digest" in result.err
    assert names(layout) == [name]
    assert_whole(layout)


@pytest.mark.slow
def test_image_is_complete_if_a_blob_of_a_referrer_is_corrupt(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    blob = next(digest for digest in signature(CHILD).blobs if digest != images.EMPTY.digest)
    name = publish(modern, CHILD, signature(CHILD))
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD))
    modern.fault(Fault(path=blob, times=None, action=Flip(3)))
    result = mirror("pull", name, "--all", code=4)
    assert (result.lines, "does not match its digest" in result.err) == ([f"{name}@{CHILD.root}"], True)
    assert sorted(names(layout)) == sorted([name, name.replace("v1", cosign_tag(CHILD))])
    assert_whole(layout)
    modern.clear_faults()
    assert count_referrers(mirror, name, "--all") == 2


def test_tag_that_is_not_a_list_of_referrers_is_a_warning(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    name = publish(registry, CHILD)
    PLAIN.publish(registry, "a/b", tag_of(CHILD))
    document = mirror("pull", name, "--all", "--json").json
    assert "is not a list of referrers" in document["warnings"][0]
    assert document["images"][0]["referrers"]["count"] == 0


@pytest.mark.slow
def test_wrong_size_in_a_referrer_does_not_affect_the_image(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    manifest = images.encode(
        {
            "schemaVersion": 2,
            "mediaType": images.OCI_MANIFEST,
            "config": {"mediaType": "x/y", "digest": next(iter(CHILD.blobs)), "size": 7},
            "layers": [],
            "subject": CHILD.subject(),
        }
    )
    name = publish(modern, CHILD)
    modern.put_manifest("a/b", None, manifest, images.OCI_MANIFEST)
    result = mirror("pull", name, "--all", code=4)
    assert result.lines == [f"{name}@{CHILD.root}"]
    assert_whole(layout)
    mirror("verify", "layout")


def test_path_as_the_digest_of_a_referrer_is_refused(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    evil = {"mediaType": images.OCI_MANIFEST, "size": 2, "digest": "sha256:../../../../etc/passwd"}
    name = publish(modern, CHILD)
    modern.fault(Fault(path=API, times=None, action=Listing(evil)))
    document = mirror("pull", name, "--all", "--json").json
    assert "did not send an index" in document["warnings"][0]


# Limits


def fake(number: int) -> images.Json:
    digest = images.digest_of(str(number).encode())
    return {"mediaType": images.OCI_MANIFEST, "digest": digest, "size": 500, "artifactType": "a"}


@pytest.mark.slow
def test_a_hundred_thousand_referrers_are_refused_before_any_is_fetched(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    """CVE-2023-33957"""
    name = publish(modern, CHILD)
    modern.fault(Fault(path=API, times=None, action=Listing(*map(fake, range(100_000)))))
    modern.clear_log()
    result = mirror("pull", name, "--all", code=4)
    assert f"more than {referrers.MAX_REFERRERS} referrers" in result.err
    assert modern.count("GET", "/manifests/") <= 1
    assert names(layout) == [name]


@pytest.mark.slow
def test_endless_pages_of_referrers_are_refused(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    class Endless(Action):
        def on_call(self, call: Call) -> Answer:
            number = int(call.param("skip") or 0) + 1
            page = {
                "schemaVersion": 2,
                "mediaType": images.OCI_INDEX,
                "manifests": [fake(number * 1000 + n) for n in range(999)],
            }
            given = answer_json(200, page)
            return given.plus("Link", f"<{call.path}?skip={number}>; rel=next")

    name = publish(modern, CHILD)
    modern.fault(Fault(path=API, times=None, action=Endless()))
    assert f"more than {referrers.MAX_REFERRERS} referrers" in mirror("pull", name, "--all", code=4).err
    assert modern.count("GET", API) <= 6


@pytest.mark.slow
def test_referrers_of_many_megabytes_are_refused_before_any_is_fetched(
    mirror: Mirror, modern: EmbeddedRegistry
) -> None:
    """CVE-2024-29903"""
    name = publish(modern, CHILD)
    large = [{**fake(number), "size": 4_000_000} for number in range(100)]
    modern.fault(Fault(path=API, times=None, action=Listing(*large)))
    modern.clear_log()
    assert "bytes" in mirror("pull", name, "--all", code=4).err
    assert modern.count("GET", "/manifests/") <= 1


@pytest.mark.slow
def test_depth_of_a_chain_of_referrers_is_limited(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    chain = [CHILD]
    for _ in range(9):
        chain.append(signature(chain[-1]))
    name = publish(modern, *chain)
    result = mirror("pull", name, "--all", code=4)
    assert "levels deep" in result.err
    assert sum(one.root in blobs(layout) for one in chain[1:]) == referrers.MAX_DEPTH


@pytest.mark.slow
def test_control_characters_of_referrers_are_not_printed(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    evil = images.artifact("a/b\x1b[31m", images.Blob.of(b"x", "a/b"), subject=CHILD.subject())
    name = publish(modern, CHILD, evil)
    assert count_referrers(mirror, name, "--all") == 1
    assert "\x1b" not in mirror("inspect", "layout").out


# In the layout


@pytest.mark.slow
def test_ls_counts_referrers_and_does_not_list_them(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    name = publish(modern, IMAGE, SIGNATURE, BILL, OVER)
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD))
    mirror("pull", name, "--all")
    result = mirror("ls", "layout")
    assert len(result.lines) == 2
    assert "(4 referrers)" in result.lines[1]
    assert "1 image, 4 referrers" in result.err


@pytest.mark.slow
def test_inspect_shows_referrers(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    name = publish(modern, CHILD, signature(CHILD))
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD))
    mirror("pull", name, "--all")
    (image,) = mirror("inspect", "layout", "--json").json["images"]
    found = {one["manifest"]["digest"]: (one["subject"], one["artifactType"], one["tag"]) for one in image["referrers"]}
    assert found == {
        signature(CHILD).root: (CHILD.root, "application/vnd.cncf.notary.signature", None),
        PLAIN.root: (CHILD.root, "application/vnd.dev.cosign", cosign_tag(CHILD)),
    }
    text = mirror("inspect", "layout").out
    assert signature(CHILD).root in text
    assert mirror("inspect", name, "--json").json["images"][0]["referrers"] is None  # not requested


@pytest.mark.slow
def test_rm_removes_referrers(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    name = publish(modern, IMAGE, SIGNATURE, BILL, OVER)
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD))
    other = publish(modern, SMALL, tag="other")
    mirror("pull", other, "--all")
    before = tree(layout)
    mirror("pull", name, "--all")
    removed = mirror("rm", "layout", name, "--json").json
    assert len(removed["images"][0]["referrers"]) == 3
    assert tree(layout) == before


@pytest.mark.slow
def test_rm_keeps_referrers_of_another_image(mirror: Mirror, modern: EmbeddedRegistry, layout: Path) -> None:
    both = publish(modern, IMAGE, SIGNATURE, signature(CHILD))
    one = publish(modern, CHILD, tag="one")
    mirror("pull", both, one, "--all")
    mirror("rm", "layout", both)
    assert signature(CHILD).root in blobs(layout)
    assert SIGNATURE.root not in blobs(layout)
    assert mirror("ls", "layout", "--json").json["images"][0]["referrers"] == 1
    mirror("verify", "layout")


@pytest.mark.slow
def test_rm_removes_referrers_that_only_removed_images_share(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path
) -> None:
    both = publish(modern, IMAGE, SIGNATURE, signature(CHILD))
    one = publish(modern, CHILD, tag="one")
    mirror("pull", both, one, "--all")
    assert "removed 2 images and 2 referrers" in mirror("rm", "layout", both, one).err
    assert blobs(layout) == set()


@pytest.mark.slow
def test_ls_shows_referrers_whose_image_is_missing(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    publish(modern, CHILD, signature(CHILD))
    tag = tag_of(CHILD)
    publish_list(modern, CHILD, signature(CHILD))
    mirror("pull", f"{modern.host}/a/b:{tag}", "--all", "--no-referrers")
    assert tag in mirror("ls", "layout").out


@pytest.mark.slow
def test_ls_shows_images_that_claim_to_refer_to_each_other(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    """Two entries, each under a tag that is made from a digest in the other one."""
    first = images.index([CHILD])
    second = images.index([CHILDREN[1]])
    for image, other in ((first, CHILDREN[1]), (second, CHILD)):
        image.publish(modern, "a/b", tag_of(other))
    some = [f"{modern.host}/a/b:{tag_of(one)}" for one in (CHILD, CHILDREN[1])]
    mirror("pull", *some, "--all", "--no-referrers")
    assert len(mirror("ls", "layout").lines) == 3


@pytest.mark.slow
def test_referrer_that_is_pulled_by_its_name_is_an_image(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    name = publish(modern, CHILD)
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD))
    signed = f"{modern.host}/a/b:{cosign_tag(CHILD)}"
    assert mirror("pull", name, signed, "--all").lines == [f"{name}@{CHILD.root}", f"{signed}@{PLAIN.root}"]


def test_absolute_link_to_another_host_is_requested_from_the_registry(mirror: Mirror, modern: EmbeddedRegistry) -> None:
    name = publish(modern, CHILD, signature(CHILD))
    with running() as stranger:
        modern.fault(Fault(path=API, times=None, action=Header("Link", f"<{stranger.url}/v2/x>; rel=next")))
        assert "404" in mirror("pull", name, "--all", code=4).err  # there is no such page in the registry itself
        assert stranger.requests == []


# Cuts


CUTS = [Cut(None), Cut(1), Flip(0), Status(500), Status(429, body=b"<html>")]


@pytest.mark.slow
@pytest.mark.parametrize("action", CUTS, ids=lambda action: type(action).__name__)
def test_image_is_complete_after_any_failure_and_the_next_pull_has_the_rest(
    mirror: Mirror, modern: EmbeddedRegistry, layout: Path, action: Action
) -> None:
    """Fail each request for referrers in turn; other tests cover the requests for the image."""
    name = publish(modern, CHILD, signature(CHILD))
    PLAIN.publish(modern, "a/b", cosign_tag(CHILD))
    own = {*CHILD.manifests, *CHILD.blobs, "v1"}
    mirror("pull", name, "--all", "-j", 1, "-o", "clean")
    asked = [seen for seen in modern.requests if seen.path.rpartition("/")[2] not in own or API in seen.path]
    assert len(asked) >= 7  # the API twice and more, tags, two manifests, their blobs
    for seen in every(asked):
        shutil.rmtree(layout, ignore_errors=True)
        modern.clear_faults()
        modern.fault(Fault(method=seen.method, path=f"{seen.path}$", action=action))
        result = mirror.run(mirror.command("pull", name, "--all", "-j", 1, "--retries", 0))
        assert result.code in (0, 4), result.err
        assert result.lines == [f"{name}@{CHILD.root}"]
        assert name in names(layout)
        assert_whole(layout)
        mirror("pull", name, "--all")
        assert tree(layout) == tree(mirror.folder / "clean")
