"""Tests of `mirror verify` with every kind of damage to every kind of content."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import images, layouts
from tests.support.command import Json, Mirror, blob_path, tree
from tests.support.images import Image
from tests.support.registry import EmbeddedRegistry, serving

SHARED = images.layer(1, 900)
TWIN = images.layer(2, 900)
FIRST = images.index([images.image("linux/amd64", SHARED, TWIN), images.image("linux/arm64", images.layer(3, 200))])
SECOND = images.image("linux/amd64", images.layer(4, 300), SHARED)
CHILD = next(iter(FIRST.manifests))
CONFIG = str(json.loads(FIRST.manifests[CHILD][0])["config"]["digest"])
NODES = {"index": FIRST.root, "manifest": CHILD, "config": CONFIG, "layer": TWIN.digest, "shared": SHARED.digest}


@dataclass(frozen=True)
class Stock:
    """An undamaged layout with two images, and their names."""

    folder: Path
    first: str
    second: str


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        FIRST.publish(registry, "first", "v1")
        SECOND.publish(registry, "second", "v1")
        names = f"{registry.host}/first:v1", f"{registry.host}/second:v1"
        Mirror(folder)("pull", *names, "--all")
    return Stock(folder / "layout", *names)


@pytest.fixture
def layout(stock: Stock, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(stock.folder, tmp_path / "layout")
    return tmp_path / "layout"


# Damages


def delete(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(part: float) -> Callable[[Path], None]:
    """Return a function that flips a bit of the first byte (0), the last byte (1) or a byte between."""

    def flip_at(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(part * (len(data) - 1))] ^= 0x10
        path.write_bytes(data)

    return flip_at


def link(path: Path) -> None:
    """Move the file elsewhere, and link to it."""
    outside = path.parents[3] / "outside"
    path.rename(outside)
    path.symlink_to(outside)


def dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def listening(path: Path) -> None:
    """Bind a socket from inside its directory, because its path has at most 107 characters."""
    path.unlink()
    here = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def forbid(path: Path) -> None:
    path.chmod(0)


DAMAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "delete": (delete, "missing", "error"),
    "shorten": (shorten, "too-short", "error"),
    "lengthen": (lengthen, "too-long", "error"),
    "empty": (empty, "too-short", "error"),
    "first bit": (flip(0), "corrupt", "error"),
    "middle bit": (flip(0.5), "corrupt", "error"),
    "last bit": (flip(1), "corrupt", "error"),
    "link": (link, "not-a-file", "error"),
    "dangling link": (dangling_link, "not-a-file", "error"),
    "loop": (loop, "not-a-file", "error"),
    "directory": (directory, "not-a-file", "error"),
    "fifo": (fifo, "not-a-file", "error"),
    "socket": (listening, "not-a-file", "error"),
    "unreadable": (forbid, "unreadable", "unverified"),
}
EXITS = {"error": 3, "unverified": 1}


@pytest.mark.slow
@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(mirror: Mirror, stock: Stock, layout: Path, damage: str, node: str) -> None:
    how, kind, severity = DAMAGES[damage]
    how(blob_path(layout, NODES[node]))
    report = mirror("verify", "layout", "--json", code=EXITS[severity], bound=how is forbid).json
    assert report["schema"] == "mirror.verify/1"
    assert report["verdict"] == {"error": "not ok", "unverified": "could not check"}[severity]
    (finding,) = serious(report)
    assert (finding["kind"], finding["severity"], finding["subject"]) == (kind, severity, NODES[node])
    assert set(finding["images"]) == ({stock.first, stock.second} if node == "shared" else {stock.first})
    assert finding["size"] == size_of(NODES[node])
    assert finding["expected"] != finding["found"]


def serious(report: Json) -> list[Json]:
    """Findings that are more than warnings."""
    return [finding for finding in report["findings"] if finding["severity"] != "warning"]


def size_of(digest: str) -> int:
    contents = {**FIRST.blobs, **{name: data for name, (data, _) in FIRST.manifests.items()}}
    return len(contents[digest])


def kinds(report: Json) -> list[tuple[str, str]]:
    return [(finding["kind"], finding["subject"]) for finding in report["findings"]]


def test_undamaged_layout_is_ok(mirror: Mirror, stock: Stock) -> None:
    report = mirror("verify", stock.folder, "--json").json
    assert (report["verdict"], report["findings"]) == ("ok", [])
    assert report["files"] == len({*FIRST.blobs, *SECOND.blobs}) + len(FIRST.manifests) + 1
    contents = {**FIRST.blobs, **SECOND.blobs, SECOND.root: SECOND.data}
    contents |= {name: data for name, (data, _) in FIRST.manifests.items()}
    assert report["size"] == sum(map(len, contents.values()))
    first, second = report["images"]
    assert (first["name"], first["digest"]) == (stock.first, FIRST.root)
    assert first["platforms"] == ["linux/amd64", "linux/arm64"]
    assert first["blobs"] == len(FIRST.blobs)
    assert first["size"] == sum(map(len, FIRST.blobs.values()))
    assert second["name"] == stock.second


def line_about(lines: list[str], text: str) -> str:
    """The only line with this text."""
    (found,) = [line for line in lines if text in line]
    return found


def test_text_output_has_one_line_per_image(mirror: Mirror, stock: Stock) -> None:
    result = mirror("verify", stock.folder)
    assert len(result.lines) == 2
    assert "ok" in line_about(result.lines, f"{stock.first}@{FIRST.root}").split()
    assert "ok" in line_about(result.lines, f"{stock.second}@{SECOND.root}").split()
    assert "2 images" in result.err


def test_text_output_describes_the_finding(mirror: Mirror, stock: Stock, layout: Path) -> None:
    flip(0)(blob_path(layout, TWIN.digest))
    result = mirror("verify", "layout", code=3)
    found = images.digest_of(blob_path(layout, TWIN.digest).read_bytes())
    assert TWIN.digest in line_about(result.lines, "corrupt")
    assert f"content hashes to {found}" in result.out
    assert "not ok" in line_about(result.lines, f"{stock.first}@{FIRST.root}")
    assert "not ok" not in line_about(result.lines, f"{stock.second}@{SECOND.root}")
    assert "1 error" in result.err


def test_quiet_prints_nothing_to_stderr(mirror: Mirror, stock: Stock) -> None:
    assert mirror("verify", stock.folder, "-q").err == ""


def test_all_damages_are_found_in_one_run(mirror: Mirror, layout: Path) -> None:
    delete(blob_path(layout, CONFIG))
    shorten(blob_path(layout, TWIN.digest))
    flip(0)(blob_path(layout, SHARED.digest))
    (layout / "oci-layout").write_text("{}")
    assert set(kinds(mirror("verify", "layout", "--json", code=3).json)) == {
        ("missing", CONFIG),
        ("too-short", TWIN.digest),
        ("corrupt", SHARED.digest),
        ("broken-layout", "oci-layout"),
    }


def test_swapped_blobs_are_both_corrupt(mirror: Mirror, layout: Path) -> None:
    one, other = blob_path(layout, TWIN.digest), blob_path(layout, SHARED.digest)
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    found = kinds(mirror("verify", "layout", "--json", code=3).json)
    assert set(found) == {("corrupt", TWIN.digest), ("corrupt", SHARED.digest)}


@pytest.mark.slow
def test_error_has_priority_over_content_that_could_not_be_checked(mirror: Mirror, layout: Path) -> None:
    forbid(blob_path(layout, TWIN.digest))
    flip(0)(blob_path(layout, CONFIG))
    found = mirror("verify", "layout", "--json", code=3, bound=True).json["findings"]
    assert {(one["severity"], one["subject"]) for one in found} == {("unverified", TWIN.digest), ("error", CONFIG)}


def test_content_of_a_missing_index_is_reported_as_orphans(mirror: Mirror, layout: Path) -> None:
    delete(blob_path(layout, FIRST.root))
    report = mirror("verify", "layout", "--json", code=3).json
    orphans = {subject for kind, subject in kinds(report) if kind == "orphan"}
    assert orphans == {*FIRST.blobs, *FIRST.manifests} - {FIRST.root, *SECOND.blobs}


def test_verify_of_one_image_ignores_damage_to_others(mirror: Mirror, stock: Stock, layout: Path) -> None:
    flip(0)(blob_path(layout, TWIN.digest))
    assert mirror("verify", "layout", stock.second, "--json").json["findings"] == []
    mirror("verify", "layout", stock.first, code=3)
    mirror("verify", "layout", stock.first, stock.second, code=3)


def test_error_for_an_unknown_image_lists_the_images_of_the_layout(mirror: Mirror, stock: Stock) -> None:
    assert stock.second in mirror("verify", stock.folder, "nothing", code=2).err


def test_verify_changes_nothing(mirror: Mirror, layout: Path) -> None:
    for digest, damage in zip(NODES.values(), (delete, shorten, link, directory, empty), strict=True):
        damage(blob_path(layout, digest))
    shutil.rmtree(layout / ".mirror")
    before = tree(layout), sorted(os.listdir(layout))
    mirror("verify", "layout", code=3)
    assert (tree(layout), sorted(os.listdir(layout))) == before


# Unreferenced files


def add(layout: Path, name: str, data: bytes = b"orphan") -> None:
    path = layout / "blobs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


ORPHAN = images.digest_of(b"orphan")
HEX = ORPHAN.removeprefix("sha256:")

STRANGERS: dict[str, tuple[str, str, str, str]] = {
    "an orphan": (f"sha256/{HEX}", "orphan", "warning", ORPHAN),
    "a corrupt orphan": (f"sha256/{'0' * 64}", "corrupt", "error", f"sha256:{'0' * 64}"),
    "a sha512 orphan": (f"sha512/{'1' * 128}", "corrupt", "error", f"sha512:{'1' * 128}"),
    "an unknown algorithm": ("blake3/abc", "unhashable", "unverified", "blake3:abc"),
    "an upper-case name": (f"sha256/{HEX.upper()}", "bad-name", "error", f"blobs/sha256/{HEX.upper()}"),
    "a short name": ("sha256/abc", "stray", "warning", "blobs/sha256/abc"),
    "a stray file": ("sha256/notes.txt", "stray", "warning", "blobs/sha256/notes.txt"),
    "a hidden file": (f"sha256/.{HEX}.part", "stray", "warning", f"blobs/sha256/.{HEX}.part"),
    "a file beside the algorithms": ("notes.txt", "stray", "warning", "blobs/notes.txt"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_unreferenced_file_is_found(mirror: Mirror, layout: Path, stranger: str) -> None:
    name, kind, severity, subject = STRANGERS[stranger]
    add(layout, name)
    code = {"warning": 0, **EXITS}[severity]
    (finding,) = mirror("verify", "layout", "--json", code=code).json["findings"]
    assert (finding["kind"], finding["severity"], finding["subject"]) == (kind, severity, subject)
    assert finding["images"] == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["link", "directory", "fifo", "socket", "unreadable"])
def test_damaged_orphan_is_found(mirror: Mirror, layout: Path, damage: str) -> None:
    how, kind, severity = DAMAGES[damage]
    add(layout, f"sha256/{HEX}")
    how(blob_path(layout, ORPHAN))
    assert kinds(mirror("verify", "layout", "--json", code=EXITS[severity], bound=True).json) == [(kind, ORPHAN)]


@pytest.mark.parametrize("command", ["rm", "prune"])
def test_leftover_is_a_warning_until_a_command_writes_to_the_layout(
    mirror: Mirror, layout: Path, stock: Stock, command: str
) -> None:
    (layout / ".mirror/tmp/half").write_text("half")
    found = mirror("verify", "layout", "--json").json
    assert kinds(found) == [("leftover", ".mirror/tmp/half")]
    assert found["findings"][0]["message"] == "temporary file of a running or interrupted command"
    assert found["findings"][0]["hint"] == "Harmless: the next command that writes to the layout removes it."
    mirror(command, "layout", {"rm": stock.second, "prune": "--delete"}[command])
    assert kinds(mirror("verify", "layout", "--json").json) == []


def test_other_files_in_the_directory_of_the_layout_are_ignored(mirror: Mirror, layout: Path) -> None:
    (layout / "README").write_text("hello")
    (layout / "ingest").mkdir()
    assert mirror("verify", "layout", "--json").json["findings"] == []


# Unusual images


Contents = dict[str, bytes]


def make(layout: Path, *roots: Image, contents: Contents | None = None, annotations: Json | None = None) -> None:
    """Write a layout as another tool does, with images and their content."""
    for root in roots:
        for digest, data in {**root.blobs, **{name: data for name, (data, _) in root.manifests.items()}}.items():
            add(layout, digest.replace(":", "/"), data)
    for digest, data in (contents or {}).items():
        add(layout, digest.replace(":", "/"), data)
    entries = [{**root.descriptor(), "annotations": annotations or {}} for root in roots]
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def rooted(document: Json, media_type: str = images.OCI_MANIFEST) -> Image:
    data = images.encode({"schemaVersion": 2, "mediaType": media_type, **document})
    root = images.digest_of(data)
    return Image(root, media_type, {root: (data, media_type)}, {images.EMPTY.digest: images.EMPTY.data})


def test_dangling_subject_is_a_warning(mirror: Mirror, tmp_path: Path) -> None:
    subject = {"mediaType": images.OCI_MANIFEST, "digest": images.digest_of(b"gone"), "size": 4}
    signature = images.artifact("application/x", images.layer(1, 100), subject=subject)
    make(tmp_path / "layout", signature)
    (finding,) = mirror("verify", "layout", "--json").json["findings"]
    assert (finding["kind"], finding["severity"], finding["subject"]) == (
        "dangling-subject",
        "warning",
        signature.root,
    )


def test_missing_foreign_layer_is_a_warning(mirror: Mirror, tmp_path: Path) -> None:
    layer = {**images.layer(1, 100).descriptor(), "urls": ["http://127.0.0.1:9/"]}
    layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    make(tmp_path / "layout", rooted({"config": images.EMPTY.descriptor(), "layers": [layer]}))
    report = mirror("verify", "layout", "--json").json
    assert kinds(report) == [("absent", layer["digest"])]
    assert report["findings"][0]["message"] == "a foreign layer, which is not kept here (100 bytes)"


def test_stored_foreign_layer_is_hashed(mirror: Mirror, tmp_path: Path) -> None:
    layer = images.layer(1, 100).descriptor(urls=["http://127.0.0.1:9/"])
    layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    image = rooted({"config": images.EMPTY.descriptor(), "layers": [layer]})
    make(tmp_path / "layout", image, contents={layer["digest"]: bytes(100)})
    assert kinds(mirror("verify", "layout", "--json", code=3).json) == [("corrupt", layer["digest"])]


def with_layer(digest: str, size: int = 6) -> Image:
    layer = {"mediaType": "text/plain", "digest": digest, "size": size}
    return rooted({"config": images.EMPTY.descriptor(), "layers": [layer]})


def test_sha512_blob_is_hashed(mirror: Mirror, tmp_path: Path) -> None:
    digest = EmbeddedRegistry().put_blob("a", b"orphan", "sha512")
    make(tmp_path / "layout", with_layer(digest), contents={digest: b"orphan"})
    assert mirror("verify", "layout", "--json").json["findings"] == []
    flip(0)(blob_path(tmp_path / "layout", digest))
    assert kinds(mirror("verify", "layout", "--json", code=3).json) == [("corrupt", digest)]


@pytest.mark.parametrize(("there", "kind", "code"), [(True, "unhashable", 1), (False, "missing", 3)])
def test_unknown_algorithm_is_never_ok(mirror: Mirror, tmp_path: Path, there: bool, kind: str, code: int) -> None:
    digest = "blake3:" + "a" * 64
    make(tmp_path / "layout", with_layer(digest), contents={digest: b"orphan"} if there else {})
    assert kinds(mirror("verify", "layout", "--json", code=code).json) == [(kind, digest)]


@pytest.mark.parametrize(
    "document",
    [
        {"config": images.EMPTY.descriptor(), "layers": "none"},
        {"config": images.EMPTY.descriptor(), "layers": [{"digest": "sha256:../../x", "size": 1}]},
        {"config": {**images.EMPTY.descriptor(), "data": "W10="}, "layers": []},
        {"config": {**images.EMPTY.descriptor(), "size": -1}, "layers": []},
        {"layers": []},
        {"config": images.EMPTY.descriptor(), "manifests": []},
        {"config": images.EMPTY.descriptor(), "Layers": []},
    ],
)
def test_broken_manifest_with_a_correct_digest_is_found(mirror: Mirror, tmp_path: Path, document: Json) -> None:
    image = rooted(document)
    make(tmp_path / "layout", image)
    report = mirror("verify", "layout", "--json", code=3).json
    assert [(item["kind"], item["subject"]) for item in serious(report)] == [("broken-manifest", image.root)]


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{" * 100_000, b" " * (5 << 20)], ids=len)
def test_root_that_is_not_a_manifest_is_found(mirror: Mirror, tmp_path: Path, data: bytes) -> None:
    root = images.digest_of(data)
    make(tmp_path / "layout", Image(root, images.OCI_MANIFEST, {root: (data, images.OCI_MANIFEST)}, {}))
    assert kinds(mirror("verify", "layout", "--json", code=3).json) == [("broken-manifest", root)]


def test_root_of_an_unknown_type_is_hashed_with_a_warning(mirror: Mirror, tmp_path: Path) -> None:
    root = images.digest_of(b"what?")
    make(tmp_path / "layout", Image(root, "text/plain", {root: (b"what?", "text/plain")}, {}))
    assert kinds(mirror("verify", "layout", "--json").json) == [("unknown-type", root)]
    flip(0)(blob_path(tmp_path / "layout", root))
    mirror("verify", "layout", code=3)


def test_two_sizes_of_one_digest_are_found(mirror: Mirror, tmp_path: Path) -> None:
    digest = images.digest_of(b"orphan")
    make(tmp_path / "layout", with_layer(digest, 6), with_layer(digest, 7), contents={digest: b"orphan"})
    assert ("size-conflict", digest) in kinds(mirror("verify", "layout", "--json", code=3).json)


# Names of images


def set_names(layout: Path, position: int, **annotations: str) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    keys = {"name": "io.containerd.image.name", "ref": "org.opencontainers.image.ref.name"}
    named = {keys[key]: text for key, text in annotations.items()}
    index["manifests"][position]["annotations"] = named
    (layout / "index.json").write_text(json.dumps(index))


def test_one_full_name_for_two_images_is_an_error(mirror: Mirror, layout: Path) -> None:
    set_names(layout, 0, name="docker.io/library/a:v1", ref="v1")
    set_names(layout, 1, name="docker.io/library/a:v1", ref="v1")
    report = mirror("verify", "layout", "--json", code=3).json
    assert [(item["kind"], item["subject"]) for item in serious(report)] == [
        ("name-conflict", "docker.io/library/a:v1")
    ]


def test_one_bare_tag_for_two_images_is_a_warning(mirror: Mirror, layout: Path) -> None:
    set_names(layout, 0, ref="v1")
    set_names(layout, 1, ref="v1")
    assert kinds(mirror("verify", "layout", "--json").json) == [("ambiguous-name", "v1")]


def test_one_tag_of_two_repositories_is_a_warning(mirror: Mirror, layout: Path) -> None:
    set_names(layout, 0, name="docker.io/library/a:v1", ref="v1")
    set_names(layout, 1, name="docker.io/library/b:v1", ref="v1")
    assert kinds(mirror("verify", "layout", "--json").json) == [("ambiguous-name", "v1")]


def test_image_without_a_name_is_named_by_its_digest(mirror: Mirror, layout: Path) -> None:
    set_names(layout, 0)
    assert mirror("verify", "layout", "--json").json["images"][0]["name"] == FIRST.root
    mirror("verify", "layout", FIRST.root)


# Sparse images


@pytest.fixture
def sparse(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> Path:
    """A sparse layout with only the platform linux/amd64 of FIRST."""
    FIRST.publish(registry, "first", "v1")
    mirror("pull", f"{registry.host}/first:v1", "--platform", "linux/amd64", "--sparse")
    return tmp_path / "layout"


@pytest.mark.slow
def test_omitted_child_of_a_sparse_image_is_not_an_error(mirror: Mirror, sparse: Path) -> None:
    report = mirror("verify", sparse, "--json").json
    assert {finding["severity"] for finding in report["findings"]} <= {"warning"}
    assert report["images"][0]["platforms"] == ["linux/amd64"]


@pytest.mark.slow
@pytest.mark.parametrize("node", ["index", "manifest", "config", "layer"])
def test_missing_content_of_a_sparse_image_is_an_error(mirror: Mirror, sparse: Path, node: str) -> None:
    delete(blob_path(sparse, NODES[node]))
    report = mirror("verify", sparse, "--json", code=3).json
    assert [(item["kind"], item["subject"]) for item in serious(report)] == [("missing", NODES[node])]


@pytest.mark.slow
def test_missing_child_without_the_sparse_annotation_is_an_error(mirror: Mirror, sparse: Path) -> None:
    entries = json.loads((sparse / "index.json").read_text())
    annotations = entries["manifests"][0]["annotations"]
    del annotations[next(name for name in annotations if name.startswith("dev.oci-mirror.") and "origin" not in name)]
    (sparse / "index.json").write_text(json.dumps(entries))
    missing = [child for child in FIRST.manifests if child not in (CHILD, FIRST.root)]
    assert kinds(mirror("verify", sparse, "--json", code=3).json) == [("missing", missing[0])]


# The seed: the manifests of a real image, without its blobs

RECORD = {
    "manifest-list.json": images.DOCKER_LIST,
    "manifest-linux-amd64.json": images.DOCKER_MANIFEST,
    "manifest-linux-arm-v7.json": images.DOCKER_MANIFEST,
}


def test_all_missing_blobs_of_the_seed_are_reported(mirror: Mirror, tmp_path: Path) -> None:
    files: dict[str, Any] = {name: (images.RECORD / name).read_bytes() for name in RECORD}
    listed = files["manifest-list.json"]
    manifests = {images.digest_of(data): (data, RECORD[name]) for name, data in files.items()}
    root = "sha256:dbc6a7ed5f218f9d08d94f8c0731b36c69c4a69d2bd649c9359f7650d1b66154"
    assert images.digest_of(listed) == root
    name = "docker.io/library/redis:4.0"
    make(
        tmp_path / "layout",
        Image(root, images.DOCKER_LIST, manifests, {}),
        annotations={"io.containerd.image.name": name},
    )
    nodes = [json.loads(data) for data, media_type in manifests.values() if media_type == images.DOCKER_MANIFEST]
    wanted = {node["digest"]: node["size"] for each in nodes for node in (each["config"], *each["layers"])}
    assert (len(wanted), sum(wanted.values())) == (14, 74_540_576)
    report = mirror("verify", "layout", "--json", code=3).json
    assert {finding["subject"]: finding["size"] for finding in report["findings"]} == wanted
    assert {(item["kind"], item["severity"], *item["images"]) for item in report["findings"]} == {
        ("missing", "error", name)
    }
    result = mirror("verify", "layout", "-v", code=3)
    assert all(any(digest in line for line in result.lines) for digest in wanted)
    assert "74540576 bytes" in result.out
    assert "14 errors" in result.err


# Repair by a pull


@pytest.mark.slow
def test_second_pull_repairs_every_kind_of_damage(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    hows = [how for how, _, severity in DAMAGES.values() if severity == "error"]
    image = images.image("linux/amd64", *(images.layer(seed, 400) for seed in range(len(hows))))
    image.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    before = tree(tmp_path / "layout")
    layers = [node["digest"] for node in json.loads(image.data)["layers"]]
    for digest, how in zip(layers, hows, strict=True):
        how(blob_path(tmp_path / "layout", digest))
    assert len(serious(mirror("verify", "layout", "--json", code=3).json)) == len(hows)
    healed = mirror("pull", f"{registry.host}/a:v1", "--all", "--json").json["healed"]
    assert sorted(healed) == sorted(layers)
    assert mirror("verify", "layout", "--json").json["findings"] == []
    now = tree(tmp_path / "layout")
    assert {name: now.get(name) for name in before} == before


@pytest.mark.parametrize("name", ["x\x1b[31m", "x\u202e", "x\nok  fake@sha256:0"])
def test_name_with_unprintable_characters_is_an_error(mirror: Mirror, tmp_path: Path, name: str) -> None:
    layouts.write(tmp_path / "layout", FIRST, ref=name)
    result = mirror("verify", "layout", "--json", code=3)
    assert [(one["kind"], one["severity"]) for one in result.json["findings"]] == [("bad-name", "error")]
    assert mirror("verify", "layout", code=3).out.isascii()


@pytest.mark.slow
def test_locations_in_the_syntax_of_skopeo_are_accepted(mirror: Mirror, tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", FIRST, name="quay.io/a/b:v1")
    mirror("export", "layout", "x.tar")
    for place in ("oci:layout", "oci:layout:v1", "oci-archive:x.tar", "oci-archive:x.tar:v1"):
        assert f"quay.io/a/b:v1@{FIRST.root}" in mirror("verify", place).out
    assert "no image 'v2'" in mirror("verify", "oci:layout:v2", code=2).err
