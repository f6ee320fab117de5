"""Tests of `mirror pull`: its output, its requests and the layout that it writes."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import (
    Mirror,
    assert_whole,
    blob_path,
    blobs,
    entries,
    leftovers,
    names,
    tree,
)
from tests.support.registry import Cut, EmbeddedRegistry, Fault, Status, serving

SHARED = images.layer(1, 5000)
FIRST = images.image("linux/amd64", SHARED, images.layer(2, 300))
SECOND = images.image("linux/amd64", images.layer(3, 200), SHARED)
MULTI = images.multi_arch()
LAYER = SHARED.digest


@pytest.fixture(scope="module")
def shop() -> Iterator[EmbeddedRegistry]:
    """A registry whose images no test changes; tests clear its log."""
    with serving(EmbeddedRegistry()) as registry:
        FIRST.publish(registry, "first", "v1")
        SECOND.publish(registry, "second", "v1")
        MULTI.publish(registry, "multi", "v1")
        yield registry


@pytest.fixture
def first(shop: EmbeddedRegistry) -> str:
    shop.clear_log()
    return f"{shop.host}/first:v1"


@pytest.fixture
def second(shop: EmbeddedRegistry) -> str:
    return f"{shop.host}/second:v1"


@pytest.mark.parametrize("flags", [("--all",), ("--platform", "linux/amd64")])
def test_pull_of_what_is_there_sends_one_head_request_for_each_image(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, second: str, flags: tuple[str, ...]
) -> None:
    pull = ("pull", first, second, "--no-referrers", *flags)
    mirror(*pull)
    shop.clear_log()
    mirror(*pull)
    assert [(seen.method, seen.path) for seen in shop.requests] == [
        ("HEAD", "/v2/first/manifests/v1"),
        ("HEAD", "/v2/second/manifests/v1"),
    ]


# Output


@pytest.mark.slow
def test_stdout_has_one_line_per_image(mirror: Mirror, first: str, second: str) -> None:
    result = mirror("pull", second, first)
    assert result.lines == [f"{second}@{SECOND.root}", f"{first}@{FIRST.root}"]


@pytest.mark.slow
def test_summary_counts_images_platforms_and_blobs(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    summary = mirror("pull", f"{shop.host}/multi:v1", "--all").err
    size = sum(map(len, MULTI.blobs.values())) / 1000
    assert f"1 image, 2 platforms: {len(MULTI.blobs)} blobs ({size:.1f} kB) moved" in summary


def test_quiet_prints_only_results(mirror: Mirror, first: str) -> None:
    result = mirror("pull", first, "-q")
    assert (result.lines, result.err) == ([f"{first}@{FIRST.root}"], "")


def test_quiet_still_reports_errors(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert "no image" in mirror("pull", f"{shop.host}/first:v9", "-q", code=2).err


@pytest.mark.slow
def test_stdout_is_one_json_document(mirror: Mirror, first: str, second: str) -> None:
    document = mirror("pull", first, second, "--json").json
    assert document["schema"] == "mirror.pull/1"
    assert [image["image"] for image in document["images"]] == [f"{first}@{FIRST.root}", f"{second}@{SECOND.root}"]
    assert [image["error"] for image in document["images"]] == [None, None]
    everything = {**FIRST.blobs, **SECOND.blobs}
    assert document["moved"] == {"blobs": len(everything), "size": sum(map(len, everything.values()))}
    assert document["reused"] == {"blobs": 0, "size": 0}
    assert document["dryRun"] is False


@pytest.mark.slow
def test_verbose_reports_retries(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    FIRST.publish(registry, "a", "v1")
    registry.fault(Fault(path=LAYER, action=Status(503)))
    assert "503" in mirror("pull", f"{registry.host}/a:v1", "-v").err


@pytest.mark.slow
def test_digestfile_contains_the_digests(mirror: Mirror, first: str, second: str, tmp_path: Path) -> None:
    mirror("pull", first, second, "--digestfile", "digests")
    assert (tmp_path / "digests").read_text() == f"{FIRST.root}\n{SECOND.root}\n"


def test_digestfile_that_cannot_be_written_is_an_error(mirror: Mirror, first: str) -> None:
    assert "nowhere" in mirror("pull", first, "--digestfile", "nowhere/digests", code=1).err


def test_failed_pull_writes_no_digestfile(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/first:v9", "--digestfile", "digests", code=2)
    assert not (tmp_path / "digests").exists()


# Requests


def test_every_blob_is_fetched_once(mirror: Mirror, shop: EmbeddedRegistry, first: str, second: str) -> None:
    mirror("pull", first, second)
    asked = [seen.path.rpartition("/")[2] for seen in shop.requests if "/blobs/" in seen.path]
    assert sorted(asked) == sorted({**FIRST.blobs, **SECOND.blobs})


def test_manifests_are_fetched_once(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.clear_log()
    mirror("pull", f"{shop.host}/multi:v1", "--all")
    assert shop.count("GET", "/manifests/") == len(MULTI.manifests)


@pytest.mark.slow
def test_second_pull_fetches_no_blobs(mirror: Mirror, shop: EmbeddedRegistry, first: str, layout: Path) -> None:
    mirror("pull", first)
    before = tree(layout)
    shop.clear_log()
    result = mirror("pull", first, "--json").json
    assert shop.count("GET", "/blobs/") == 0
    assert result["reused"] == {"blobs": len(FIRST.blobs), "size": sum(map(len, FIRST.blobs.values()))}
    assert tree(layout) == before


@pytest.mark.slow
def test_second_pull_does_not_rewrite_blobs(mirror: Mirror, first: str, layout: Path) -> None:
    mirror("pull", first)
    before = {digest: blob_path(layout, digest).stat() for digest in blobs(layout)}
    mirror("pull", first)
    assert {digest: blob_path(layout, digest).stat().st_ino for digest in blobs(layout)} == {
        digest: status.st_ino for digest, status in before.items()
    }


def test_blobs_of_another_image_are_reused(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, second: str, layout: Path
) -> None:
    mirror("pull", first)
    shop.clear_log()
    mirror("pull", second)
    assert shop.count("GET", f"/blobs/{LAYER}") == 0
    assert names(layout) == [first, second]


def test_missing_image_stops_the_pull_before_any_layer_is_fetched(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, layout: Path
) -> None:
    result = mirror("pull", first, f"{shop.host}/nothing:v1", f"{shop.host}/multi:v1", code=2)
    assert result.out == ""
    assert shop.count("GET", "/blobs/") <= 1  # a config may be read for its platform, and no layer
    assert shop.count("GET", f"/blobs/{LAYER}") == 0
    assert not layout.exists()


def test_keep_going_pulls_the_remaining_images(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, layout: Path
) -> None:
    missing = f"{shop.host}/nothing:v1"
    result = mirror("pull", missing, first, "--keep-going", "--digestfile", "digests", code=4)
    assert result.lines == [f"{first}@{FIRST.root}"]
    assert result.err.startswith(f"error: There is no image {missing}.\n")
    assert names(layout) == [first]
    assert (layout.parent / "digests").read_text() == f"{FIRST.root}\n"
    assert_whole(layout)


def test_keep_going_reports_errors_in_json(mirror: Mirror, shop: EmbeddedRegistry, first: str) -> None:
    document = mirror("pull", f"{shop.host}/nothing:v1", first, "--keep-going", "--json", code=4).json
    assert "no image" in document["images"][0]["error"]
    assert document["images"][1]["error"] is None


@pytest.mark.parametrize("others", [[], ["nothing:v2"]])
def test_keep_going_returns_the_error_code_if_all_images_fail(
    mirror: Mirror, shop: EmbeddedRegistry, layout: Path, others: list[str]
) -> None:
    missing = [f"{shop.host}/{name}" for name in ["nothing:v1", *others]]
    result = mirror("pull", *missing, "--keep-going", code=2)
    assert result.out == ""
    assert all(name in result.err for name in missing)


def test_keep_going_continues_after_a_corrupt_blob(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    FIRST.publish(registry, "first", "v1")
    MULTI.publish(registry, "multi", "v1")
    registry.replace_blob(LAYER, SHARED.data[:-1] + b"?")
    first, multi = f"{registry.host}/first:v1", f"{registry.host}/multi:v1"
    result = mirror("pull", first, multi, "--all", "--keep-going", code=4)
    assert result.lines == [f"{multi}@{MULTI.root}"]
    assert names(layout) == [multi]
    assert_whole(layout)


def test_failed_image_is_not_added_to_the_index(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    FIRST.publish(registry, "first", "v1")
    registry.remove_blob("first", LAYER)
    mirror("pull", f"{registry.host}/first:v1", code=1)
    assert names(layout) == []
    assert_whole(layout)


# A dry run


def test_dry_run_reports_the_blobs_to_fetch(mirror: Mirror, shop: EmbeddedRegistry, layout: Path) -> None:
    shop.clear_log()
    result = mirror("pull", f"{shop.host}/multi:v1", "--all", "--dry-run")
    assert result.lines == [f"{shop.host}/multi:v1@{MULTI.root}"]
    assert f"2 platforms: {len(MULTI.blobs)} blobs" in result.err
    assert not layout.exists()
    assert shop.count("GET", "/blobs/") == 0


@pytest.mark.slow
def test_dry_run_reports_stored_blobs_as_reused(mirror: Mirror, first: str, second: str, layout: Path) -> None:
    mirror("pull", first)
    before = tree(layout), os.stat(layout).st_mtime_ns
    document = mirror("pull", second, "--dry-run", "--json").json
    assert document["dryRun"] is True
    assert document["reused"] == {"blobs": 1, "size": SHARED.size}
    assert document["moved"]["blobs"] == 2
    assert (tree(layout), os.stat(layout).st_mtime_ns) == before


@pytest.mark.slow
def test_dry_run_detects_a_corrupt_stored_blob(mirror: Mirror, first: str, layout: Path) -> None:
    mirror("pull", first)
    blob_path(layout, LAYER).write_bytes(bytes(SHARED.size))
    assert mirror("pull", first, "--dry-run", "--json").json["moved"] == {"blobs": 1, "size": SHARED.size}


def test_dry_run_writes_no_digestfile(mirror: Mirror, first: str, tmp_path: Path) -> None:
    mirror("pull", first, "--dry-run", "--digestfile", "digests")
    assert not (tmp_path / "digests").exists()


@pytest.mark.slow
def test_dry_run_reports_the_needed_and_the_free_disk_space(mirror: Mirror, first: str, second: str) -> None:
    document = mirror("pull", first, "--dry-run", "--json", plan="free:123456").json
    assert document["disk"] == {"path": "layout", "needed": document["moved"]["size"], "free": 123456}
    needed = SHARED.size + sum(images.layer(seed, size).size for seed, size in ((2, 200), (3, 300)))
    result = mirror("pull", first, second, "--dry-run", plan="free:2000", code=1)
    assert "needed, 2.0 kB free in layout." in result.err
    assert "error: layout has 2.0 kB free, but" in result.err
    assert mirror("pull", first, second, "--dry-run", "--json").json["disk"]["needed"] > needed
    assert mirror("pull", first, "--json").json["disk"] is None


@pytest.mark.slow
def test_dry_run_counts_only_bytes_that_are_missing(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    FIRST.publish(registry, "a", "v1")
    first = f"{registry.host}/a:v1"
    whole = mirror("pull", first, "--dry-run", "--json").json["disk"]["needed"]
    registry.fault(Fault(path=f"/blobs/{LAYER}", times=None, action=Cut(after=1000)))
    mirror("pull", first, "--retries", "0", "-j", "1", code=1)
    assert mirror("pull", first, "--dry-run", "--json").json["disk"]["needed"] == whole - 1000
    (partial,) = tmp_path.glob("layout/.mirror/partial/*")
    partial.write_bytes(b"")
    os.truncate(partial, 4000)  # one hole
    partial.with_name(f"{partial.name}.ranges").write_bytes(b"a journal")
    assert mirror("pull", first, "--dry-run", "--json").json["disk"]["needed"] == whole


@pytest.mark.slow
def test_dry_run_over_many_images_names_the_changed_one(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    names = [f"{registry.host}/a:v{number}" for number in range(12)]
    for number in range(len(names)):
        FIRST.publish(registry, "a", f"v{number}")
    mirror("pull", *names)
    assert "stands for" not in mirror("pull", *names, "--dry-run").err
    SECOND.publish(registry, "a", "v10")
    result = mirror("pull", *names, "--dry-run", "--json")
    replaced = {image["source"]: image["replaced"] for image in result.json["images"]}
    assert replaced == dict.fromkeys(names, None) | {names[10]: FIRST.root}
    warnings = [line for line in result.err.splitlines() if "for sha256:" in line]
    assert len(warnings) == 1
    assert names[10] in warnings[0]
    assert SECOND.root in warnings[0]
    assert [image["replaced"] for image in mirror("pull", *names, "--json").json["images"] if image["replaced"]] == [
        FIRST.root
    ]


def test_dry_run_fails_as_the_pull_would(mirror: Mirror, first: str, layout: Path) -> None:
    layout.mkdir()
    (layout / "precious").touch()
    dry = mirror("pull", first, "--dry-run", code=2).err
    assert dry == mirror("pull", first, code=2).err
    assert [path.name for path in layout.iterdir()] == ["precious"]


# The output directory


@pytest.mark.slow
def test_output_is_created_with_its_parents(mirror: Mirror, first: str, tmp_path: Path) -> None:
    mirror("pull", first, "-o", "a/b/c")
    assert_whole(tmp_path / "a/b/c")


def test_environment_variable_sets_the_output_directory(mirror: Mirror, first: str, tmp_path: Path) -> None:
    mirror("pull", first, env={"MIRROR_OUTPUT": "elsewhere"})
    assert names(tmp_path / "elsewhere") == [first]


@pytest.mark.slow
def test_output_may_be_a_symlink_to_a_directory(mirror: Mirror, first: str, tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    (tmp_path / "layout").symlink_to("drive")
    mirror("pull", first)
    assert_whole(tmp_path / "drive")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lost+found", ".mirror"])
def test_output_that_contains_only_an_ignored_directory_is_accepted(
    mirror: Mirror, first: str, layout: Path, name: str
) -> None:
    (layout / name).mkdir(parents=True)
    mirror("pull", first)
    assert_whole(layout)


@pytest.mark.parametrize("name", ["notes.txt", "blobs.old", "index.html"])
def test_output_directory_with_other_files_is_refused(mirror: Mirror, first: str, layout: Path, name: str) -> None:
    layout.mkdir()
    (layout / name).write_text("precious")
    before = tree(layout)
    assert "not empty" in mirror("pull", first, code=2).err
    assert tree(layout) == before
    assert sorted(os.listdir(layout)) == [name]


def test_file_as_output_is_refused(mirror: Mirror, first: str, layout: Path) -> None:
    layout.write_text("precious")
    mirror("pull", first, code=2)
    assert layout.read_text() == "precious"


def test_dangling_symlink_as_output_is_refused(mirror: Mirror, first: str, layout: Path) -> None:
    layout.symlink_to("nowhere")
    mirror("pull", first, code=2)
    assert not layout.exists()


@pytest.mark.slow
def test_output_in_a_read_only_directory_is_an_error(mirror: Mirror, first: str, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert "Permission denied" in mirror("pull", first, "-o", "locked/layout", code=1, bound=True).err
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize("data", [b"", b"[]", b'{"imageLayoutVersion":"2.0.0"}', b"{}"])
def test_broken_layout_is_refused(mirror: Mirror, shop: EmbeddedRegistry, layout: Path, name: str, data: bytes) -> None:
    make_layout(layout)
    (layout / name).write_bytes(data)
    before = tree(layout)
    assert name in mirror("pull", f"{shop.host}/first:v1", code=3).err
    assert tree(layout) == before


def make_layout(layout: Path) -> None:
    """Write a layout with an image as another tool writes it."""
    for digest, data in {**SECOND.blobs, SECOND.root: SECOND.data}.items():
        path = blob_path(layout, digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    entry = {**SECOND.descriptor(), "annotations": {"org.opencontainers.image.ref.name": "other"}, "extra": [1]}
    index = {"schemaVersion": 2, "manifests": [entry], "unknown": {"kept": True}}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{ "imageLayoutVersion": "1.0.0" }\n')


@pytest.mark.parametrize("file", ["oci-layout", "index.json"])
def test_layout_that_lacks_a_file_is_refused(mirror: Mirror, first: str, layout: Path, file: str) -> None:
    make_layout(layout)
    (layout / file).unlink()
    before = tree(layout)
    assert file in mirror("pull", first, code=3).err
    assert tree(layout) == before


def test_layout_of_another_tool_keeps_its_images(mirror: Mirror, first: str, layout: Path) -> None:
    make_layout(layout)
    (layout / "README").write_text("ours")
    mirror("pull", first)
    other, ours = entries(layout)
    assert other["extra"] == [1]
    assert json.loads((layout / "index.json").read_bytes())["unknown"] == {"kept": True}
    assert ours["annotations"]["io.containerd.image.name"] == first
    assert (layout / "README").read_text() == "ours"
    assert (layout / "oci-layout").read_text() == '{ "imageLayoutVersion": "1.0.0" }\n'
    mirror("verify", "layout")


# Names of images


@pytest.mark.slow
def test_moved_tag_is_reported(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    name = f"{registry.host}/a:v1"
    FIRST.publish(registry, "a", "v1")
    mirror("pull", name)
    SECOND.publish(registry, "a", "v1")
    result = mirror("pull", name, "--json")
    assert result.json["images"][0]["replaced"] == FIRST.root
    assert FIRST.root in result.err
    assert SECOND.root in result.err
    assert [(entry["digest"], names(layout)) for entry in entries(layout)] == [(SECOND.root, [name])]
    mirror("verify", "layout")


@pytest.mark.slow
def test_unchanged_tag_is_not_reported(mirror: Mirror, first: str) -> None:
    mirror("pull", first)
    assert "moved:" not in mirror("pull", first).err


@pytest.mark.slow
def test_same_tag_of_two_repositories_has_two_ref_names(mirror: Mirror, first: str, second: str, layout: Path) -> None:
    mirror("pull", first, second)
    ref_names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries(layout)]
    assert ref_names == ["v1", second]


@pytest.mark.slow
def test_tag_that_is_not_a_valid_ref_name_gets_no_ref_name_annotation(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    FIRST.publish(registry, "a", "v1__2")
    mirror("pull", f"{registry.host}/a:v1__2")
    assert "org.opencontainers.image.ref.name" not in entries(layout)[0]["annotations"]
    assert names(layout) == [f"{registry.host}/a:v1__2"]
    mirror("rm", "layout", f"{registry.host}/a:v1__2")


@pytest.mark.slow
def test_one_pull_of_two_images_gives_the_same_layout_as_two_pulls(mirror: Mirror, first: str, second: str) -> None:
    mirror("pull", first, "-o", "one")
    mirror("pull", second, "-o", "one")
    mirror("pull", first, second, "-o", "two")
    assert tree(mirror.folder / "one") == tree(mirror.folder / "two")


@pytest.mark.slow
def test_tag_and_digest_of_one_image_are_two_entries(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, layout: Path
) -> None:
    pinned = f"{shop.host}/first@{FIRST.root}"
    mirror("pull", first, pinned)
    assert sorted(names(layout)) == sorted([first, pinned])


def test_two_digests_under_one_name_are_refused(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    for image in (FIRST, SECOND):
        image.publish(registry, "a", "v1")
    name = f"{registry.host}/a:v1"
    result = mirror("pull", f"{name}@{FIRST.root}", f"{name}@{SECOND.root}", "--all", code=2)
    assert name in result.err
    assert not layout.exists()


# Damaged layouts


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, append, flip, Path.unlink])
def test_damaged_blob_is_fetched_again_and_reported(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, layout: Path, damage: object
) -> None:
    mirror("pull", first)
    before = tree(layout)
    assert callable(damage)
    damage(blob_path(layout, LAYER))
    shop.clear_log()
    result = mirror("pull", first, "--all", "--json")
    assert result.json["healed"] == [LAYER]
    assert "(1 healed)" in result.err
    assert [seen.path for seen in shop.requests if "/blobs/" in seen.path] == [f"/v2/first/blobs/{LAYER}"]
    assert tree(layout) == before


@pytest.mark.slow
@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_damaged_manifest_is_written_again(mirror: Mirror, first: str, layout: Path, damage: object) -> None:
    mirror("pull", first)
    before = tree(layout)
    assert callable(damage)
    damage(blob_path(layout, FIRST.root))
    mirror("pull", first)
    assert tree(layout) == before


def directory(path: Path) -> None:
    path.mkdir()
    (path / "precious").write_text("kept")


def link(path: Path) -> None:
    path.symlink_to(path.parents[3] / "outside")


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def bound_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 characters
    try:
        socket.socket(socket.AF_UNIX).bind(path.name[:8])
    finally:
        os.chdir(here)
    (path.parent / path.name[:8]).rename(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "plant"),
    [
        (LAYER, directory),
        (LAYER, link),
        (LAYER, dangling_link),
        (LAYER, os.mkfifo),
        (LAYER, bound_socket),
        (FIRST.root, directory),
        (FIRST.root, link),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed")
def test_blob_path_that_is_not_a_regular_file_is_moved_aside(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, layout: Path, node: str, plant: object
) -> None:
    mirror("pull", first)
    before = tree(layout)
    (layout.parent / "outside").write_text("precious")
    blob_path(layout, node).unlink()
    assert callable(plant)
    plant(blob_path(layout, node))
    kind = os.lstat(blob_path(layout, node)).st_mode
    result = mirror("pull", first, "--json")
    (aside,) = map(Path, result.json["movedAside"])
    assert str(aside) in result.err
    moved = layout.parent / aside
    assert os.lstat(moved).st_mode == kind
    assert (layout.parent / "outside").read_text() == "precious"
    now = tree(layout)
    assert {path: now[path] for path in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blobs/sha256", "blobs", ".mirror", ".mirror/tmp", "index.json", "oci-layout"])
def test_link_inside_a_layout_is_not_followed(mirror: Mirror, first: str, second: str, layout: Path, name: str) -> None:
    mirror("pull", first)
    outside = layout.parent / "outside"
    (layout / name).rename(outside)
    (layout / name).symlink_to(outside)
    before = tree(outside) if outside.is_dir() else outside.read_bytes()
    mirror("pull", second, code=3)
    assert (tree(outside) if outside.is_dir() else outside.read_bytes()) == before


@pytest.mark.slow
def test_temporary_files_of_a_killed_pull_are_removed(mirror: Mirror, first: str, layout: Path) -> None:
    mirror("pull", first)
    (layout / ".mirror/tmp/0123456789abcdef").write_text("half a blob")
    mirror("pull", first)
    assert leftovers(layout) == []


@pytest.mark.slow
def test_full_disk_is_detected_before_layers_are_fetched(mirror: Mirror, shop: EmbeddedRegistry, first: str) -> None:
    result = mirror("pull", first, plan="free:100", code=1)
    assert "100 B free" in result.err
    assert "hint: Free some space, choose fewer images or platforms, or choose another place." in result.err
    assert shop.count("GET", f"/blobs/{LAYER}") == 0


@pytest.mark.slow
def test_full_disk_does_not_matter_if_no_blob_is_missing(
    mirror: Mirror, shop: EmbeddedRegistry, first: str, layout: Path
) -> None:
    mirror("pull", first)
    before = tree(layout)
    shop.clear_log()
    assert mirror("pull", first, plan="free:0").lines == [f"{first}@{FIRST.root}"]
    assert shop.count("GET", "/blobs/") == 0
    assert tree(layout) == before


@pytest.mark.slow
def test_file_that_is_too_large_for_the_file_system_is_an_error(mirror: Mirror, first: str, layout: Path) -> None:
    command = ["prlimit", "--fsize=4000", *mirror.command("pull", first)]
    done = mirror.run(command, env={"PYTHONDONTWRITEBYTECODE": "1"})  # or Python leaves cut files behind
    assert done.code == 1
    assert "File too large" in done.err
    assert_whole(layout)
