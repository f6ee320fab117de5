"""Receipts: what was pushed is read back, every byte; and the registry can be checked against that later."""

import json
import os
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mirror import __version__
from tests import images
from tests.command import Json, Mirror, blob_path, tree
from tests.registry import Cut, EmbeddedRegistry, Fault, Flip, Status, serving

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
    """A registry with both images, and `receipt.json` about them."""
    mirror("push", stock, registry.host, "--receipt", "receipt.json")
    registry.clear_log()
    return registry


def read(mirror: Mirror, name: str = "receipt.json") -> Json:
    found: Json = json.loads((mirror.folder / name).read_bytes())
    return found


# What it says


def test_receipt_lists_everything_by_its_digest(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
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


def test_receipt_says_what_each_piece_is(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    kinds = {piece["digest"]: piece["kind"] for piece in read(mirror)["images"][0]["content"]}
    assert kinds[FIRST.root] == "index"
    assert kinds[SHARED.digest] == "layer"
    assert sorted(kinds.values()).count("config") == sorted(kinds.values()).count("manifest") == 2


def test_receipt_says_when_and_by_what(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    receipt = read(mirror)
    assert receipt["schema"] == "mirror.receipt/1"
    assert receipt["tool"] == {"name": "oci-mirror", "version": __version__}
    times = [receipt["started"], receipt["finished"]]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time) for time in times)
    started, finished = (datetime.fromisoformat(time) for time in times)
    assert timedelta() <= finished - started < timedelta(minutes=2)


def test_every_byte_is_read_back_once_for_a_receipt(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    mirror("push", stock, registry.host, "--receipt", "receipt.json")
    gets = [seen.path for seen in registry.requests if seen.method == "GET"]
    for repo, image in (("first", FIRST), ("second", SECOND)):
        assert {f"/v2/{repo}/blobs/{digest}" for digest in image.blobs} <= set(gets)
        assert {f"/v2/{repo}/manifests/{digest}" for digest in image.manifests} <= set(gets)
    blobs = [path for path in gets if "/blobs/" in path]
    assert len(blobs) == len(set(blobs))


def test_without_a_receipt_no_blob_is_read_back(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    mirror("push", stock, registry.host)
    assert registry.count("GET", "/blobs/") == 0


def test_dry_run_writes_no_receipt(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    mirror("push", stock, registry.host, "--receipt", "receipt.json", "--dry-run")
    assert ". is a directory" in mirror("push", stock, registry.host, "--receipt", ".", code=1).err
    assert {path.name for path in mirror.folder.iterdir()} == {"home"}


# What it is never written for


def fault(registry: EmbeddedRegistry, path: str, *action: Any) -> None:
    registry.fault(Fault(method="GET", path=path, times=None, action=action))


@pytest.mark.parametrize(
    ("action", "code"), [(Flip(5), 3), (Status(404), 3), (Status(403), 1), (Status(500), 1), (Cut(100), 1)]
)
def test_blob_that_cannot_be_read_back_right_is_no_success(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path, action: Any, code: int
) -> None:
    """The registry has said by HEAD, or by its answer to the upload, that it has the blob."""
    fault(registry, f"/first/blobs/{SHARED.digest}", action)
    result = mirror("push", stock, registry.host, "--receipt", "receipt.json", "--retries", 0, code=code)
    assert SHARED.digest in result.err
    assert "read back" in result.err
    assert result.out == ""
    assert {path.name for path in mirror.folder.iterdir()} == {"home"}


def test_receipt_of_before_stays_where_a_push_fails(mirror: Mirror, pushed: EmbeddedRegistry, stock: Path) -> None:
    before = read(mirror)
    fault(pushed, f"/first/blobs/{SHARED.digest}", Flip(5))
    mirror("push", stock, pushed.host, "--receipt", "receipt.json", code=3)
    assert read(mirror) == before


def test_images_that_fail_are_listed_too(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    fault(registry, f"/first/blobs/{SHARED.digest}", Flip(5))
    result = mirror("push", stock, registry.host, "--receipt", "receipt.json", "--keep-going", code=4)
    assert result.lines == [f"{registry.host}/second:v2@{SECOND.root}"]
    first, second = read(mirror)["images"]
    assert "read back" in first["error"]
    assert first["content"] == []
    assert second["error"] is None
    assert second["content"]


@pytest.mark.parametrize("name", ["no/such/folder/r.json", "home", "link", "fifo"])
def test_receipt_that_cannot_be_written_is_found_out_before_anything_moves(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path, name: str
) -> None:
    (mirror.folder / "link").symlink_to("elsewhere")
    os.mkfifo(mirror.folder / "fifo")
    result = mirror("push", stock, registry.host, "--receipt", name, code=1)
    assert (str(Path(name).parent) if "/" in name else name) in result.err
    assert registry.requests == []
    assert not (mirror.folder / "elsewhere").exists()


def test_receipt_of_a_push_that_is_refused_leaves_nothing_behind(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path
) -> None:
    mirror("push", stock, registry.host, "nothing", "--receipt", "receipt.json", code=2)
    registry.fault(Fault(method="POST", times=None, action=Status(403)))
    mirror("push", stock, registry.host, "--receipt", "receipt.json", code=1)
    assert {path.name for path in mirror.folder.iterdir()} == {"home"}


# The registry, checked against it


def verify(mirror: Mirror, code: int, *flags: object) -> Json:
    return mirror("verify", "--receipt", "receipt.json", "--retries", 0, "--json", *flags, code=code).json


def findings(document: Json) -> set[tuple[str, str, str]]:
    return {(found["kind"], found["severity"], found["subject"]) for found in document["findings"]}


def test_registry_that_has_it_all_is_ok(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    document = verify(mirror, 0)
    assert (document["verdict"], document["findings"]) == ("ok", [])
    assert {image["digest"] for image in document["images"]} == {FIRST.root, SECOND.root}
    assert {seen.method for seen in pushed.requests} == {"GET"}
    text = mirror("verify", "--receipt", "receipt.json")
    assert f"ok      {pushed.host}/first:v1@{FIRST.root}" in text.out


def test_blob_that_has_changed_is_found(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    pushed.replace_blob(SHARED.digest, bytes(SHARED.size))
    document = verify(mirror, 3)
    assert document["verdict"] == "not ok"
    assert findings(document) == {("corrupt", "error", SHARED.digest)}
    assert len(document["findings"]) == 2  # in each repository


@pytest.mark.parametrize(("size", "kind"), [(2999, "too-short"), (3001, "too-long")])
def test_blob_of_another_size_is_found(mirror: Mirror, pushed: EmbeddedRegistry, size: int, kind: str) -> None:
    pushed.replace_blob(SHARED.digest, bytes(size))
    assert findings(verify(mirror, 3)) == {(kind, "error", SHARED.digest)}


def test_blob_that_is_gone_is_found_and_whom_it_hurts(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    pushed.remove_blob("first", SHARED.digest)
    document = verify(mirror, 3)
    assert findings(document) == {("missing", "error", SHARED.digest)}
    assert [found["images"] for found in document["findings"]] == [[f"{pushed.host}/first:v1"]]


def test_tag_that_has_moved_is_found(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    SECOND.publish(pushed, "first", "v1")
    document = verify(mirror, 3)
    (found,) = document["findings"]
    assert (found["kind"], found["expected"], found["found"]) == ("moved", FIRST.root, SECOND.root)
    text = mirror("verify", "--receipt", "receipt.json", code=3).out
    assert FIRST.root in text
    assert SECOND.root in text
    assert f"not ok  {pushed.host}/first:v1" in text


@pytest.mark.parametrize("status", [401, 403, 500, 429])
def test_registry_that_does_not_say_could_not_be_checked(mirror: Mirror, pushed: EmbeddedRegistry, status: int) -> None:
    fault(pushed, f"/blobs/{SHARED.digest}", Status(status, (("Retry-After", "0"),)))
    document = verify(mirror, 1)
    assert document["verdict"] == "could not check"
    assert findings(document) == {("unreadable", "unverified", SHARED.digest)}


def test_registry_that_is_away_could_not_be_checked(mirror: Mirror, stock: Path) -> None:
    with serving(EmbeddedRegistry()) as gone:
        mirror("push", stock, gone.host, "--receipt", "receipt.json")
    document = verify(mirror, 1)
    assert document["verdict"] == "could not check"
    assert {found["severity"] for found in document["findings"]} == {"unverified"}


def test_passing_fault_is_tried_again(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    pushed.fault(Fault(method="GET", path=f"/blobs/{SHARED.digest}", action=Cut(10)))
    mirror("verify", "--receipt", "receipt.json")


def test_images_that_have_failed_are_not_looked_for(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    registry.fault(Fault(method="PUT", path="/first/manifests/v1", times=None, action=Status(400)))
    mirror("push", stock, registry.host, "--receipt", "receipt.json", "--keep-going", code=4)
    assert [image["digest"] for image in verify(mirror, 0)["images"]] == [SECOND.root]


# Receipts that are none


def test_layout_and_receipt_are_not_verified_together(mirror: Mirror, stock: Path) -> None:
    assert "--receipt" in mirror("verify", stock, "--receipt", "x", code=2).err
    assert "--receipt" in mirror("verify", code=2).err


def test_receipt_that_is_not_there_is_said(mirror: Mirror) -> None:
    assert "There is no file" in mirror("verify", "--receipt", "x.json", code=2).err


def changed(mirror: Mirror, change: Any) -> None:
    receipt = read(mirror)
    change(receipt)
    (mirror.folder / "receipt.json").write_text(json.dumps(receipt))


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
    ],
)
def test_receipt_that_is_broken_is_refused_in_words(mirror: Mirror, pushed: EmbeddedRegistry, change: Any) -> None:
    changed(mirror, change)
    assert "receipt.json" in mirror("verify", "--receipt", "receipt.json", code=3).err
    assert pushed.requests == []


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"schema": NaN}', b"[" * 100_000])
def test_receipt_that_is_no_receipt_is_refused_in_words(mirror: Mirror, data: bytes) -> None:
    (mirror.folder / "receipt.json").write_bytes(data)
    mirror("verify", "--receipt", "receipt.json", code=3)


def test_fields_that_nobody_knows_change_nothing(mirror: Mirror, pushed: EmbeddedRegistry) -> None:
    changed(mirror, lambda receipt: (receipt.update(more=1), receipt["images"][0].update(more=[2])))
    verify(mirror, 0)


# With --keep-going


@pytest.fixture
def layout(stock: Path, tmp_path: Path) -> Path:
    """A copy of the stock that a test may damage."""
    shutil.copytree(stock, tmp_path / "layout")
    return tmp_path / "layout"


def test_image_that_is_broken_fails_alone(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    blob_path(layout, FIRST.root).unlink()
    result = mirror("push", layout, registry.host, "--keep-going", "--json", code=4)
    first, second = result.json["images"]
    assert FIRST.root.partition(":")[2] in first["error"]
    assert second["error"] is None
    assert registry.tags("second") == {"v2": SECOND.root}
    assert "1 of 2 images failed" in result.err
    assert FIRST.root.partition(":")[2] in result.err


@pytest.mark.parametrize("request_line", ["HEAD /first/", "POST /first/", "PUT /first/manifests/", "GET /first/"])
def test_image_that_the_registry_refuses_fails_alone(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path, request_line: str
) -> None:
    method, path = request_line.split()
    registry.fault(Fault(method=method, path=path, times=None, action=Status(403)))
    result = mirror("push", stock, registry.host, "--keep-going", code=4)
    assert result.lines == [f"{registry.host}/second:v2@{SECOND.root}"]
    assert "first:v1: " in result.err
    assert registry.tags("second") == {"v2": SECOND.root}


def test_where_all_fail_the_first_failure_is_the_result(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    for image in (FIRST, SECOND):
        blob_path(layout, image.root).unlink()
    assert mirror("push", layout, registry.host, "--keep-going", code=3).out == ""


def test_without_it_nothing_goes_on(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    before = tree(layout)
    blob_path(layout, FIRST.root).unlink()
    mirror("push", layout, registry.host, code=3)
    assert registry.tags("second") == {}
    assert tree(layout).keys() < before.keys()


# Names


def test_dry_run_shows_where_each_image_goes(mirror: Mirror, registry: EmbeddedRegistry, stock: Path) -> None:
    result = mirror("push", stock, registry.host, "--map", "second=other", "--prefix", "p", "--dry-run")
    host = registry.host
    names = mirror("ls", stock, "--json").json["images"]
    assert result.lines == [
        f"{names[0]['name']} -> {host}/p/first:v1@{FIRST.root}",
        f"{names[1]['name']} -> {host}/p/other:v2@{SECOND.root}",
    ]
    assert registry.tags("p/other") == {}


def test_images_arrive_under_the_names_that_they_were_given(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path
) -> None:
    mirror("push", stock, registry.host, "--map", "first=team/a", "--strip-prefix", "x", "--prefix", "p")
    mirror("push", stock, f"{registry.host}/q", "v2", "--as", "b:stable")
    assert registry.tags("p/team/a") == {"v1": FIRST.root}
    assert registry.tags("p/second") == {"v2": SECOND.root}
    assert registry.tags("q/b") == {"stable": SECOND.root}


@pytest.mark.parametrize("flags", [["--as", "x"], ["--as", "A", "v1"], ["--map", "x"], ["--prefix", "A"]])
def test_names_that_are_none_are_refused(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path, flags: list[str]
) -> None:
    mirror("push", stock, registry.host, *flags, code=2)
    assert registry.requests == []


def test_images_that_would_land_on_one_name_are_refused(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Path
) -> None:
    with serving(EmbeddedRegistry()) as source:
        for repo, image in (("one/app", FIRST), ("two/app", SECOND)):
            image.publish(source, repo, "v1")
        mirror("pull", f"{source.host}/one/app:v1", f"{source.host}/two/app:v1", "--all")
    result = mirror("push", "layout", registry.host, "--map", "one=x", "--map", "two=x", code=2)
    assert f"{registry.host}/x/app:v1" in result.err
    assert registry.requests == []
