"""Tests of receipts: a push reads all content back, and verify compares the registry with the receipt."""

import json
import os
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror import __version__
from tests.support import images
from tests.support.command import Json, Mirror, blob_path, tree
from tests.support.registry import Cut, EmbeddedRegistry, Fault, Flip, Redirect, Status, serving

SHARED = images.layer(1, 3000)
FIRST = images.index([images.image("linux/amd64", SHARED), images.image("linux/arm64", images.layer(2, 300), SHARED)])
SECOND = images.image("linux/amd64", images.layer(3, 200, docker=True), SHARED, docker=True)


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with first:v1 and second:v2."""
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        FIRST.publish(registry, "first", "v1")
        SECOND.publish(registry, "second", "v2")
        Mirror(folder)("pull", f"{registry.host}/first:v1", f"{registry.host}/second:v2", "--all")
    return folder / "layout"


@pytest.fixture
def pushed(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> EmbeddedRegistry:
    """A registry with both images; `receipt.json` lists them."""
    mirror("push", stock, registry.host, "--receipt", "receipt.json")
    registry.clear_log()
    return registry


def read(mirror: Mirror, name: str = "receipt.json") -> Json:
    found: Json = json.loads((mirror.folder / name).read_bytes())
    return found


# Content of a receipt


@pytest.mark.slow
def test_receipt_lists_all_content_with_media_type_digest_and_size(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    for image, published in zip(read(mirror)["images"], (FIRST, SECOND), strict=True):
        assert image["digest"] == published.root
        assert image["image"] == f"{pushed.host}/{image['repository']}:{image['tag']}@{published.root}"
        assert image["error"] is None
        whole = {digest: (kind, len(data)) for digest, (data, kind) in published.manifests.items()}
        found = {piece["digest"]: (piece["mediaType"], piece["size"]) for piece in image["content"]}
        assert whole.items() <= found.items()
        assert found.keys() == {*published.manifests, *published.blobs}
        assert {digest: found[digest][1] for digest in published.blobs} == {
            digest: len(data) for digest, data in published.blobs.items()
        }


@pytest.mark.slow
def test_receipt_has_the_kind_of_each_blob_and_manifest(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    kinds = {piece["digest"]: piece["kind"] for piece in read(mirror)["images"][0]["content"]}
    assert kinds[FIRST.root] == "index"
    assert kinds[SHARED.digest] == "layer"
    assert sorted(kinds.values()).count("config") == sorted(kinds.values()).count("manifest") == 2


@pytest.mark.slow
def test_receipt_has_the_times_and_the_version_of_the_tool(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    receipt = read(mirror)
    assert receipt["schema"] == "mirror.receipt/1"
    assert receipt["tool"] == {"name": "oci-mirror", "version": __version__}
    times = [receipt["started"], receipt["finished"]]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) for time in times)
    started, finished = (datetime.fromisoformat(time) for time in times)
    assert timedelta() <= finished - started < timedelta(minutes=2)


@pytest.mark.slow
def test_push_with_receipt_reads_all_content_back_once(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    mirror("push", stock, registry.host, "--receipt", "receipt.json")
    gets = [seen.path for seen in registry.requests if seen.method == "GET"]
    for repo, image in (("first", FIRST), ("second", SECOND)):
        assert {f"/v2/{repo}/blobs/{digest}" for digest in image.blobs} <= set(gets)
        assert {f"/v2/{repo}/manifests/{digest}" for digest in image.manifests} <= set(gets)
    blobs = [path for path in gets if "/blobs/" in path]
    assert len(blobs) == len(set(blobs))


@pytest.mark.slow
def test_push_without_receipt_reads_no_blob_back(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    mirror("push", stock, registry.host)
    assert registry.count("GET", "/blobs/") == 0


def test_dry_run_writes_no_receipt(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    mirror("push", stock, registry.host, "--receipt", "receipt.json", "--dry-run")
    assert ". is a directory" in mirror("push", stock, registry.host, "--receipt", ".", code=1).err
    assert {path.name for path in mirror.folder.iterdir()} == {"home"}


# Pushes that fail


def fault(registry: EmbeddedRegistry, path: str, *action: Any) -> None:
    registry.fault(Fault(method="GET", path=path, times=None, action=action))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "code"), [(Flip(5), 3), (Status(404), 3), (Status(403), 1), (Status(500), 1), (Cut(100), 1)]
)
def test_push_with_receipt_fails_if_a_blob_is_not_read_back_correctly(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path, action: Any, code: int
) -> None:
    """The response to HEAD or to the upload has confirmed that the registry has the blob."""
    fault(registry, f"/first/blobs/{SHARED.digest}", action)
    result = mirror("push", stock, registry.host, "--receipt", "receipt.json", "--retries", 0, code=code)
    assert SHARED.digest in result.err
    assert "read back" in result.err
    assert result.out == ""
    assert {path.name for path in mirror.folder.iterdir()} == {"home"}


@pytest.mark.slow
def test_failed_push_keeps_the_previous_receipt(mirror: Mirror, pushed: EmbeddedRegistry, stock: Path) -> None:
    before = read(mirror)
    fault(pushed, f"/first/blobs/{SHARED.digest}", Flip(5))
    mirror("push", stock, pushed.host, "--receipt", "receipt.json", code=3)
    assert read(mirror) == before


@pytest.mark.slow
def test_receipt_lists_images_that_failed(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    fault(registry, f"/first/blobs/{SHARED.digest}", Flip(5))
    result = mirror("push", stock, registry.host, "--receipt", "receipt.json", "--keep-going", code=4)
    assert result.lines == [f"{registry.host}/second:v2@{SECOND.root}"]
    first, second = read(mirror)["images"]
    assert "read back" in first["error"]
    assert first["content"] == []
    assert second["error"] is None
    assert second["content"]


@pytest.mark.parametrize("name", ["no/such/directory/r.json", "home", "link", "fifo"])
def test_receipt_that_cannot_be_written_stops_the_push_before_any_request(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path, name: str
) -> None:
    (mirror.folder / "link").symlink_to("elsewhere")
    os.mkfifo(mirror.folder / "fifo")
    result = mirror("push", stock, registry.host, "--receipt", name, code=1)
    assert (str(Path(name).parent) if "/" in name else name) in result.err
    assert registry.requests == []
    assert not (mirror.folder / "elsewhere").exists()


def test_refused_push_creates_no_receipt(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    mirror("push", stock, registry.host, "nothing", "--receipt", "receipt.json", code=2)
    registry.fault(Fault(method="POST", times=None, action=Status(403)))
    mirror("push", stock, registry.host, "--receipt", "receipt.json", code=1)
    assert {path.name for path in mirror.folder.iterdir()} == {"home"}


# Verification of the registry


def verify(mirror: Mirror, code: int, *flags: object) -> Json:
    return mirror("verify", "--receipt", "receipt.json", "--retries", 0, "--json", *flags, code=code).json


def findings(document: Json) -> set[tuple[str, str, str]]:
    return {(found["kind"], found["severity"], found["subject"]) for found in document["findings"]}


@pytest.mark.slow
def test_registry_with_all_content_is_ok(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    document = verify(mirror, 0)
    assert (document["verdict"], document["findings"]) == ("ok", [])
    assert {image["digest"] for image in document["images"]} == {FIRST.root, SECOND.root}
    assert {seen.method for seen in pushed.requests} == {"GET"}
    text = mirror("verify", "--receipt", "receipt.json")
    assert f"ok      {pushed.host}/first:v1@{FIRST.root}" in text.out


@pytest.mark.slow
def test_changed_blob_is_found(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    pushed.replace_blob(SHARED.digest, bytes(SHARED.size))
    document = verify(mirror, 3)
    assert document["verdict"] == "not ok"
    assert findings(document) == {("corrupt", "error", SHARED.digest)}
    assert len(document["findings"]) == 2  # in each repository


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kind"), [(2999, "too-short"), (3001, "too-long")])
def test_blob_of_another_size_is_found(mirror: Mirror, pushed: EmbeddedRegistry, size: int, kind: str) -> None:
    pushed.replace_blob(SHARED.digest, bytes(size))
    assert findings(verify(mirror, 3)) == {(kind, "error", SHARED.digest)}


@pytest.mark.slow
def test_missing_blob_is_found_with_the_affected_images(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    pushed.remove_blob("first", SHARED.digest)
    document = verify(mirror, 3)
    assert findings(document) == {("missing", "error", SHARED.digest)}
    assert [found["images"] for found in document["findings"]] == [[f"{pushed.host}/first:v1"]]


@pytest.mark.slow
def test_moved_tag_is_found(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    SECOND.publish(pushed, "first", "v1")
    document = verify(mirror, 3)
    (found,) = document["findings"]
    assert (found["kind"], found["expected"], found["found"]) == ("moved", FIRST.root, SECOND.root)
    text = mirror("verify", "--receipt", "receipt.json", code=3).out
    assert FIRST.root in text
    assert SECOND.root in text
    assert f"not ok  {pushed.host}/first:v1" in text


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403, 500, 429])
def test_error_response_for_a_blob_means_could_not_check(mirror: Mirror, pushed: EmbeddedRegistry, status: int) -> None:
    fault(pushed, f"/blobs/{SHARED.digest}", Status(status, (("Retry-After", "0"),)))
    document = verify(mirror, 1)
    assert document["verdict"] == "could not check"
    assert findings(document) == {("unreadable", "unverified", SHARED.digest)}


@pytest.mark.slow
def test_unreachable_registry_means_could_not_check(mirror: Mirror, stock: Path) -> None:
    with serving(EmbeddedRegistry()) as gone:
        host = gone.host
        mirror("push", stock, host, "--receipt", "receipt.json")
    document = verify(mirror, 1)
    assert (document["verdict"], document["size"]) == ("could not check", 0)
    assert [(found["severity"], found["images"]) for found in document["findings"]] == [
        ("unverified", [f"{host}/first:v1"]),
        ("unverified", [f"{host}/second:v2"]),
    ]
    assert all("Is it running" in found["hint"] for found in document["findings"])


@pytest.mark.slow
def test_request_is_retried_after_a_temporary_fault(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    pushed.fault(Fault(method="GET", path=f"/blobs/{SHARED.digest}", action=Cut(10)))
    assert mirror("verify", "--receipt", "receipt.json", "--json").json["verdict"] == "ok"
    assert pushed.count("GET", f"/blobs/{SHARED.digest}") == 3  # once for each repository, and the one that was cut


@pytest.mark.slow
def test_images_that_were_not_pushed_are_not_requested_and_not_ok(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path
) -> None:
    registry.fault(Fault(method="PUT", path="/first/manifests/v1", times=None, action=Status(400)))
    mirror("push", stock, registry.host, "--receipt", "receipt.json", "--keep-going", code=4)
    registry.clear_log()
    document = verify(mirror, 3)
    assert registry.count("GET", "/first/") == 0
    verdicts = {image["digest"]: image["verdict"] for image in document["images"]}
    assert verdicts == {FIRST.root: "not ok", SECOND.root: "ok"}
    (found,) = document["findings"]
    assert findings(document) == {("not-pushed", "error", f"{registry.host}/first:v1")}
    assert "answered 400" in found["found"]
    assert "Push it again" in found["hint"]


@pytest.mark.slow
def test_receipt_of_only_failed_images_is_checked_without_requests(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    changed(mirror, lambda receipt: [image.update(error="it did not", content=[]) for image in receipt["images"]])
    document = verify(mirror, 3)
    assert {found["kind"] for found in document["findings"]} == {"not-pushed"}
    assert pushed.requests == []


# Hints and counts


@pytest.mark.slow
def test_only_hashed_bytes_are_counted(mirror: Mirror, pushed: EmbeddedRegistry, stock: Path) -> None:
    whole = verify(mirror, 0)
    assert whole["size"] == sum(piece["size"] for image in read(mirror)["images"] for piece in image["content"])
    pushed.remove_blob("first", SHARED.digest)
    found = verify(mirror, 3)
    assert (found["size"], found["files"]) == (whole["size"] - SHARED.size, whole["files"])
    pushed.replace_blob(SHARED.digest, bytes(SHARED.size))  # is hashed although it is wrong
    assert verify(mirror, 3)["size"] == found["size"]
    fault(pushed, "/", Status(401))
    assert "Content: 2 images, 0 files, 0 B hashed" in mirror("verify", "--receipt", "receipt.json", code=1).err


@pytest.mark.slow
def test_corrupt_blob_is_reported_with_its_digest_and_a_hint_to_delete_it(
    mirror: Mirror, pushed: EmbeddedRegistry
) -> None:
    wrong = bytes(SHARED.size)
    pushed.replace_blob(SHARED.digest, wrong)
    for found in verify(mirror, 3)["findings"]:
        assert (found["expected"], found["found"]) == (SHARED.digest, images.digest_of(wrong))
        assert re.search("administrator delete it.*push the image again", found["hint"])
    shown = mirror("verify", "--receipt", "receipt.json", code=3).out
    assert f"content hashes to {images.digest_of(wrong)}" in shown


@pytest.mark.slow
def test_hint_for_missing_content_is_to_push_again(mirror: Mirror, pushed: EmbeddedRegistry, stock: Path) -> None:
    pushed.remove_blob("first", SHARED.digest)
    pushed.remove_manifest("second", SECOND.root)
    hints = {found["hint"] for found in verify(mirror, 3)["findings"]}
    assert hints == {"Push the image again from its layout."}
    mirror("push", stock, pushed.host)
    verify(mirror, 0)


@pytest.mark.slow
def test_wrong_size_is_reported_in_bytes(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    pushed.replace_blob(SHARED.digest, bytes(2999))
    assert {found["found"] for found in verify(mirror, 3)["findings"]} == {"2999 bytes"}


@pytest.mark.slow
def test_tag_with_corrupt_content_is_reported_as_moved(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    fault(pushed, "/first/manifests/v1", Flip(0))
    (found,) = verify(mirror, 3)["findings"]
    assert (found["kind"], found["subject"], found["expected"]) == ("moved", "v1", FIRST.root)


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 403])
def test_refusal_by_the_registry_is_one_finding_per_image(
    mirror: Mirror, pushed: EmbeddedRegistry, status: int
) -> None:
    fault(pushed, "/", Status(status))
    document = verify(mirror, 1)
    assert [(found["kind"], found["subject"]) for found in document["findings"]] == [
        ("unreadable", "v1"),
        ("unreadable", "v2"),
    ]
    assert all("mirror login" in found["hint"] for found in document["findings"])
    assert {image["verdict"] for image in document["images"]} == {"could not check"}
    assert pushed.count("GET", "/blobs/") == 0


@pytest.mark.slow
def test_other_images_are_checked_if_one_is_refused(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    fault(pushed, "/first/manifests/v1", Status(403))
    pushed.replace_blob(SHARED.digest, bytes(SHARED.size))
    document = verify(mirror, 3)
    assert findings(document) == {("unreadable", "unverified", "v1"), ("corrupt", "error", SHARED.digest)}
    assert pushed.count("GET", "/first/blobs/") == 0


@pytest.mark.slow
def test_unreachable_blob_storage_is_one_finding(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    fault(pushed, "/first/blobs/", Redirect("http://127.0.0.1:1/x"))
    document = verify(mirror, 1, "--jobs", 4)
    assert [found["images"] for found in document["findings"]] == [[f"{pushed.host}/first:v1"]]
    assert {image["verdict"] for image in document["images"]} == {"could not check", "ok"}


@pytest.mark.slow
def test_hints_of_different_causes_are_all_shown(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    fault(pushed, f"/first/blobs/{SHARED.digest}", Status(403))
    fault(pushed, f"/first/manifests/{FIRST.root}", Status(500))
    text = mirror("verify", "--receipt", "receipt.json", "--retries", 0, code=1).out
    assert "mirror login" in text
    assert "log says why" in text


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--level", "structure"], ["--level", "content"], ["--sample", "1/7"]])
def test_options_for_partial_verification_are_refused_with_a_receipt(
    mirror: Mirror, pushed: EmbeddedRegistry, flags: list[str]
) -> None:
    assert flags[0] in mirror("verify", "--receipt", "receipt.json", *flags, code=2).err
    assert pushed.requests == []


# Invalid receipts


def test_layout_and_receipt_are_not_verified_together(mirror: Mirror, stock: Path) -> None:
    assert "--receipt" in mirror("verify", stock, "--receipt", "x", code=2).err


def changed(mirror: Mirror, change: Any) -> None:
    receipt = read(mirror)
    change(receipt)
    (mirror.folder / "receipt.json").write_text(json.dumps(receipt))


def tagged(**fields: object) -> Json:
    return {"tag": "x", "digest": FIRST.root, **fields}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt.update(schema="mirror.receipt/2"),
        lambda receipt: receipt.pop("images"),
        lambda receipt: receipt.update(images=[]),
        lambda receipt: receipt.update(images=[1]),
        lambda receipt: receipt["images"][0].update(registry="a b"),
        lambda receipt: receipt["images"][0].update(registry=None),
        lambda receipt: receipt["images"][0].update(repository="../x"),
        lambda receipt: receipt["images"][0].update(tag="a/b"),
        lambda receipt: receipt["images"][0].update(digest="sha256:1"),
        lambda receipt: receipt["images"][0].update(content=[]),
        lambda receipt: receipt["images"][0].update(content=None),
        lambda receipt: receipt["images"][0]["content"].append(1),
        lambda receipt: receipt["images"][0]["content"][0].update(size=-1),
        lambda receipt: receipt["images"][0]["content"][0].update(digest="sha256:../../x"),
        lambda receipt: receipt["images"][0].update(referrers=[1]),
        lambda receipt: receipt["images"][0].update(referrers={"tags": {}}),
        lambda receipt: receipt["images"][0].update(referrers={"tags": [1]}),
        lambda receipt: receipt["images"][0].update(referrers={"tags": [{"tag": "../x", "digest": FIRST.root}]}),
        lambda receipt: receipt["images"][0].update(referrers={"tags": [{"tag": "x", "digest": "sha256:1"}]}),
        lambda receipt: receipt["images"][0].update(referrers={"tags": [tagged(members=["x"])]}),
        lambda receipt: receipt["images"][0].update(referrers={"tags": [tagged(members="x")]}),
    ],
)
def test_receipt_with_an_invalid_field_is_refused(mirror: Mirror, pushed: EmbeddedRegistry, change: Any) -> None:
    changed(mirror, change)
    assert "receipt.json" in mirror("verify", "--receipt", "receipt.json", code=3).err
    assert pushed.requests == []


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"schema": NaN}', b"[" * 100_000])
def test_file_that_is_not_a_receipt_is_refused(mirror: Mirror, data: bytes) -> None:
    (mirror.folder / "receipt.json").write_bytes(data)
    assert mirror("verify", "--receipt", "receipt.json", code=3).err.startswith("error: receipt.json")


@pytest.mark.slow
def test_unknown_fields_of_a_receipt_are_ignored(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    changed(mirror, lambda receipt: (receipt.update(more=1), receipt["images"][0].update(more=[2])))
    assert verify(mirror, 0)["verdict"] == "ok"


# With --keep-going


@pytest.fixture
def layout(stock: Path, tmp_path: Path) -> Path:
    """A copy of the stock that a test may damage."""
    shutil.copytree(stock, tmp_path / "layout")
    return tmp_path / "layout"


def test_damaged_image_does_not_stop_the_others(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    blob_path(layout, FIRST.root).unlink()
    result = mirror("push", layout, registry.host, "--keep-going", "--json", code=4)
    first, second = result.json["images"]
    assert FIRST.root.partition(":")[2] in first["error"]
    assert second["error"] is None
    assert registry.tags("second") == {"v2": SECOND.root}
    assert "1 of 2 images failed" in result.err
    assert FIRST.root.partition(":")[2] in result.err


@pytest.mark.slow
@pytest.mark.parametrize("request_line", ["POST /first/", "PUT /first/manifests/", "GET /first/"])
def test_image_that_the_registry_refuses_does_not_stop_the_others(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path, request_line: str
) -> None:
    method, path = request_line.split()
    registry.fault(Fault(method=method, path=path, times=None, action=Status(403)))
    result = mirror("push", stock, registry.host, "--keep-going", code=4)
    assert result.lines == [f"{registry.host}/second:v2@{SECOND.root}"]
    assert "first:v1: " in result.err
    assert registry.tags("second") == {"v2": SECOND.root}


def test_keep_going_returns_the_error_code_if_all_images_fail(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    for image in (FIRST, SECOND):
        blob_path(layout, image.root).unlink()
    assert mirror("push", layout, registry.host, "--keep-going", code=3).out == ""


def test_push_without_keep_going_stops_at_the_first_error(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    before = tree(layout)
    blob_path(layout, FIRST.root).unlink()
    mirror("push", layout, registry.host, code=3)
    assert registry.tags("second") == {}
    assert tree(layout).keys() < before.keys()


# Names


def test_dry_run_shows_the_target_of_each_image(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    result = mirror("push", stock, registry.host, "--map", "second=other", "--prefix", "p", "--dry-run")
    host = registry.host
    names = mirror("ls", stock, "--json").json["images"]
    assert result.lines == [
        f"{names[0]['name']} -> {host}/p/first:v1@{FIRST.root}",
        f"{names[1]['name']} -> {host}/p/other:v2@{SECOND.root}",
    ]
    assert registry.tags("p/other") == {}


@pytest.mark.slow
def test_images_are_pushed_under_the_names_given_by_options(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path
) -> None:
    mirror("push", stock, registry.host, "--map", "first=team/a", "--strip-prefix", "x", "--prefix", "p")
    mirror("push", stock, f"{registry.host}/q", "v2", "--as", "b:stable")
    assert registry.tags("p/team/a") == {"v1": FIRST.root}
    assert registry.tags("p/second") == {"v2": SECOND.root}
    assert registry.tags("q/b") == {"stable": SECOND.root}


@pytest.mark.parametrize("flags", [["--as", "x"], ["--as", "A", "v1"], ["--map", "x"], ["--prefix", "A"]])
def test_invalid_names_are_refused(mirror: Mirror, registry: EmbeddedRegistry, stock: Path, flags: list[str]) -> None:
    mirror("push", stock, registry.host, *flags, code=2)
    assert registry.requests == []


@pytest.mark.slow
def test_images_with_the_same_target_are_refused(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    with serving(EmbeddedRegistry()) as source:
        for repo, image in (("one/app", FIRST), ("two/app", SECOND)):
            image.publish(source, repo, "v1")
        mirror("pull", f"{source.host}/one/app:v1", f"{source.host}/two/app:v1", "--all")
    result = mirror("push", "layout", registry.host, "--map", "one=x", "--map", "two=x", code=2)
    assert f"{registry.host}/x/app:v1" in result.err
    assert registry.requests == []
