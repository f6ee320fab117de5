"""Tests of mirror copy on the command line: between registries, layouts and archives."""

import json
import os
import shlex
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support import images
from tests.support.archives import IMAGE_NAME, REF_NAME, Saved, docker_old, named, unpacked
from tests.support.command import Mirror, Result, assert_whole, blob_path, blobs, check_manners, entries, names, tree
from tests.support.images import Image
from tests.support.registry import Cut, EmbeddedRegistry, Fault, Status, serving

AMD64 = images.image("linux/amd64", images.layer(1, 60_000), images.layer(2, 500))
ARM = images.image("linux/arm64", images.layer(3, 900), images.layer(2, 500))
MULTI = images.index([AMD64, ARM, images.attestation(AMD64)])
LARGEST = images.layer(1, 60_000).digest


@pytest.fixture
def source(registry: EmbeddedRegistry) -> str:
    """Publish an image and return its name."""
    MULTI.publish(registry, "team/app", "v1")
    return f"{registry.host}/team/app:v1"


@pytest.fixture
def other() -> Iterator[EmbeddedRegistry]:
    """Run a second, empty registry."""
    with serving(EmbeddedRegistry()) as running:
        yield running


def everything(image: Image) -> set[str]:
    return {*image.manifests, *image.blobs}


def held(registry: EmbeddedRegistry, repo: str = "team/app") -> set[str]:
    return registry.blobs(repo) | registry.manifests(repo)


def root_of(location: Path) -> str:
    [entry] = entries(location)
    return str(entry["digest"])


# Every pair of locations

PLACES = {"registry": "docker://{host}/copy/of:v2", "layout": "oci:end:v2", "archive": "oci-archive:end.tar:v2"}


@pytest.mark.slow
@pytest.mark.parametrize("start", PLACES)
@pytest.mark.parametrize("end", PLACES)
def test_image_is_copied_between_every_pair_of_locations(
    mirror: Mirror, source: str, other: EmbeddedRegistry, tmp_path: Path, start: str, end: str
) -> None:
    origin = {"registry": f"docker://{source}", "layout": "oci:start", "archive": "oci-archive:start.tar"}[start]
    if start != "registry":
        mirror("copy", f"docker://{source}", origin)
    result = mirror("copy", origin, PLACES[end].format(host=other.host))
    assert result.lines == [f"{expected_name(source, other, end)}@{MULTI.root}"]
    assert result.err.startswith("copied 1 image, 2 platforms: ")
    if end == "registry":
        assert (held(other, "copy/of"), other.tags("copy/of")) == (everything(MULTI), {"v2": MULTI.root})
        return
    if end == "archive":
        mirror("import", "end.tar", "end")
    assert_whole(tmp_path / "end")
    assert blobs(tmp_path / "end") == everything(MULTI)
    assert names(tmp_path / "end") == [expected_name(source, other, end)]


def expected_name(source: str, other: EmbeddedRegistry, end: str) -> str:
    return f"{other.host}/copy/of:v2" if end == "registry" else f"{source[:-3]}:v2"


@pytest.mark.slow
def test_copy_of_a_location_without_a_name_copies_all_images(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    for repo in ("a", "b"):
        MULTI.publish(registry, repo, "v1")
        mirror("copy", f"docker://{registry.host}/{repo}:v1", "./layout")
    for target in ("oci-archive:all.tar", "oci:other"):
        assert len(mirror("copy", "oci:layout", target).lines) == 2
    assert tree(tmp_path / "other") == tree(tmp_path / "layout")
    mirror("copy", "all.tar", "./back")
    assert tree(tmp_path / "back") == tree(tmp_path / "layout")


@pytest.mark.slow
def test_copy_to_an_archive_writes_the_same_bytes_as_export(mirror: Mirror, source: str, tmp_path: Path) -> None:
    mirror("copy", f"docker://{source}", "oci:layout")
    mirror("copy", "oci:layout", "oci-archive:one.tar")
    mirror("export", "layout", "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


@pytest.mark.slow
def test_second_copy_transfers_no_blobs(
    mirror: Mirror, source: str, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    mirror("copy", f"docker://{source}", "oci:layout")
    registry.clear_log()
    again = mirror("copy", f"docker://{source}", "oci:layout", "--json").json
    assert (again["schema"], again["moved"]["blobs"], registry.blob_bytes_sent()) == ("mirror.copy/1", 0, 0)


# Selected platforms and images


@pytest.mark.slow
def test_one_platform_is_copied_as_a_single_image(mirror: Mirror, source: str, tmp_path: Path) -> None:
    mirror("copy", f"docker://{source}", "oci:layout", "--platform", "linux/arm64")
    assert root_of(tmp_path / "layout") == ARM.root
    assert blobs(tmp_path / "layout") == everything(ARM)


@pytest.mark.slow
def test_several_platforms_are_copied_into_an_archive(mirror: Mirror, source: str, tmp_path: Path) -> None:
    mirror("copy", f"docker://{source}", "oci-archive:some.tar", "--platform", "linux/arm64,linux/amd64")
    mirror("copy", "some.tar", "oci:layout")
    assert everything(MULTI) <= blobs(tmp_path / "layout")


@pytest.mark.slow
def test_copy_of_a_sparse_image_refuses_an_absent_platform(mirror: Mirror, source: str, tmp_path: Path) -> None:
    mirror("pull", source, "--platform", "linux/arm64", "--sparse", "-o", "sparse")
    result = mirror("copy", "oci:sparse", "oci:other", "--platform", "linux/amd64", code=2)
    assert "has no image for linux/amd64" in result.err
    assert "It has: linux/arm64." in result.err
    mirror("copy", "oci:sparse", "oci:other")
    assert tree(tmp_path / "other") == tree(tmp_path / "sparse")
    mirror("verify", "other")


@pytest.mark.slow
def test_docker_archive_has_one_platform_and_the_full_name(mirror: Mirror, source: str, tmp_path: Path) -> None:
    target = "docker-archive:docker.tar:app:v3"
    mirror("copy", f"docker://{source}", target, "--platform", "linux/arm64")
    [image] = json.loads(unpacked((tmp_path / "docker.tar").read_bytes())["manifest.json"])
    assert image["RepoTags"] == ["docker.io/library/app:v3"]
    assert image["Config"] == f"blobs/{next(iter(ARM.blobs)).replace(':', '/')}"


def test_docker_archive_of_several_platforms_is_refused(mirror: Mirror, source: str, tmp_path: Path) -> None:
    result = mirror(
        "copy", f"docker://{source}", "docker-archive:x.tar", "--platform", "linux/arm64,linux/amd64", code=2
    )
    assert "one platform" in result.err
    assert not (tmp_path / "x.tar").exists()


def test_docker_archive_is_copied_to_a_registry(mirror: Mirror, other: EmbeddedRegistry, tmp_path: Path) -> None:
    saved = Saved(20, "busybox:1.36")
    (tmp_path / "saved.tar").write_bytes(docker_old(saved))
    [line] = mirror("copy", "docker-archive:saved.tar:busybox:1.36", f"docker://{other.host}/busybox:1.36").lines
    assert other.tags("busybox") == {"1.36": line.rpartition("@")[2]}


@pytest.mark.slow
def test_image_can_be_selected_by_number(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    for repo, image in (("a", AMD64), ("b", ARM)):
        image.publish(registry, repo, "v1")
        mirror("copy", f"docker://{registry.host}/{repo}:v1", "oci:layout")
    mirror("copy", "oci:layout:@1", "oci:second")
    assert root_of(tmp_path / "second") == ARM.root
    assert "has no image @2" in mirror("copy", "oci:layout:@2", "oci:third", code=2).err


# Names


@pytest.mark.slow
def test_tag_in_the_target_keeps_the_repository_and_a_full_name_does_not(
    mirror: Mirror, source: str, tmp_path: Path
) -> None:
    mirror("copy", f"docker://{source}", "oci:layout:stable")
    mirror("copy", f"docker://{source}", "oci:layout:quay.io/other/app:v9")
    mirror("copy", f"docker://{source}", "oci:layout", "--as", "quay.io/third/app:v7")
    assert sorted(names(tmp_path / "layout")) == [
        f"{source[:-3]}:stable",
        "quay.io/other/app:v9",
        "quay.io/third/app:v7",
    ]


@pytest.mark.slow
def test_image_without_a_repository_is_named_by_its_tag(mirror: Mirror, tmp_path: Path) -> None:
    files = {**AMD64.blobs, **{digest: data for digest, (data, _) in AMD64.manifests.items()}}
    for digest, data in files.items():
        path = blob_path(tmp_path / "theirs", digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "theirs/oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = {**named(AMD64, "x/y:z"), "annotations": {REF_NAME: "latest"}}
    (tmp_path / "theirs/index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    mirror("copy", "oci:theirs:latest", "oci:ours:v2")
    [annotations] = [entry["annotations"] for entry in entries(tmp_path / "ours")]
    assert (annotations[REF_NAME], IMAGE_NAME in annotations) == ("v2", False)
    assert "does not record the repository" in mirror("copy", "oci:theirs", "docker-archive:d.tar", code=2).err
    mirror("copy", "oci:theirs", "docker-archive:d.tar:app:v1")


@pytest.mark.slow
def test_several_images_cannot_have_one_name(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    for repo in ("a", "b"):
        AMD64.publish(registry, repo, "v1")
        mirror("copy", f"docker://{registry.host}/{repo}:v1", "oci:layout")
    for target in ("oci:other:v1", "oci-archive:x.tar:v1", f"docker://{registry.host}/c:v1"):
        result = mirror("copy", "oci:layout", target, code=2)
        assert "contains 2 images, but" in result.err
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "x.tar").exists()


MISTAKES: dict[str, tuple[list[str], str]] = {
    "two names": (["oci:layout", "oci:x:v1", "--as", "a/b:v1"], "so does --as"),
    "a name for a registry": (["oci:layout", "docker://localhost:1/a", "--as", "a/b"], "so does --as"),
    "hard links from an archive": (["a.tar", "oci:x", "--hard-links"], "from layout to layout"),
    "a number as a name": (["oci:layout", "oci:x:@1"], "not a valid name for an image"),
    "an ambiguous target": (["oci:layout", "redis"], "could be a directory, or an image of Docker Hub"),
    "a missing layout": (["oci:nothing", "oci:x"], "There is no directory 'nothing'"),
    "a missing archive": (["oci-archive:nothing.tar", "oci:x"], "There is no file 'nothing.tar'"),
    "an unsupported location": (["docker-daemon:redis:4.0", "oci:x"], "does not support"),
    "all and some platforms": (["a", "b", "--all", "--platform", "linux/amd64"], "cannot be combined"),
    "an invalid platform": (["oci:layout", "oci:x", "--platform", "amd64"], "platform"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_invalid_arguments_are_usage_errors(mirror: Mirror, tmp_path: Path, mistake: str) -> None:
    args, words = MISTAKES[mistake]
    assert words in mirror("copy", *args, code=2).err
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_guessed_location_types_are_reported(mirror: Mirror, source: str) -> None:
    result = mirror("copy", source, "./layout")
    assert f"note: taken as an image of a registry: docker://{source}\n" in result.err
    assert "note: taken as a layout: oci:./layout\n" in result.err
    assert mirror("copy", source, "./layout", "-q").err == ""
    assert "taken as" not in mirror("copy", f"docker://{source}", "oci:layout").err


@pytest.mark.slow
def test_digest_of_the_target_must_match_the_image(mirror: Mirror, source: str, other: EmbeddedRegistry) -> None:
    result = mirror("copy", f"docker://{source}", f"docker://{other.host}/a@{ARM.root}", code=2)
    assert "cannot become" in result.err
    mirror("copy", f"docker://{source}", f"docker://{other.host}/a@{MULTI.root}")
    assert (held(other, "a"), other.tags("a")) == (everything(MULTI), {})


# Pipes


def shell(mirror: Mirror, command: str) -> Result:
    whole = shlex.join(mirror.command())
    result = mirror.run(["bash", "-o", "pipefail", "-c", command.replace("mirror ", whole + " ")])
    assert result.code == 0, result
    check_manners(result)
    return result


@pytest.mark.slow
def test_archive_is_copied_through_a_pipe(mirror: Mirror, source: str, other: EmbeddedRegistry) -> None:
    shell(mirror, f"mirror copy docker://{source} oci-archive:- | mirror copy - docker://{other.host}/team/app:v1")
    assert held(other) == everything(MULTI)


def test_json_and_an_archive_cannot_both_go_to_stdout(mirror: Mirror, source: str) -> None:
    assert "cannot both" in mirror("copy", f"docker://{source}", "oci-archive:-", "--json", code=2).err


# Registries


def test_copy_within_a_registry_mounts_blobs(mirror: Mirror, source: str, registry: EmbeddedRegistry) -> None:
    registry.clear_log()
    mirror("copy", f"docker://{source}", f"docker://{registry.host}/hub/app:v1")
    assert held(registry, "hub/app") == everything(MULTI)
    assert registry.blob_bytes_sent() == 0
    assert registry.count("PUT", "/blobs/uploads/") == 0


@pytest.mark.slow
def test_copy_fails_if_the_tag_reads_back_as_another_manifest(
    mirror: Mirror, source: str, other: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.retry.READ_BACK_DELAYS", ())
    ARM.publish(other, "team/app", "v1")
    other.fault(Fault(method="PUT", path="/manifests/v1$", times=None, action=Status(201)))
    result = mirror("copy", f"docker://{source}", f"docker://{other.host}/team/app:v1", code=1)
    assert f"could not be confirmed: the registry shows {ARM.root}." in result.err


# Cut connections, corrupt blobs and dry runs


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 30_000, 59_999])
def test_copy_to_an_archive_resumes_a_cut_download(
    mirror: Mirror, source: str, registry: EmbeddedRegistry, tmp_path: Path, after: int
) -> None:
    mirror("copy", f"docker://{source}", "oci-archive:clean.tar")
    registry.fault(Fault(path=LARGEST, times=1, action=Cut(after=after)))
    mirror("copy", f"docker://{source}", "oci-archive:cut.tar")
    assert (tmp_path / "cut.tar").read_bytes() == (tmp_path / "clean.tar").read_bytes()
    ranges = [seen.headers.get("range") for seen in registry.requests if LARGEST in seen.path and seen.method == "GET"]
    assert ranges[-1] == (f"bytes={after}-" if after else None)


def test_corrupt_blob_of_a_registry_leaves_no_archive(
    mirror: Mirror, source: str, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    registry.replace_blob(LARGEST, b"x" * 60_000)
    assert "does not match its digest" in mirror("copy", f"docker://{source}", "oci-archive:x.tar", code=3).err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.slow
def test_corrupt_blob_of_a_layout_is_not_pushed(
    mirror: Mirror, source: str, other: EmbeddedRegistry, tmp_path: Path
) -> None:
    mirror("copy", f"docker://{source}", "oci:layout")
    blob_path(tmp_path / "layout", LARGEST).write_bytes(b"x" * 60_000)
    result = mirror("copy", "oci:layout", f"docker://{other.host}/team/app:v1", code=3)
    assert "hint: Repair it from a good copy: mirror verify layout --repair --from SOURCE\n" in result.err
    assert other.tags("team/app") == {}
    assert LARGEST not in held(other)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["oci:new", "oci-archive:new.tar", "docker-archive:new.tar", "registry", "oci:old"])
def test_a_dry_run_writes_nothing(
    mirror: Mirror, source: str, other: EmbeddedRegistry, tmp_path: Path, target: str
) -> None:
    mirror("copy", f"docker://{source}", "oci:old", "--platform", "linux/arm64")
    before = tree(tmp_path)
    where = f"docker://{other.host}/team/app:v1" if target == "registry" else target
    result = mirror("copy", f"docker://{source}", where, "--dry-run", "--json").json
    assert result["dryRun"]
    assert result["reused"]["blobs"] == (len(ARM.blobs) if target == "oci:old" else 0)
    assert tree(tmp_path) == before
    assert other.count("P(OST|UT|ATCH)") == 0


# Between layouts on one disk


@pytest.fixture
def layout(mirror: Mirror, source: str, tmp_path: Path) -> Path:
    mirror("copy", f"docker://{source}", "oci:layout")
    return tmp_path / "layout"


def inodes(layout: Path) -> dict[str, int]:
    return {digest: os.stat(blob_path(layout, digest)).st_ino for digest in blobs(layout)}


@pytest.mark.slow
def test_layouts_share_no_files_by_default(mirror: Mirror, layout: Path, tmp_path: Path) -> None:
    mirror("copy", "oci:layout", "oci:other")
    assert not set(inodes(layout).values()) & set(inodes(tmp_path / "other").values())


@pytest.mark.slow
def test_hard_links_share_the_files_of_blobs(mirror: Mirror, layout: Path, tmp_path: Path) -> None:
    stats = {digest: os.stat(blob_path(layout, digest)).st_mtime_ns for digest in blobs(layout)}
    mirror("copy", "oci:layout", "oci:other", "--hard-links")
    assert_whole(tmp_path / "other")
    mine, theirs = inodes(layout), inodes(tmp_path / "other")
    assert {digest for digest in mine if mine[digest] == theirs[digest]} == MULTI.blobs.keys()
    assert {digest: os.stat(blob_path(layout, digest)).st_mtime_ns for digest in blobs(layout)} == stats
    assert tree(tmp_path / "other") == tree(layout)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "short": lambda data: data[:-1],
    "long": lambda data: data + b"x",
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_corrupt_blob_is_not_linked(mirror: Mirror, layout: Path, tmp_path: Path, damage: str) -> None:
    path = blob_path(layout, LARGEST)
    bad = DAMAGE[damage](path.read_bytes())
    path.write_bytes(bad)
    mirror("copy", "oci:layout", "oci:other", "--hard-links", code=3)
    assert LARGEST not in blobs(tmp_path / "other")
    assert entries(tmp_path / "other") == []
    assert path.read_bytes() == bad
    assert os.stat(path).st_nlink == 1


@pytest.mark.slow
def test_repair_of_a_linked_blob_leaves_the_other_layout_unchanged(
    mirror: Mirror, layout: Path, source: str, tmp_path: Path
) -> None:
    mirror("copy", "oci:layout", "oci:other", "--hard-links")
    blob_path(layout, LARGEST).write_bytes(b"in place")
    mirror("verify", "other", code=3)
    mirror("pull", source, "--all", "-o", "other")
    mirror("verify", "other")
    assert blob_path(layout, LARGEST).read_bytes() == b"in place"


# Referrers

SIGNATURE = images.artifact("a/signature", images.Blob.of(b"signed", "x/y"), subject=AMD64.subject())
COSIGNED = images.artifact("c/d", images.Blob.of(b"cosigned", "x/y"))


@pytest.fixture
def signed() -> Iterator[EmbeddedRegistry]:
    """Run a registry with an image that has two signatures."""
    with serving(EmbeddedRegistry(referrers=True)) as running:
        MULTI.publish(running, "team/app", "v1")
        SIGNATURE.publish(running, "team/app", None)
        COSIGNED.publish(running, "team/app", images.cosign_tag(MULTI, "sig"))
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize(
    "stops", [["oci:one", "oci:two:v7", "two.tar"], [], ["oci:one:v1"], ["oci-archive:one.tar:v1"]]
)
def test_referrers_are_copied_with_their_image(
    mirror: Mirror, signed: EmbeddedRegistry, api: bool, stops: list[str]
) -> None:
    with serving(EmbeddedRegistry(referrers=api)) as end:
        way = [f"docker://{signed.host}/team/app:v1", *stops, f"docker://{end.host}/hub/app:v1"]
        for start, stop in pairwise(way):
            result = mirror("copy", start, stop, "--json").json
            assert [image["referrers"]["count"] for image in result["images"]] == [2]
        assert everything(MULTI) | everything(SIGNATURE) | everything(COSIGNED) <= held(end, "hub/app")
        assert end.tags("hub/app")[images.cosign_tag(MULTI, "sig")] == COSIGNED.root
        assert (AMD64.root.replace(":", "-") in end.tags("hub/app")) is not api


@pytest.mark.slow
def test_referrers_are_renamed_with_their_image(mirror: Mirror, signed: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("copy", f"docker://{signed.host}/team/app:v1", "oci:layout", "--as", "quay.io/other/app:v2")
    assert sorted(names(tmp_path / "layout")) == [
        f"quay.io/other/app:{AMD64.root.replace(':', '-')}",
        f"quay.io/other/app:{images.cosign_tag(MULTI, 'sig')}",
        "quay.io/other/app:v2",
    ]
    assert len(mirror("copy", "oci:layout", "oci:again").lines) == 1
    assert tree(tmp_path / "again") == tree(tmp_path / "layout")
    mirror("verify", "again")


@pytest.mark.slow
def test_no_referrers_copies_the_image_alone(mirror: Mirror, signed: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("copy", f"docker://{signed.host}/team/app:v1", "oci:layout", "--no-referrers")
    assert blobs(tmp_path / "layout") == everything(MULTI)


@pytest.mark.slow
def test_image_is_copied_without_an_incomplete_referrer(
    mirror: Mirror, signed: EmbeddedRegistry, tmp_path: Path
) -> None:
    signed.remove_blob("team/app", images.digest_of(b"signed"))
    for target in ("oci:layout", "oci-archive:x.tar"):
        result = mirror("copy", f"docker://{signed.host}/team/app:v1", target, code=4)
        assert "is complete, but may lack referrers" in result.err
    mirror("import", "x.tar", "back")
    for folder in ("layout", "back"):
        assert everything(MULTI) <= blobs(tmp_path / folder)
